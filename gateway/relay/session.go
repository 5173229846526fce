package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// session is the life of one connection, from accept to its record.
func (e *Engine) session(client *net.TCPConn, peer netip.AddrPort, start time.Time) {
	defer e.sessions.Done()
	record := table.Record{Start: start, Client: peer, Peer: peer}
	greeting, refused := e.receive(client, &record)
	counted := peer
	if refused == nil && record.Client != peer {
		if refused = e.enter(record.Client, peer); refused == nil {
			counted = record.Client
		} else {
			greeting.free()
		}
	}
	defer e.leaveNetwork(counted, peer)
	if refused == nil {
		refused = e.relay(client, greeting, &record)
	}
	if refused != nil {
		record.Reason, record.Detail, record.Alert = refused.Reason, refused.Detail, uint8(refused.Alert)
		e.refuse(client, refused.Alert)
	}
	e.finish(&record)
}

// greeting is a hello that was received whole.
type greeting struct {
	bytes  net.Buffers
	folded [hello.MaxName]byte
	length int
	// free gives back the memory for long hellos that it counts for.
	free func()
}

func (g *greeting) name() []byte { return g.folded[:g.length] }

// receive reads the hello.
func (e *Engine) receive(client *net.TCPConn, record *table.Record) (*greeting, *engine.Refusal) {
	in := &engine.Intake{}
	in.Begin(&e.cfg, &e.memory, record.Peer)
	r, err := newReader(client, client)
	if err != nil {
		return nil, readRefusal(in, err)
	}
	// The deadline first: whoever is sent away has his replaced.
	_ = client.SetReadDeadline(time.Now().Add(e.cfg.HelloTimeout))
	place := &waiter{conn: client}
	e.waiting.enter(place)
	refused := readHello(in, &r)
	switch sentAway := e.waiting.leave(place); {
	case errors.Is(sentAway, errDrained):
		refused = &engine.Refusal{Reason: table.ReasonDrained}
	case sentAway != nil && refused != nil:
		refused = &engine.Refusal{Reason: table.ReasonHalfOpenLimit, Detail: sentAway.Error()}
	}
	if source := in.Source(); source.IsValid() {
		record.Client = source
	}
	record.SNI = in.ServerName()
	if refused != nil {
		in.Release()
		return nil, refused
	}
	_ = client.SetReadDeadline(time.Time{})
	g := &greeting{bytes: in.Kept(), free: in.Release}
	g.length = len(in.AppendFolded(g.folded[:0]))
	return g, nil
}

// relay looks the name up, connects and moves bytes until the end.
func (e *Engine) relay(client *net.TCPConn, g *greeting, record *table.Record) *engine.Refusal {
	defer g.free()
	t := e.cfg.Table()
	record.Routes, record.Basis = t.Routes, t.Basis
	route := t.Lookup(g.name())
	if route == nil {
		return &engine.Refusal{Reason: table.ReasonUnknownName, Alert: hello.UnrecognizedName}
	}
	record.Route = route.Name
	refused := e.cfg.Admit(route, t.Settings)
	defer engine.Leave(route)
	if refused != nil {
		return refused
	}
	endpoint, upstream, refused := e.connect(route, t.Settings, record)
	if refused != nil {
		return refused
	}
	record.Endpoint = endpoint.Name
	keepAlive(client, engine.Probing(nil, e.cfg.Random()))
	unpace(client, upstream, route, e.cfg.CongestionControl)
	g.free()
	for _, c := range [2]*table.Counters{route.Counters, &endpoint.Counters} {
		c.Connections.Add(1)
		c.Open.Add(1)
		defer c.Open.Add(-1)
	}
	result := join(e.cutContext, client, upstream, g.bytes, e.cfg.IdleTimeout, []Count{
		{&e.counts.BytesIn, &e.counts.BytesOut},
		{&route.Counters.BytesIn, &route.Counters.BytesOut},
		{&endpoint.Counters.BytesIn, &endpoint.Counters.BytesOut},
	})
	record.BytesIn, record.BytesOut = result.In, result.Out
	record.Reason = reasonOf(result)
	if result.Broke != Neither {
		record.Detail = result.Err.Error()
	}
	return nil
}

func reasonOf(r Result) table.Reason {
	switch {
	case r.Broke == Client:
		return table.ReasonClientReset
	case r.Broke == Upstream:
		return table.ReasonEndpointReset
	case errors.Is(r.Err, errIdle):
		return table.ReasonIdle
	case r.Err != nil:
		return table.ReasonDrained
	}
	return table.ReasonDone
}

// connect tries endpoints of the route until one answers.
func (e *Engine) connect(route *table.Route, settings table.Settings, record *table.Record) (*table.Endpoint, Conn, *engine.Refusal) {
	choice := e.cfg.Choose(route, settings, time.Now())
	for endpoint := choice.Next(time.Now()); endpoint != nil; endpoint = choice.Next(time.Now()) {
		record.Attempts = choice.Attempts()
		conn, err := e.dialWithin(endpoint, choice.Budget())
		if err == nil {
			choice.Connected(endpoint)
			keepAlive(conn, e.cfg.Probing(route, settings))
			return endpoint, conn, nil
		}
		if e.cutContext.Err() != nil {
			return nil, nil, &engine.Refusal{Reason: table.ReasonDrained}
		}
		choice.Failed(endpoint, time.Now(), err, &e.counts)
	}
	return nil, nil, choice.Refusal()
}

func (e *Engine) dialWithin(endpoint *table.Endpoint, budget time.Duration) (Conn, error) {
	if err := e.own.Load().Check(endpoint.Address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(e.cutContext, budget)
	defer cancel()
	return dialTCP(ctx, endpoint.Address)
}

// dialer leaves the choice of the local port to connect(2). Dialer.DialTCP would
// bind first (go1.26), which takes a port from all endpoints at once: about
// 28,000 connections, counting those in TIME_WAIT, whatever their number. Probes are
// set once it is known what for.
var dialer = net.Dialer{KeepAlive: -1}

func dialTCP(ctx context.Context, address netip.AddrPort) (Conn, error) {
	c, err := dialer.DialContext(ctx, "tcp", address.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// keepAlive has an idle connection probed.
func keepAlive(conn Conn, k table.Keepalive) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: k.Idle, Interval: k.Interval, Count: k.Count})
	}
}

// unpace has the side of a connection that is in the own datacenter not be paced.
func unpace(client, upstream Conn, route *table.Route, algorithm string) {
	near := client
	if route.Near() {
		near = upstream
	}
	if tcp, ok := near.(*net.TCPConn); ok {
		engine.SetCongestionControl(tcp, algorithm)
	}
}

// refuse sends the alert, if there is one, lets the client read it, and closes.
func (e *Engine) refuse(client *net.TCPConn, alert hello.Alert) {
	defer func() { _ = client.Close() }()
	if alert == 0 || e.cutContext.Err() != nil {
		return
	}
	_ = client.SetDeadline(time.Now().Add(engine.LingerTime))
	record := alert.Record()
	if _, err := client.Write(record[:]); err != nil {
		return
	}
	_ = client.CloseWrite()
	r, err := newReader(client, client)
	for left := engine.LingerBytes; left > 0 && err == nil; {
		var block *[blockSize]byte
		var n int
		if block, n, err = r.read(); err == nil {
			blocks.Put(block)
			left -= n
		}
	}
}

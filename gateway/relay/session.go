package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// session is the life of one connection, from accept to its record.
func (e *Engine) session(client *net.TCPConn, start time.Time) {
	defer e.sessions.Done()
	peer := addrPort(client)
	record := table.Record{Start: start, Client: peer, Peer: peer}
	greeting, refused := e.receive(client, &record)
	if refused == nil {
		refused = e.relay(client, greeting, &record)
	}
	if refused != nil {
		record.Reason, record.Detail, record.Alert = refused.reason, refused.detail, uint8(refused.alert)
		e.refuse(client, refused.alert)
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
func (e *Engine) receive(client *net.TCPConn, record *table.Record) (*greeting, *refusal) {
	r, err := newReader(client, client)
	if err != nil {
		return nil, readRefusal(err)
	}
	in := &intake{engine: e, reader: r, parser: hello.New(e.cfg.Hello), proxied: e.mayProxy(record.Peer)}
	// The deadline first: whoever is sent away has his replaced.
	_ = client.SetReadDeadline(time.Now().Add(e.cfg.HelloTimeout))
	place := &waiter{conn: client}
	e.waiting.enter(place)
	refused := in.run()
	switch sentAway := e.waiting.leave(place); {
	case errors.Is(sentAway, errDrained):
		refused = &refusal{reason: table.ReasonDrained}
	case sentAway != nil && refused != nil:
		refused = &refusal{reason: table.ReasonHalfOpenLimit, detail: sentAway.Error()}
	}
	if in.source.IsValid() {
		record.Client = in.source
	}
	record.SNI = in.parser.ServerName()
	if refused != nil {
		in.release()
		return nil, refused
	}
	_ = client.SetReadDeadline(time.Time{})
	g := &greeting{bytes: in.kept, free: in.release}
	g.length = len(in.parser.AppendFolded(g.folded[:0]))
	return g, nil
}

func (e *Engine) mayProxy(peer netip.AddrPort) bool {
	return slices.ContainsFunc(e.cfg.ProxyNetworks, func(n netip.Prefix) bool { return n.Contains(peer.Addr()) })
}

// relay looks the name up, connects and moves bytes until the end.
func (e *Engine) relay(client *net.TCPConn, g *greeting, record *table.Record) *refusal {
	defer g.free()
	t := e.cfg.Table()
	record.Routes, record.Basis = t.Routes, t.Basis
	route := t.Lookup(g.name())
	if route == nil {
		return &refusal{reason: table.ReasonUnknownName, alert: hello.UnrecognizedName}
	}
	record.Route = route.Name
	busy := route.Counters.Busy.Add(1)
	defer route.Counters.Busy.Add(-1)
	if most := t.Settings.MaxConnections; most != nil && busy > int64(*most) {
		route.Counters.Failures.Add(1)
		return &refusal{reason: table.ReasonRouteLimit, detail: fmt.Sprintf("the route may have %d connections", *most), alert: hello.InternalError}
	}
	endpoint, upstream, refused := e.connect(route, t.Settings, record)
	if refused != nil {
		route.Counters.Failures.Add(1)
		return refused
	}
	record.Endpoint = endpoint.Name
	g.free()
	for _, c := range [2]*table.Counters{route.Counters, &endpoint.Counters} {
		c.Connections.Add(1)
		c.Open.Add(1)
		defer c.Open.Add(-1)
	}
	result := join(e.cutContext, client, upstream, g.bytes, []Count{
		{&e.bytesIn, &e.bytesOut},
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
	case r.Err != nil:
		return table.ReasonDrained
	}
	return table.ReasonDone
}

// connect tries endpoints of the route until one answers.
func (e *Engine) connect(route *table.Route, settings table.Settings, record *table.Record) (*table.Endpoint, Conn, *refusal) {
	set := route.Endpoints
	begin := e.cfg.Now()
	picker := set.Pick(e.cfg.Random(), begin)
	budget := cmp.Or(route.ConnectTimeout, e.cfg.ConnectTimeout, settings.ConnectTimeout, defaultConnectTimeout)
	var last error
	for record.Attempts < e.cfg.Attempts {
		endpoint := picker.Next()
		if endpoint == nil {
			break
		}
		record.Attempts++
		conn, err := e.dial(endpoint, budget)
		if err == nil {
			set.Connected(endpoint)
			if route.Wildcard && settings.Keepalive != nil {
				keepAlive(conn, settings.Keepalive)
			}
			return endpoint, conn, nil
		}
		if e.cutContext.Err() != nil {
			return nil, nil, &refusal{reason: table.ReasonDrained}
		}
		last = fmt.Errorf("%s: %w", endpoint.Name, err)
		e.connectFailures.Add(1)
		now := e.cfg.Now()
		if set.Failed(endpoint, now) {
			e.ejections.Add(1)
			e.cfg.Logger.Warn("endpoint ejected", "route", route.Name, "endpoint", endpoint.Name, "err", err)
		}
		if now.Sub(begin) >= budgets*budget {
			break
		}
	}
	if last == nil {
		return nil, nil, &refusal{reason: table.ReasonNoEndpoint, detail: whyNone(set), alert: hello.InternalError}
	}
	return nil, nil, &refusal{reason: table.ReasonConnectFailed, detail: last.Error(), alert: hello.InternalError}
}

// whyNone says why a set gave no endpoint. The set may have been filled since.
func whyNone(set *table.Set) string {
	if why := set.Why(); why != nil {
		return why.Error()
	}
	return table.ErrEmpty.Error()
}

func (e *Engine) dial(endpoint *table.Endpoint, budget time.Duration) (Conn, error) {
	if err := e.own.Load().check(endpoint.Address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(e.cutContext, budget)
	defer cancel()
	return e.cfg.Dial(ctx, endpoint.Address)
}

// keepAlive has an idle connection probed.
func keepAlive(conn Conn, k *table.Keepalive) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: k.Idle, Interval: k.Interval, Count: k.Count})
	}
}

const (
	// lingerTime and lingerBytes bound what is read from a client that was
	// refused. Bytes left unread would turn the close into a reset, which
	// overtakes the alert.
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// refuse sends the alert, if there is one, lets the client read it, and closes.
func (e *Engine) refuse(client *net.TCPConn, alert hello.Alert) {
	defer func() { _ = client.Close() }()
	if alert == 0 || e.cutContext.Err() != nil {
		return
	}
	_ = client.SetDeadline(time.Now().Add(lingerTime))
	record := alert.Record()
	if _, err := client.Write(record[:]); err != nil {
		return
	}
	_ = client.CloseWrite()
	r, err := newReader(client, client)
	for left := lingerBytes; left > 0 && err == nil; {
		var block *[blockSize]byte
		var n int
		if block, n, err = r.read(); err == nil {
			blocks.Put(block)
			left -= n
		}
	}
}

package sidecar

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/relay"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// handle serves one accepted connection to its end, and records it.
func (s *Sidecar) handle(ctx context.Context, conn relay.Conn, spec listenerSpec) {
	st := s.state.Load()
	r := &Record{
		Direction: Outbound, Start: time.Now(), Listener: spec.String(), Client: conn.RemoteAddr().String(),
		Route: spec.route, Routes: st.routes, Basis: st.basis,
	}
	var count *counters
	if spec.public() {
		r.Direction, r.Route = Inbound, st.view.Proxy.GetService().Qualified()
		count = st.inbound
	} else {
		count = s.counters.of(Outbound, spec.route)
	}
	defer s.finish(r, count)
	count.open.Add(1)
	defer count.open.Add(-1)
	defer s.open.Add(-1)
	if s.open.Add(1) > int64(s.cfg.MaxConnections) {
		r.Reason, r.Detail = ReasonConnectionLimit, "the sidecar's limit is "+strconv.Itoa(s.cfg.MaxConnections)
		abort(conn)
		return
	}
	if spec.public() {
		s.inbound(ctx, st, conn, r)
	} else {
		s.outbound(ctx, st, conn, r)
	}
}

func (s *Sidecar) finish(r *Record, count *counters) {
	r.Duration = time.Since(r.Start)
	count.end(r.Reason)
	if s.cfg.AccessLog != nil {
		r.Log(context.Background(), s.cfg.AccessLog)
	}
	if s.cfg.Access != nil {
		s.cfg.Access(*r)
	}
}

// outbound carries a connection of the application to its upstream.
func (s *Sidecar) outbound(ctx context.Context, st *state, conn relay.Conn, r *Record) {
	u := st.upstreams[r.Route]
	reason, detail := u.refuses(st)
	if reason != "" {
		r.Reason, r.Detail = reason, detail
		abort(conn)
		return
	}
	peer, err := s.connect(ctx, st, u, r)
	if err != nil {
		r.Detail = err.Error()
		abort(conn)
		return
	}
	r.end(relay.Join(ctx, conn, peer, u.count.bytes()))
}

// refuses says why no connection is made at all; the reason is empty when one
// may be.
func (u *upstream) refuses(st *state) (Reason, string) {
	switch {
	case u == nil:
		return ReasonUnsupported, "the route is not there any more"
	case st.outgoingProblem != nil:
		return ReasonUnsupported, st.outgoingProblem.GetText()
	case u.problem != nil:
		return ReasonUnsupported, u.problem.GetText()
	case u.none || u.limit > 0 && u.count.open.Load() > int64(u.limit):
		return ReasonConnectionLimit, fmt.Sprintf("the upstream's limit is %d", u.limit)
	}
	return "", ""
}

// inbound lets a caller in to the application.
func (s *Sidecar) inbound(ctx context.Context, st *state, conn relay.Conn, r *Record) {
	if st.incomingProblem != nil {
		r.Reason, r.Detail = ReasonUnsupported, st.incomingProblem.GetText()
		abort(conn)
		return
	}
	secure := tlsServer(conn, s.live.ServerConfig(st.incoming))
	if err := s.greet(ctx, secure); err != nil {
		r.Reason, r.Detail = ReasonHandshakeFailed, err.Error()
		s.closeInOrder(secure)
		return
	}
	r.SNI = secure.ConnectionState().ServerName
	caller, err := identity.PeerURI(secure.ConnectionState())
	if err != nil {
		r.Reason, r.Detail = ReasonIntentionDenied, err.Error()
		s.closeInOrder(secure)
		return
	}
	r.Peer = caller.String()
	decision := authorize(st.view.Inbound, caller)
	r.Intention = decision.Intention
	if !decision.Allowed {
		r.Reason, r.Detail = ReasonIntentionDenied, decision.Text
		s.closeInOrder(secure)
		return
	}
	if limit := st.view.Proxy.GetLocal().GetMaxInboundConnections(); limit > 0 && st.inbound.open.Load() > int64(limit) {
		r.Reason, r.Detail = ReasonConnectionLimit, fmt.Sprintf("the service's limit is %d", limit)
		abort(secure)
		return
	}
	application, err := s.application(ctx, st, r)
	if err != nil {
		r.Reason, r.Detail = ReasonConnectFailed, err.Error()
		abort(secure)
		return
	}
	r.end(relay.Join(ctx, secure, application, st.inbound.bytes()))
}

// greet completes the handshake, within its time.
func (s *Sidecar) greet(ctx context.Context, secure *tlsConn) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandshakeTimeout)
	defer cancel()
	return secure.HandshakeContext(ctx)
}

// application connects to the service itself.
func (s *Sidecar) application(ctx context.Context, st *state, r *Record) (relay.Conn, error) {
	network, address := applicationAddress(st.view.Proxy)
	ctx, cancel := context.WithTimeout(ctx, st.applicationTimeout())
	defer cancel()
	r.Attempts = 1
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		st.inbound.failures.Add(1)
		return nil, fmt.Errorf("the application did not answer: %w", err)
	}
	r.Endpoint = address
	return conn.(relay.Conn), nil
}

// applicationAddress is where the service listens for its proxy.
func applicationAddress(proxy *isthmusv1.ProxyRoutes) (network, address string) {
	if path := proxy.GetLocalServiceSocketPath(); path != "" {
		return "unix", path
	}
	host := proxy.GetLocalServiceAddress()
	if strings.TrimSpace(host) == "" {
		host = "127.0.0.1"
	}
	return "tcp", net.JoinHostPort(host, strconv.FormatUint(uint64(proxy.GetLocalServicePort()), 10))
}

// The bounds of an orderly close.
const (
	lingerTime  = time.Second
	lingerBytes = 64 << 10
)

// closeInOrder ends a refused connection so that its peer can read why: it says
// so, then takes in for a moment what the peer had already sent, since closing
// on unread bytes resets.
func (s *Sidecar) closeInOrder(secure *tlsConn) {
	_ = secure.below.SetDeadline(time.Now().Add(lingerTime))
	_ = secure.CloseWrite()
	_ = secure.below.CloseWrite()
	_, _ = io.CopyN(io.Discard, secure.below, lingerBytes)
	_ = secure.below.Close()
}

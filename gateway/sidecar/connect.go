package sidecar

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// connect joins the first endpoint of the upstream that answers as who it should
// be. Nothing of the application's has been sent before that, so trying the next
// one is safe. When none does, the record says why.
func (s *Sidecar) connect(ctx context.Context, st *state, u *upstream, r *Record) (relay.Conn, error) {
	next, stop := iter.Pull(u.choices(s.cfg.Random(), time.Now(), s.cfg.Attempts))
	defer stop()
	c, ok := next()
	if !ok {
		r.Reason = ReasonNoEndpoint
		return nil, errors.New(u.why())
	}
	var failures []string
	for ok {
		r.Target, r.Path, r.SNI = c.target.GetId(), c.target.GetPath(), c.target.GetSni()
		r.Attempts++
		following, more := next()
		budget := c.target.timeout
		if more {
			budget = min(budget, s.cfg.AttemptTimeout)
		}
		conn, err := dialEndpoint(ctx, s.live, st, c, budget)
		if err == nil {
			c.set.Connected(c.endpoint)
			r.Endpoint = c.endpoint.Name
			if uri, err := identity.PeerURI(conn.ConnectionState()); err == nil {
				r.Peer = uri.String()
			}
			return conn, nil
		}
		r.Reason = ReasonConnectFailed
		failures = append(failures, c.endpoint.Name+": "+err.Error())
		if ctx.Err() != nil || errors.Is(err, identity.ErrNone) {
			break // It says nothing of the endpoint.
		}
		u.count.failures.Add(1)
		c.set.Failed(c.endpoint, time.Now())
		c, ok = following, more
	}
	return nil, errors.New(strings.Join(failures, "; "))
}

// Errors of one attempt, by the hop that failed.
var (
	errDial      = errors.New("it did not answer")
	errHandshake = errors.New("its TLS handshake failed")
)

// dialEndpoint connects to one endpoint and checks who it is, within the budget.
func dialEndpoint(ctx context.Context, live *identity.Live, st *state, c choice, budget time.Duration) (*tlsConn, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.endpoint.Address.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDial, err)
	}
	config := live.ClientConfig(c.target.GetSni(), c.target.GetSpiffeIds(), st.outgoing)
	secure := tlsClient(conn.(relay.Conn), config)
	if err := secure.HandshakeContext(ctx); err != nil {
		abort(conn)
		return nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	return secure, nil
}

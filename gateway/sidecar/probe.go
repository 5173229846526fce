package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// Hop is a part of the way of a connection, as [Probe] names the one that fails.
type Hop string

// The hops, in the order in which a connection meets them.
const (
	// HopRoute: the proxy has no such upstream, or it takes more than layer 4.
	HopRoute Hop = "route"
	// HopEndpoint: no target has a live endpoint.
	HopEndpoint Hop = "endpoint"
	// HopDial: the endpoint, or the gateway that stands for it, does not answer.
	HopDial Hop = "dial"
	// HopName: a gateway on the way does not know the server name.
	HopName Hop = "name"
	// HopBehind: the gateway answers, but what it leads to does not.
	HopBehind Hop = "behind-gateway"
	// HopTLS: the handshake fails otherwise.
	HopTLS Hop = "tls"
	// HopPeer: the peer is not who it should be, or not trusted.
	HopPeer Hop = "peer"
	// HopClient: the peer does not trust this proxy's certificate.
	HopClient Hop = "client"
	// HopIntention: the peer closed right after the handshake: its intentions
	// deny.
	HopIntention Hop = "intention"
	// HopApplication: the peer broke the connection off: its application does not
	// answer.
	HopApplication Hop = "application"
)

// ProbeAttempt is one endpoint that was tried.
type ProbeAttempt struct {
	Target   string
	Path     isthmusv1.Path
	SNI      string
	Endpoint string
	// Failed is the hop that failed; empty when the connection stands.
	Failed Hop
	// Err is how it failed; nil when the connection stands.
	Err error
	// Took is how long connecting and the handshake took; 0 when they failed.
	Took time.Duration
	// Peer is who answered.
	Peer string
}

// ProbeResult is what a probe met.
type ProbeResult struct {
	Proxy    string
	Upstream string
	// Attempts in order; only the last one may have succeeded.
	Attempts []ProbeAttempt
	// Failed is the hop that failed in the end; empty when a connection stood.
	Failed Hop
	Err    error
	Routes *isthmusv1.Position
	Basis  *isthmusv1.Basis
}

// OK reports whether a connection stood.
func (r *ProbeResult) OK() bool { return r.Failed == "" }

// ProbeOptions bound a probe. The zero value is useful.
type ProbeOptions struct {
	// Attempts per target. 0: 3.
	Attempts int
	// Settle is how long a connection has to stand after its handshake, beside
	// four times what that took. 0: a second, since a peer that denies may be on a
	// busy machine.
	Settle time.Duration
}

// Probe makes the connection that the proxy of the view would make for an
// upstream (a route's id, like api@dc2), with the identity of live, and names
// the hop that fails. It sends nothing and closes in order.
//
// In TLS 1.3 the peer judges the caller last, so a connection counts only after
// it has stood for a while. An Envoy peer closes alike when its intentions deny
// and when its application refuses; the hop is then intention.
func Probe(ctx context.Context, view *View, live *identity.Live, upstreamID string, options ProbeOptions) *ProbeResult {
	r := &ProbeResult{Proxy: view.Name(), Upstream: upstreamID, Routes: view.Position, Basis: view.Basis}
	fail := func(hop Hop, err error) *ProbeResult {
		r.Failed, r.Err = hop, err
		return r
	}
	hosts := newHostTable(lookupHost)
	b := newBuilder(newCounterTable(), hosts.addresses)
	st := b.build(view)
	hosts.lookUp(ctx, b.hostNames())
	b.refill()
	u := st.upstreams[strings.ToLower(upstreamID)]
	if u == nil {
		return fail(HopRoute, fmt.Errorf("%s has no upstream %s; it has %s", view.Name(), upstreamID, upstreamList(view)))
	}
	if u.problem != nil {
		return fail(HopRoute, errors.New(u.problem.GetText()))
	}
	for c := range u.choices(randomNumber(), time.Now(), cmp.Or(options.Attempts, 3)) {
		a := probeEndpoint(ctx, live, st, c, cmp.Or(options.Settle, time.Second))
		r.Attempts = append(r.Attempts, a)
		if a.Failed == "" {
			return fail("", nil)
		}
		fail(a.Failed, a.Err)
		if !a.Failed.nextEndpoint() || ctx.Err() != nil {
			return r
		}
	}
	if len(r.Attempts) == 0 {
		return fail(HopEndpoint, errors.New(u.why()))
	}
	return r
}

// nextEndpoint reports whether the proxy would try another endpoint after this
// failure: as long as the handshake had not ended.
func (h Hop) nextEndpoint() bool {
	switch h {
	case HopDial, HopName, HopBehind, HopTLS, HopPeer:
		return true
	}
	return false
}

func upstreamList(v *View) string {
	var ids []string
	for _, b := range v.Proxy.GetBinds() {
		ids = append(ids, b.GetRoute())
	}
	if len(ids) == 0 {
		return "none"
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), ", ")
}

func probeEndpoint(ctx context.Context, live *identity.Live, st *state, c choice, settle time.Duration) ProbeAttempt {
	a := ProbeAttempt{
		Target: c.target.GetId(), Path: c.target.GetPath(), SNI: c.target.GetSni(), Endpoint: c.endpoint.Name,
	}
	start := time.Now()
	conn, err := dialEndpoint(ctx, live, st, c, c.target.timeout)
	took := time.Since(start)
	if err != nil {
		a.Failed = handshakeHop(err, c.target.GetPath())
		a.Err = fmt.Errorf("%s: %w", met(c.target, a.Failed), err)
		return a
	}
	a.Took = took
	if uri, err := identity.PeerURI(conn.ConnectionState()); err == nil {
		a.Peer = uri.String()
	}
	a.Failed, a.Err = verdict(conn, settle+4*took)
	if a.Failed == "" {
		_ = conn.Close()
	} else {
		a.Err = fmt.Errorf("%s: %w", met(c.target, a.Failed), a.Err)
		abort(conn)
	}
	return a
}

// met says who was met at the hop, for people.
func met(t *target, hop Hop) string {
	service, datacenter := t.GetService().Qualified(), t.GetDatacenter()
	gateway := ""
	switch t.GetPath() {
	case isthmusv1.Path_PATH_REMOTE_GATEWAY:
		gateway = "the gateway of " + datacenter
	case isthmusv1.Path_PATH_LOCAL_GATEWAY:
		gateway = "the own gateway"
	}
	switch hop {
	case HopDial, HopName:
		if gateway != "" {
			return gateway
		}
	case HopBehind:
		if t.GetPath() == isthmusv1.Path_PATH_REMOTE_GATEWAY {
			return gateway + " answers, but not the sidecar of " + service + " behind it"
		}
		return gateway + " answers, but not what is behind it: a gateway of " + datacenter + ", or the sidecar of " + service
	}
	return "the sidecar of " + service + " in " + datacenter
}

// handshakeHop names the hop at which an attempt failed. A gateway has one alert
// for whatever it cannot reach.
func handshakeHop(err error, path isthmusv1.Path) Hop {
	switch {
	case errors.Is(err, errDial):
		return HopDial
	case errors.Is(err, identity.ErrNone):
		return HopClient
	case errors.Is(err, identity.ErrPeerName), errors.Is(err, identity.ErrPeerUntrusted):
		return HopPeer
	}
	switch remoteAlert(err) {
	case "tls: unrecognized name":
		return HopName
	case "tls: internal error":
		if path == isthmusv1.Path_PATH_REMOTE_GATEWAY || path == isthmusv1.Path_PATH_LOCAL_GATEWAY {
			return HopBehind
		}
		return HopTLS
	case "":
		return HopTLS
	}
	return clientHop(err)
}

// clientHop is client where the peer's alert is about our certificate.
func clientHop(err error) Hop {
	switch remoteAlert(err) {
	case "tls: bad certificate", "tls: unsupported certificate", "tls: revoked certificate",
		"tls: expired certificate", "tls: unknown certificate", "tls: unknown certificate authority",
		"tls: access denied", "tls: certificate required":
		return HopClient
	}
	return HopTLS
}

// remoteAlert is the text of an alert that the peer sent; crypto/tls does not
// export its type.
func remoteAlert(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return op.Err.Error()
	}
	return ""
}

// verdict waits for the peer's last word on the connection: silence, or bytes of
// the application's, are a yes.
func verdict(conn *tlsConn, settle time.Duration) (Hop, error) {
	_ = conn.SetReadDeadline(time.Now().Add(settle))
	_, err := conn.Read(make([]byte, 1))
	switch {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		return "", nil
	case remoteAlert(err) != "":
		return clientHop(err), err
	case errors.Is(err, io.EOF):
		return HopIntention, errors.New("it closed the connection right after the handshake: its intentions deny this service")
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, errTruncated):
		return HopApplication, fmt.Errorf("it broke the connection off: its application does not answer: %w", err)
	}
	return HopApplication, err
}

// Probe is [Probe] for what the sidecar serves now.
func (s *Sidecar) Probe(ctx context.Context, upstreamID string, options ProbeOptions) (*ProbeResult, error) {
	st := s.state.Load()
	if st == nil {
		return nil, fmt.Errorf("%s: %w", s.cfg.Proxy, ErrNoProxy)
	}
	return Probe(ctx, st.view, s.live, upstreamID, options), nil
}

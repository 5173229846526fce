//go:build linux

package loop

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// record checks what is said of a connection that has ended.
func (w *world) record(r *table.Record) {
	w.records++
	mark := int(r.Peer.Port()) - 1000
	if mark < 0 || mark >= len(w.clients) || w.clients[mark].recorded {
		w.fail("there is a record more for %v", r.Peer)
	}
	c := w.clients[mark]
	c.recorded = true
	w.note("record of %s: %s %s, %d in %d out", c.ours.name, r.Reason, r.Detail, r.BytesIn, r.BytesOut)
	us, up := c.ours, c.upstream
	if us.fd >= 0 || up != nil && up.fd >= 0 {
		w.fail("%s is recorded before all is closed", us.name)
	}
	in, out := 0, 0
	if c.joined && r.Endpoint != "" {
		in, out = up.ledger.put, us.ledger.put
	}
	if r.BytesIn != uint64(in) || r.BytesOut != uint64(out) {
		w.fail("%s: %d bytes in, %d out, recorded are %d and %d", us.name, in, out, r.BytesIn, r.BytesOut)
	}
	if why := w.wrongReason(c, r); why != "" {
		w.fail("%s is recorded as %s (%s): %s", us.name, r.Reason, r.Detail, why)
	}
	if why := w.wrongDetails(c, r); why != "" {
		w.fail("the record of %s (%s) is wrong: %s: %+v", us.name, r.Reason, why, r)
	}
	w.census.reasons[r.Reason]++
	c.joined = c.joined && r.Endpoint != ""
}

// wrongReason is why a reason is not that of a connection; empty if it may be.
func (w *world) wrongReason(c *remote, r *table.Record) string {
	us, up := c.ours.ledger, ledger{}
	if c.upstream != nil {
		up = c.upstream.ledger
	}
	needs := func(is bool, what string) string {
		if is {
			return ""
		}
		return what
	}
	switch r.Reason {
	case table.ReasonDone:
		return needs(c.joined && us.ended && up.ended && us.shutAt > 0 && up.shutAt > 0, "it was not ended both ways")
	case table.ReasonClientReset:
		return needs(c.joined && us.broken() && up.reset, "the client did not fail, or the endpoint was not reset")
	case table.ReasonEndpointReset:
		return needs(c.joined && (up.broken() || us.broken()) && us.reset, "the endpoint did not fail, or the client was not reset")
	case table.ReasonIdle:
		idle := w.now - max(us.putAt, up.putAt)
		return needs(c.joined && us.reset && up.reset && w.cfg.IdleTimeout > 0 && idle >= int64(w.cfg.IdleTimeout*3/4), "it was not idle, or not reset")
	case table.ReasonDrained:
		return needs(w.cut && (!c.joined || us.reset && up.reset), "nothing was drained, or it was not reset")
	case table.ReasonClientLeft:
		return needs(!c.joined && !c.isWhole() && (us.ended || us.broken()), "it has not left")
	case table.ReasonUnused:
		return needs(!c.joined && (us.ended || us.broken()) && c.ours.taken == 0, "it has not left, or has said something")
	case table.ReasonConnectFailed, table.ReasonNoEndpoint:
		return needs((!c.joined || w.cfg.OpenAhead > 0) && c.kind == toService, "it was joined")
	case table.ReasonHelloTimeout:
		return needs(!c.isWhole() && w.cfg.HelloTimeout > 0 && !c.joined && w.now >= us.since+int64(w.cfg.HelloTimeout), "it had more time")
	case table.ReasonUnknownName:
		return needs(c.kind == toUnknown || w.table.Lookup([]byte(names[0])) == nil, "its name is known")
	case table.ReasonNotTLS:
		return needs(c.kind == notTLS, "it speaks TLS")
	case table.ReasonNoName:
		return needs(c.kind == withoutName, "it says a name")
	case table.ReasonHelloRefused:
		return needs(c.kind == malformed, "its hello is right")
	case table.ReasonProxyHeader:
		return needs(c.kind == badProxy, "its header is right")
	case table.ReasonHalfOpenLimit:
		return needs(!c.isWhole() && w.cfg.MaxHalfOpen == 1, "few wait")
	case table.ReasonHelloMemory:
		return needs(!c.joined && w.cfg.HelloFree == 64, "there is memory")
	case table.ReasonNetworkLimit:
		return needs(!c.joined && w.cfg.MaxPerNetwork == 1, "there is no limit")
	case table.ReasonRouteLimit:
		return needs(!c.joined && w.cfg.MaxPerRoute == 1, "there is no limit")
	case table.ReasonConnectionLimit:
		return needs(us.reset && w.cfg.MaxConnections == 2, "there are few")
	}
	return needs(!c.joined && c.kind == toService, "it is no such connection")
}

// broken reports whether a connection has to end for this end.
func (l *ledger) broken() bool { return l.failed || l.unwatched }

// isWhole reports whether the gateway has read the hello of a client for a service.
func (r *remote) isWhole() bool { return r.kind == toService && r.ours.taken >= len(r.end.out.head) }

// wrongDetails is what is wrong with what else a record says.
func (w *world) wrongDetails(c *remote, r *table.Record) string {
	us := c.ours.ledger
	source := r.Peer
	if c.end.out.skip > 0 && c.kind == toService && c.ours.taken >= len(c.end.out.head) {
		source = proxiedSource
	}
	joined := c.joined && r.Endpoint != ""
	switch {
	case us.shutAt > 0 && us.alert > 0 && r.Alert != us.code:
		return "another alert was sent"
	case r.Client != source && (c.isWhole() || c.end.out.skip == 0):
		return "the client is another"
	case joined && (r.SNI != c.name || r.Route == "" || r.Attempts < 1 || r.Attempts > table.MaxAttempts):
		return "it was joined"
	case joined && r.Endpoint != c.upstream.ledger.address.String():
		return "it was joined to another endpoint"
	case r.Duration < 0 || r.Start.UnixNano()+int64(r.Duration) != w.now:
		return "it ends now"
	}
	return ""
}

var proxiedSource = netip.MustParseAddrPort("192.0.2.1:1000")

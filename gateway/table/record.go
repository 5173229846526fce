package table

import (
	"net/netip"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Reason is why a connection ended, as it stands in records and metrics. There
// are no others, so it may be a label.
type Reason string

// The reasons.
const (
	// ReasonDone: both sides closed in order.
	ReasonDone Reason = "done"
	// ReasonClientReset, ReasonEndpointReset: that side broke the connection
	// off, and so the other was reset too.
	ReasonClientReset   Reason = "client_reset"
	ReasonEndpointReset Reason = "endpoint_reset"
	// ReasonIdle: nothing was moved for as long as the gateway allows.
	ReasonIdle Reason = "idle_timeout"
	// ReasonDrained: it was still open at the end of the drain.
	ReasonDrained Reason = "drained"

	// ReasonUnused: the client closed without a word, like a check that the port is
	// open, or a gateway that opens connections ahead. The access log has no line
	// of it.
	ReasonUnused Reason = "unused"
	// ReasonClientLeft: the client closed before its hello was whole.
	ReasonClientLeft Reason = "client_left"
	// ReasonHelloTimeout: the hello was not whole in time.
	ReasonHelloTimeout Reason = "hello_timeout"
	// ReasonHelloRefused: the hello breaks the rules of TLS or a limit.
	ReasonHelloRefused Reason = "hello_refused"
	// ReasonNotTLS: the first bytes are not TLS.
	ReasonNotTLS Reason = "not_tls"
	// ReasonProxyHeader: the PROXY protocol header is malformed.
	ReasonProxyHeader Reason = "proxy_header"
	// ReasonNoName: the hello names no server.
	ReasonNoName Reason = "no_name"
	// ReasonUnknownName: no route has the name.
	ReasonUnknownName Reason = "unknown_name"
	// ReasonNoEndpoint: the route has no live endpoint; Detail says why.
	ReasonNoEndpoint Reason = "no_endpoint"
	// ReasonConnectFailed: no endpoint that was tried answered.
	ReasonConnectFailed Reason = "connect_failed"
	// ReasonConnectionLimit: too many connections were open.
	ReasonConnectionLimit Reason = "connection_limit"
	// ReasonRouteLimit: the route had as many connections as the gateway's
	// registration, or its own limit, allows each.
	ReasonRouteLimit Reason = "route_limit"
	// ReasonNetworkLimit: its source network had as many connections as it may.
	ReasonNetworkLimit Reason = "network_limit"
	// ReasonHalfOpenLimit: it had waited longest for its hello when too many
	// were waiting.
	ReasonHalfOpenLimit Reason = "half_open_limit"
	// ReasonHelloMemory: the shared memory for long hellos was used up.
	ReasonHelloMemory Reason = "hello_memory"
)

// Reasons lists every reason, for metrics that show zeros from the start.
func Reasons() []Reason {
	return []Reason{
		ReasonDone, ReasonClientReset, ReasonEndpointReset, ReasonIdle, ReasonDrained,
		ReasonUnused, ReasonClientLeft, ReasonHelloTimeout, ReasonHelloRefused, ReasonNotTLS, ReasonProxyHeader,
		ReasonNoName, ReasonUnknownName, ReasonNoEndpoint, ReasonConnectFailed,
		ReasonConnectionLimit, ReasonRouteLimit, ReasonNetworkLimit, ReasonHalfOpenLimit, ReasonHelloMemory,
	}
}

// Refused reports whether a connection that ended so was to be joined to an endpoint,
// and never was. A client that leaves before it has said what it wants, like a check
// that the port is open, was not refused.
func (r Reason) Refused() bool {
	switch r {
	case ReasonDone, ReasonClientReset, ReasonEndpointReset, ReasonIdle, ReasonDrained, ReasonUnused, ReasonClientLeft:
		return false
	}
	return true
}

// Record is one connection, stated when it has ended: a line of the access log.
// It is not written to after it was handed over.
type Record struct {
	// Start is when it was accepted; Duration from then to its end.
	Start    time.Time
	Duration time.Duration
	// Client is who connected, as a PROXY header from a listed network says if
	// there was one. Peer is the other end of the socket.
	Client netip.AddrPort
	Peer   netip.AddrPort
	// SNI is the name as the client wrote it; empty when there was none.
	SNI string
	// Route is the name of the route; empty when none was found.
	Route string
	// Endpoint is the name of the endpoint that was joined; empty when none
	// was. Attempts is how many were tried.
	Endpoint string
	Attempts int
	// BytesIn is from the client to the endpoint, with the hello; BytesOut
	// back.
	BytesIn  uint64
	BytesOut uint64
	Reason   Reason
	// Detail is for people; often empty.
	Detail string
	// Alert is the TLS alert that was sent; 0 when none was.
	Alert uint8
	// Routes and Basis are those of the table that decided; of the last one, if
	// the connection ended before any was asked.
	Routes *isthmusv1.Position
	Basis  *isthmusv1.Basis
}

// AheadStats is what was counted of connections that were opened ahead.
type AheadStats struct {
	// Ready is how many there are now.
	Ready int64
	// Used is how many were given to a client, Missed how many clients found none.
	Used, Missed uint64
	// Expired is how many became too old, Ended how many the other side has ended
	// before they were used.
	Expired, Ended uint64
	// Repeated is how many hellos were sent once more, on a connection of their own.
	Repeated uint64
}

// EngineStats is what an engine counted, over all routes.
type EngineStats struct {
	// Accepted is every connection that was accepted, Open those that are, of
	// which HalfOpen wait for their hello.
	Accepted       uint64
	Open, HalfOpen int64
	// Ended counts connections by reason; reasons that did not occur are
	// missing.
	Ended map[Reason]uint64
	// ConnectFailures is attempts at endpoints that failed, Ejections how many
	// endpoints were ejected.
	ConnectFailures, Ejections uint64
	// BytesIn is from clients to endpoints, BytesOut back.
	BytesIn, BytesOut uint64
	// Ahead is of connections opened ahead.
	Ahead AheadStats
}

// Refused is how many connections should have been joined to an endpoint, and were not.
func (s EngineStats) Refused() uint64 {
	var n uint64
	for reason, count := range s.Ended {
		if reason.Refused() {
			n += count
		}
	}
	return n
}

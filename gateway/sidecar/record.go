package sidecar

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/relay"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Direction is which way a connection was made.
type Direction string

// The directions.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
)

// Reason is why a connection ended, as it stands in records and metrics. There
// are no others, so it may be a label.
type Reason string

// The reasons.
const (
	// ReasonDone: both sides closed in order.
	ReasonDone Reason = "done"
	// ReasonClientReset, ReasonEndpointReset: that side broke the connection
	// off, and so the other was reset too. Inbound, the client is the caller and
	// the endpoint the application.
	ReasonClientReset   Reason = "client_reset"
	ReasonEndpointReset Reason = "endpoint_reset"
	// ReasonDrained: it was still open at the end of the drain.
	ReasonDrained Reason = "drained"

	// ReasonUnsupported: the route needs more than layer 4; Detail says what.
	ReasonUnsupported Reason = "unsupported"
	// ReasonNoEndpoint: no target of the route has a live endpoint.
	ReasonNoEndpoint Reason = "no_endpoint"
	// ReasonConnectFailed: no endpoint that was tried answered as who it should
	// be. Inbound: the application did not answer.
	ReasonConnectFailed Reason = "connect_failed"
	// ReasonHandshakeFailed: the caller showed no certificate, or one that is
	// not trusted, or did not speak TLS.
	ReasonHandshakeFailed Reason = "handshake_failed"
	// ReasonIntentionDenied: the caller may not connect.
	ReasonIntentionDenied Reason = "intention_denied"
	// ReasonConnectionLimit: too many connections were open.
	ReasonConnectionLimit Reason = "connection_limit"
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{
		ReasonDone, ReasonClientReset, ReasonEndpointReset, ReasonDrained,
		ReasonUnsupported, ReasonNoEndpoint, ReasonConnectFailed, ReasonHandshakeFailed,
		ReasonIntentionDenied, ReasonConnectionLimit,
	}
}

// Refused reports whether a connection that ended so was never joined.
func (r Reason) Refused() bool {
	switch r {
	case ReasonDone, ReasonClientReset, ReasonEndpointReset, ReasonDrained:
		return false
	}
	return true
}

// Record is one connection, stated when it has ended: a line of the access log.
// It is not written to after it was handed over.
type Record struct {
	Direction Direction
	// Start is when it was accepted; Duration from then to its end.
	Start    time.Time
	Duration time.Duration
	// Listener is where it was accepted: host:port, or a path.
	Listener string
	// Client is the other end of the socket.
	Client string
	// Route is the upstream's route, like api@dc2; inbound, the service.
	Route string
	// Target is the target that was used, or tried last; Path how it is reached.
	Target string
	Path   isthmusv1.Path
	// SNI is the name that was asked for: by us, or inbound by the caller.
	SNI string
	// Endpoint is host:port of the endpoint that was joined; inbound, the
	// application's. Empty when none was. Attempts is how many were tried.
	Endpoint string
	Attempts int
	// Peer is the SPIFFE ID that the other side showed; empty when it showed none
	// that is trusted.
	Peer string
	// Intention is the entry that decided about an inbound connection.
	Intention string
	// BytesIn is from the client to the endpoint, BytesOut back.
	BytesIn  uint64
	BytesOut uint64
	Reason   Reason
	// Detail is for people; often empty.
	Detail string
	// Routes and Basis are those of the state that decided.
	Routes *isthmusv1.Position
	Basis  *isthmusv1.Basis
}

// end states how a joined pair ended.
func (r *Record) end(result relay.Result) {
	r.BytesIn, r.BytesOut = result.In, result.Out
	switch {
	case result.Err == nil:
		r.Reason = ReasonDone
		return
	case result.Broke == relay.Client:
		r.Reason = ReasonClientReset
	case result.Broke == relay.Upstream:
		r.Reason = ReasonEndpointReset
	default:
		r.Reason = ReasonDrained
	}
	r.Detail = result.Err.Error()
}

// errDrained is why connections end that outlive the drain.
var errDrained = errors.New("the sidecar stopped")

// Log writes the record as one line.
func (r *Record) Log(ctx context.Context, logger *slog.Logger) {
	attrs := []slog.Attr{
		slog.String("direction", string(r.Direction)),
		slog.String("route", r.Route),
		slog.String("listener", r.Listener),
		slog.String("client", r.Client),
	}
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	text("target", r.Target)
	text("path", r.Path.Name())
	text("sni", r.SNI)
	text("endpoint", r.Endpoint)
	text("peer", r.Peer)
	text("intention", r.Intention)
	attrs = append(attrs,
		slog.Int("attempts", r.Attempts),
		slog.Uint64("bytes_in", r.BytesIn),
		slog.Uint64("bytes_out", r.BytesOut),
		slog.Duration("duration", r.Duration),
		slog.String("reason", string(r.Reason)),
	)
	text("detail", r.Detail)
	text("routes", positionText(r.Routes))
	text("basis", r.Basis.Text())
	logger.LogAttrs(ctx, slog.LevelInfo, "connection", attrs...)
}

func positionText(p *isthmusv1.Position) string {
	if p == nil {
		return ""
	}
	return strings.TrimSpace((&isthmusv1.Basis{Positions: []*isthmusv1.Position{p}}).Text())
}

package ads

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// closeAfter is how long a client has to read why its stream ended, before its
// connection is closed.
const closeAfter = time.Second

// client is who is at the other end of a stream; nil: nobody in particular.
type client struct {
	by    *Identity
	state tls.ConnectionState
	conn  *connection
	// uri is who it is.
	uri string
}

// clientOf is the client of a stream.
func (s *Server) clientOf(ctx context.Context) (*client, error) {
	if s.cfg.Identity == nil {
		return nil, nil //nolint:nilnil // Nobody in particular is no error.
	}
	from, _ := peer.FromContext(ctx)
	if from == nil {
		return nil, status.Error(codes.Unauthenticated, "the connection is of nobody")
	}
	shown, ok := from.AuthInfo.(shownInfo)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "the connection shows no certificate")
	}
	c := &client{by: s.cfg.Identity, state: shown.State, conn: shown.conn}
	var err error
	if c.uri, _, err = c.by.Client(c.state); err != nil {
		return c, status.Error(codes.Unauthenticated, err.Error())
	}
	return c, nil
}

// believed checks whether the client is still to be believed, and returns when to check
// again.
func (c *client) believed() (until time.Time, err error) {
	if c == nil {
		return time.Time{}, nil
	}
	_, until, err = c.by.Client(c.state)
	return until, err
}

// hangUp closes the connection of a client that is refused, once it could read why: an
// Envoy that has another certificate by then shows it on a new connection only. A client
// that is believed keeps what it is served by the same connection.
func (c *client) hangUp(why error) {
	if c == nil {
		return
	}
	switch status.Code(why) {
	case codes.Unauthenticated:
		time.AfterFunc(closeAfter, func() { _ = c.conn.Close() })
	case codes.PermissionDenied:
		time.AfterFunc(closeAfter, func() {
			if c.conn.served.Load() == 0 {
				_ = c.conn.Close()
			}
		})
	}
}

// serving counts a stream that is served by the connection, until the returned function
// is called.
func (c *client) serving() (ended func()) {
	if c == nil {
		return func() {}
	}
	c.conn.served.Add(1)
	return func() { c.conn.served.Add(-1) }
}

// connection is one that a client has shown its certificate on.
type connection struct {
	net.Conn
	// served are the streams that are.
	served atomic.Int64
}

// shownInfo is what a client showed at the handshake, and the connection.
type shownInfo struct {
	credentials.TLSInfo
	conn *connection
}

// handshakes accepts connections by TLS, and logs those that it refuses.
type handshakes struct {
	credentials.TransportCredentials
	log *slog.Logger
}

func newHandshakes(config *tls.Config, log *slog.Logger) handshakes {
	return handshakes{credentials.NewTLS(config), log}
}

// errNotTLS says that a handshake was something else than it should be.
var errNotTLS = errors.New("the handshake was not one of TLS")

// ServerHandshake is [credentials.TransportCredentials].
func (h handshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		h.log.Warn("a connection is refused", "from", raw.RemoteAddr(), "err", err)
		return nil, nil, err
	}
	shown, ok := info.(credentials.TLSInfo)
	if !ok {
		return nil, nil, errNotTLS
	}
	return conn, shownInfo{TLSInfo: shown, conn: &connection{Conn: raw}}, nil
}

// Clone is [credentials.TransportCredentials].
func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.log}
}

package sidecar

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

// errTruncated indicates a TLS stream that ended without close_notify.
var errTruncated = errors.New("the connection was cut off: it ended without close_notify")

// tlsConn is a TLS connection as [relay.Join] wants it: closed in order it says
// close_notify; reset, it breaks the connection below, so that nobody takes a
// broken stream for a whole one.
type tlsConn struct {
	*tls.Conn
	below  relay.Conn
	broken atomic.Bool
}

var _ relay.Conn = (*tlsConn)(nil)

func tlsServer(below relay.Conn, config *tls.Config) *tlsConn {
	return &tlsConn{Conn: tls.Server(strictConn{below}, config), below: below}
}

func tlsClient(below relay.Conn, config *tls.Config) *tlsConn {
	return &tlsConn{Conn: tls.Client(strictConn{below}, config), below: below}
}

// SetLinger asks for a reset at Close.
func (c *tlsConn) SetLinger(sec int) error {
	c.broken.Store(true)
	if t, ok := c.below.(interface{ SetLinger(sec int) error }); ok {
		return t.SetLinger(sec)
	}
	return nil
}

// Close closes in order, or breaks if that was asked for.
func (c *tlsConn) Close() error {
	if c.broken.Load() {
		return c.below.Close()
	}
	return c.Conn.Close()
}

// strictConn is what TLS runs on. Its end is an error: crypto/tls takes an end
// between two records for that of the stream, though anyone on the way can make
// it.
type strictConn struct{ net.Conn }

// Read reads; the end is [errTruncated].
func (c strictConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		err = errTruncated
	}
	return n, err
}

// abort resets a connection that was accepted and never joined.
func abort(conn net.Conn) {
	if t, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0)
	}
	_ = conn.Close()
}

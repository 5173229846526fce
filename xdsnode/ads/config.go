package ads

import (
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Config is what a [Server] is made with. The zero Config serves whoever connects, in
// plain text, lets streams live as long as they like, and reports to nobody.
type Config struct {
	// Logger may be nil.
	Logger *slog.Logger
	// Identity is how Envoys are known. Nil: they are not, and whoever can connect may
	// have everything.
	Identity *Identity
	// StreamAge is how long streams live, about: they are ended so that nodes that were
	// added get their share. 0: for ever.
	StreamAge time.Duration
	// Jitter is a number from 0 up to 1, another one each time, that spreads the ends of
	// streams which began together. Nil: at random.
	Jitter func() float64
	// Reports is told what each proxy has; nil: nobody is.
	Reports Reports
}

// Identity is how Envoys are known by the certificates that they show.
type Identity struct {
	// TLS is how connections are accepted: of those only whose certificate is trusted.
	TLS *tls.Config
	// Client checks the client of a connection once more. It returns its one URI, and when
	// to check again though nothing else has changed.
	Client func(tls.ConnectionState) (uri string, until time.Time, err error)
}

// Reports is where a server says what its proxies have, as a bus.Reporter. None of these
// may block, or call the server.
type Reports interface {
	// Proxy is told the newest of one proxy, which is shared from here on.
	Proxy(status *isthmusv1.ProxyStatus)
	// Forget is told that a proxy is connected no more.
	Forget(proxy string)
	// Node is told how far the node is, and with it each proxy that is current.
	Node(routes *isthmusv1.Position, basis *isthmusv1.Basis)
}

// spread is by how much of StreamAge a stream may live shorter or longer.
const spread = 0.2

// lifetime is how long the next stream lives.
func (c Config) lifetime() time.Duration {
	if c.StreamAge <= 0 {
		return never
	}
	jitter := c.Jitter
	if jitter == nil {
		jitter = rand.Float64 //nolint:gosec // Spreads load; nobody gains from guessing it.
	}
	return time.Duration(float64(c.StreamAge) * (1 - spread + 2*spread*jitter()))
}

// connectionAge is how long a connection takes new streams: shorter than any stream of it
// lives, so that an Envoy whose stream has ended connects anew, perhaps to another node.
// The library spreads it by a tenth.
func (c Config) connectionAge() time.Duration {
	if c.StreamAge <= 0 {
		return never
	}
	return time.Duration(float64(c.StreamAge) * 0.7)
}

// never is longer than any stream lives.
const never = 100 * 365 * 24 * time.Hour

package ads

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// Config is what a [Server] is made with. The zero Config serves whoever connects, in
// plain text, and lets streams live as long as they like.
type Config struct {
	// Logger may be nil.
	Logger *slog.Logger
	// Identity is how Envoys are known. Nil: they are not, and whoever can connect may
	// have everything.
	Identity *Identity
}

// Identity is how Envoys are known by the certificates that they show.
type Identity struct {
	// TLS is how connections are accepted: of those only whose certificate is trusted.
	TLS *tls.Config
	// Client checks the client of a connection once more. It returns its one URI, and when
	// to check again though nothing else has changed.
	Client func(tls.ConnectionState) (uri string, until time.Time, err error)
}

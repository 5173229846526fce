package sidecar

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// Config is what a [Sidecar] needs. Log, Datacenter, Proxy and Identity are
// required; the zero of every other field is stated.
type Config struct {
	// Log holds ROUTES_<dc>.
	Log bus.Log
	// Datacenter is the proxy's own.
	Datacenter string
	// Proxy is NODE/ID, or ID where that is unique.
	Proxy string
	// Identity is where the service's leaf and the roots come from.
	Identity identity.Source
	// Clock is the time that certificates are checked at. Nil: the machine's.
	Clock identity.Clock

	// StateFile is where the last good state is saved, and read at the start, so
	// that the sidecar serves without the bus. Empty: it is not saved.
	StateFile string
	// Version is stated in reports.
	Version string

	// Access is told of each connection when it has ended, from that connection's
	// goroutine. Nil: no one is told.
	Access func(Record)
	// AccessLog gets one line per connection. Nil: none.
	AccessLog *slog.Logger
	// Status is told what the sidecar runs, whenever that changes. It must not
	// block. Nil: no one is told.
	Status func(*isthmusv1.ProxyStatus)
	// Logger is told of what concerns the sidecar as a whole. Nil: nothing is
	// logged.
	Logger *slog.Logger
	// Registerer gets the isthmus_sidecar_… metrics while Run runs. Several
	// sidecars of one process need one each, with labels that tell them apart.
	// Nil: none.
	Registerer prometheus.Registerer

	// Attempts is how many endpoints of one target are tried for one connection.
	// 0: 3.
	Attempts int
	// AttemptTimeout bounds what one endpoint may take, with its handshake, while
	// there is another to try; the last one has the target's connect timeout.
	// 0: 2 s.
	AttemptTimeout time.Duration
	// HandshakeTimeout is how long a caller may take for its handshake. 0: 5 s.
	HandshakeTimeout time.Duration
	// DrainTimeout is how long connections may go on after the stop. 0: 10 s.
	DrainTimeout time.Duration
	// MaxConnections is the most connections at a time, both directions
	// together; one more is reset at once. 0: 10,000.
	MaxConnections int

	// Random decides between endpoints. Nil: math/rand/v2.
	Random func() uint64
	// LookupHost resolves the host names among endpoints. Nil: the system's.
	LookupHost func(ctx context.Context, host string) ([]netip.Addr, error)
}

func (c Config) validate() error {
	var problems []error
	require := func(ok bool, text string) {
		if !ok {
			problems = append(problems, errors.New("sidecar: "+text))
		}
	}
	require(c.Log != nil, "Config.Log is missing")
	require(c.Datacenter != "", "Config.Datacenter is missing")
	require(c.Proxy != "", "Config.Proxy is missing: NODE/ID, or ID")
	require(c.Identity != nil, "Config.Identity is missing")
	return errors.Join(problems...)
}

func (c Config) withDefaults() Config {
	c.Attempts = cmp.Or(c.Attempts, 3)
	c.AttemptTimeout = cmp.Or(c.AttemptTimeout, 2*time.Second)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, 5*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	c.MaxConnections = cmp.Or(c.MaxConnections, 10_000)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Random == nil {
		c.Random = randomNumber
	}
	if c.LookupHost == nil {
		c.LookupHost = lookupHost
	}
	return c
}

func lookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

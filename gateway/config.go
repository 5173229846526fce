package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Errors of this package.
var (
	// ErrHandedOver indicates that a successor has taken the listeners over and
	// the drain is done: the process should end, and all is well.
	ErrHandedOver = errors.New("a successor has taken over")
	// ErrSavedTable indicates a file of the state directory that is not a saved
	// table of this version.
	ErrSavedTable = errors.New("not a saved table")
	// ErrOtherDatacenter indicates a saved table of another datacenter.
	ErrOtherDatacenter = errors.New("the saved table is another datacenter's")
	// ErrNoListen indicates a gateway that was told no address to listen on, and
	// was given no listener either.
	ErrNoListen = errors.New("there is nowhere to listen: give an address, a registration that has one, or a socket by systemd's activation")
	// ErrHandover indicates a predecessor that did not keep to the protocol.
	ErrHandover = errors.New("the hand-over failed")
)

// HostResolver finds the addresses of a host name. *net.Resolver is one.
type HostResolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Config is what a [Gateway] needs. Datacenter and Log are required, and Listen
// unless systemd gives sockets or Proxy says where to listen.
type Config struct {
	// Datacenter is the own one; its routes stream is followed.
	Datacenter string
	// Name is unique among the datacenter's gateways, for reports. Empty: Proxy,
	// else the first listen address, else the host's name.
	Name string
	// Log is where the routes stream is.
	Log bus.Log
	// Listen are the addresses to listen on, like 10.0.0.1:8443. Sockets of
	// systemd's activation are added.
	Listen []string
	// Proxy is the registration that the gateway runs by: NODE/ID, or ID where
	// that is unique. Where to listen is taken from it if nothing else says so, and
	// followed; what it says of connections counts where Limits has nothing. Empty:
	// none.
	Proxy string
	// Registrar has the gateway in a catalog from the first connection on that it
	// would accept, until the drain begins; not beyond a hand-over. Nil: nobody
	// has, or somebody else.
	Registrar Registrar
	// StateDir holds the last good table. Empty: none is saved nor used.
	StateDir string
	// HandoverSocket is the path of the unix socket on which a successor asks
	// for the listeners. Empty: none are handed over.
	HandoverSocket string
	// OnHandedOver is called once when a successor has taken over, before the
	// drain: what it needs of this process should be let go of. May be nil.
	OnHandedOver func()
	// AdminAddress is stated in reports, unless [Gateway.AdminAt] knows better. May
	// be empty.
	AdminAddress string

	// DrainTimeout is how long connections may go on after the stop. Zero: 30 s.
	DrainTimeout time.Duration
	// HostInterval is how often host names are resolved again. Zero: 10 s.
	HostInterval time.Duration
	// StatusInterval is how often counters are reported; a new table is reported
	// at once. Zero: 5 s.
	StatusInterval time.Duration

	// Ejection is when endpoints that do not answer leave the choice.
	Ejection table.Ejection
	// CongestionControl is the setting of what is sent within the own datacenter, see
	// [engine.CongestionControl]. Empty: [engine.CongestionAuto].
	CongestionControl string
	// Limits are those of the engine. Table, Record, Logger and CongestionControl are
	// set here.
	Limits engine.Config
	// NewEngine makes the engine. Nil: the first of [Engines].
	NewEngine NewEngine

	// AccessLog gets one line of JSON for each connection. Nil: none.
	AccessLog io.Writer
	// AccessLogSize is how many records may wait for the log. Zero: 4096.
	AccessLogSize int
	// OnRecord is told of each record, from one goroutine, in the order in which
	// connections ended. It may block, at the price of drops. May be nil.
	OnRecord func(*table.Record)

	// Hosts resolves host names of endpoints. Nil: the system's resolver.
	Hosts HostResolver
	// Environment is where systemd's activation is read from. Nil: os.Getenv.
	Environment func(string) string
	// Registerer gets the isthmus_gateway_… metrics while Run runs. May be nil.
	Registerer prometheus.Registerer
	// MetricRoutes is how many routes have metrics of their own. Zero:
	// [DefaultMetricRoutes].
	MetricRoutes int
	// Logger. Nil: nothing is logged.
	Logger *slog.Logger
}

// DefaultMetricRoutes is how many routes of a gateway have metrics of their own:
// some 8,000 series.
const DefaultMetricRoutes = 1000

const (
	defaultDrainTimeout   = 30 * time.Second
	defaultHostInterval   = 10 * time.Second
	defaultStatusInterval = 5 * time.Second
	defaultAccessLogSize  = 4096
)

// withDefaults returns the configuration with every default, or all that is
// wrong with it.
func (c Config) withDefaults() (Config, error) {
	var problems []error
	if c.Datacenter == "" {
		problems = append(problems, errors.New("gateway: Datacenter is missing"))
	}
	if c.Log == nil {
		problems = append(problems, errors.New("gateway: Log is missing"))
	}
	if c.Environment == nil {
		c.Environment = os.Getenv
	}
	if len(c.Listen) == 0 && c.Proxy == "" && c.Environment("LISTEN_FDS") == "" {
		problems = append(problems, fmt.Errorf("gateway: Listen is missing: %w", ErrNoListen))
	}
	seen := make(map[string]bool)
	for _, address := range c.Listen {
		if _, _, err := net.SplitHostPort(address); err != nil {
			problems = append(problems, fmt.Errorf("gateway: Listen %q: %w", address, err))
		}
		if seen[address] {
			problems = append(problems, fmt.Errorf("gateway: Listen %q stands twice", address))
		}
		seen[address] = true
	}
	if err := errors.Join(problems...); err != nil {
		return c, err
	}
	c.setDefaults()
	return c, nil
}

func (c *Config) setDefaults() {
	c.Name = c.ReportName()
	if c.DrainTimeout <= 0 {
		c.DrainTimeout = defaultDrainTimeout
	}
	if c.HostInterval <= 0 {
		c.HostInterval = defaultHostInterval
	}
	if c.StatusInterval <= 0 {
		c.StatusInterval = defaultStatusInterval
	}
	if c.AccessLogSize <= 0 {
		c.AccessLogSize = defaultAccessLogSize
	}
	if c.MetricRoutes <= 0 {
		c.MetricRoutes = DefaultMetricRoutes
	}
	if c.CongestionControl == "" {
		c.CongestionControl = engine.CongestionAuto
	}
	if c.NewEngine == nil {
		c.NewEngine = engines[0].make
	}
	if c.Hosts == nil {
		c.Hosts = net.DefaultResolver
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// ReportName is Name, or what takes its place where that is empty: Proxy
// as HOST/ID, else the first listen address, else the host's name.
func (c Config) ReportName() string {
	if c.Name != "" {
		return c.Name
	}
	if strings.Contains(c.Proxy, "/") {
		return c.Proxy
	}
	host, err := os.Hostname()
	if err != nil {
		host = "gateway"
	}
	switch {
	case c.Proxy != "": // Gateways of several nodes may have one ID.
		return host + "/" + c.Proxy
	case len(c.Listen) > 0:
		return c.Listen[0]
	}
	return host
}

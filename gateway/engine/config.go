package engine

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// ErrNoTable indicates a [Config] without a table.
var ErrNoTable = errors.New("gateway: the engine's Config.Table is missing")

// ErrTooManyWait indicates that the longest waiting connection was sent away.
var ErrTooManyWait = errors.New("too many connections wait for their hello")

// ErrNoOpenAhead indicates a [Config.OpenAhead] for an engine that cannot.
var ErrNoOpenAhead = errors.New("gateway: this engine opens no connections ahead")

// Config is what an engine needs. Only Table is required; the zero of every other
// field is stated.
type Config struct {
	// Table returns the present table; it is called once for each connection
	// and must not block. Its answer is never nil.
	Table func() *table.Table
	// Record is told of each connection when it has ended. It must not block.
	// Nil: no one is told.
	Record func(*table.Record)
	// Logger is told of what concerns the engine as a whole. Nil: nothing is
	// logged.
	Logger *slog.Logger

	// HelloTimeout is the time from accept to the last byte of the hello.
	// Zero: 5 s.
	HelloTimeout time.Duration
	// ConnectTimeout is the time that one endpoint has to answer when its route
	// does not say. Zero: what the table's settings say, else 2 s.
	ConnectTimeout time.Duration
	// IdleTimeout is how long a joined connection may move no byte in either
	// direction, give or take a quarter; then it is reset on both sides. Zero: for
	// ever, as a mesh has connections that wait for days.
	IdleTimeout time.Duration
	// Attempts is how many endpoints are tried for one connection, at most
	// [table.MaxAttempts]. Zero: that many. No further one is tried once three
	// budgets are over, so only endpoints that refuse at once can be many.
	Attempts int

	// Hello bounds one hello. Zero: see [hello.Limits].
	Hello hello.Limits
	// HelloFree is how many bytes of an unfinished hello each connection may
	// hold. Zero: 32 KiB.
	HelloFree int
	// HelloShared is how many bytes all longer hellos together may hold beyond
	// that. Zero: 64 MiB.
	HelloShared int64
	// MaxConnections is the most connections at a time; one more is reset at
	// once. Zero: 10,000.
	MaxConnections int
	// MaxHalfOpen is the most connections that wait for their hello; one more
	// closes the one that has waited longest. Zero: three quarters of
	// MaxConnections.
	MaxHalfOpen int

	// MaxPerRoute is the most connections that one route may have where the
	// gateway's registration does not say; one more is refused. Zero: any number.
	MaxPerRoute int
	// MaxPerNetwork is the most connections from one source network, a /24 of IPv4
	// or a /64 of IPv6; one more is reset, or refused if a PROXY header named its
	// source. Zero: any number.
	MaxPerNetwork int

	// OpenAhead is how many connections are kept open at most to each gateway of
	// another datacenter before anybody asks for them; as many are as were asked
	// for lately. Zero: none.
	OpenAhead int

	// CongestionControl is the algorithm that the near side of connections has, the
	// one in the own datacenter, from when they have moved much: what
	// [CongestionControl] returned. Empty: the system's.
	CongestionControl string

	// ProxyNetworks are the networks from which a PROXY header is read, if there
	// is one. It is never sent on. Empty: none.
	ProxyNetworks []netip.Prefix

	// Random decides between endpoints, and when a connection is probed. Nil:
	// math/rand/v2.
	Random func() uint64
}

// Limits where the configuration says none.
const (
	// DefaultHelloTimeout is that of HelloTimeout.
	DefaultHelloTimeout = 5 * time.Second
	// DefaultMaxConnections is that of MaxConnections.
	DefaultMaxConnections = 10000
)

const (
	// LingerTime is how long a client that was refused is read from at most. Bytes
	// left unread would turn the close into a reset, which overtakes the alert.
	LingerTime = time.Second
	// LingerBytes is how many bytes of such a client are read at most.
	LingerBytes = 1 << 20
	// IdleShare is how many times in its idle timeout a connection is looked at.
	IdleShare = 4
)

const (
	defaultConnectTimeout = 2 * time.Second
	defaultAttempts       = table.MaxAttempts
	// budgets is how many times what one endpoint has to answer is spent on a
	// connection.
	budgets            = 3
	defaultHelloFree   = 32 << 10
	defaultHelloShared = 64 << 20
)

// WithDefaults returns the configuration with every default. The error is
// [ErrNoTable].
func (c Config) WithDefaults() (Config, error) {
	if c.Table == nil {
		return c, ErrNoTable
	}
	setDefault(&c.HelloTimeout, DefaultHelloTimeout)
	setDefault(&c.Attempts, defaultAttempts)
	c.Attempts = min(c.Attempts, table.MaxAttempts)
	setDefault(&c.HelloFree, defaultHelloFree)
	setDefault(&c.HelloShared, defaultHelloShared)
	setDefault(&c.MaxConnections, DefaultMaxConnections)
	setDefault(&c.MaxHalfOpen, DefaultMaxHalfOpen(c.MaxConnections))
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Random == nil {
		c.Random = rand.Uint64
	}
	return c, nil
}

// DefaultMaxHalfOpen is how many of so many connections may wait for their hello where
// [Config.MaxHalfOpen] does not say: three quarters, at least one.
func DefaultMaxHalfOpen(connections int) int { return max(1, connections*3/4) }

func setDefault[T int | int64 | time.Duration](value *T, otherwise T) {
	if *value <= 0 {
		*value = otherwise
	}
}

// MayProxy reports whether a PROXY header may come from an address.
func (c *Config) MayProxy(peer netip.AddrPort) bool {
	return slices.ContainsFunc(c.ProxyNetworks, func(n netip.Prefix) bool { return n.Contains(peer.Addr()) })
}

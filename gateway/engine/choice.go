package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Admit has a connection take its place among those of a route; [Leave] gives it
// back, whether it was refused or not.
func (c *Config) Admit(route *table.Route, settings table.Settings) *Refusal {
	busy := route.Counters.Busy.Add(1)
	most, limited := int64(c.MaxPerRoute), c.MaxPerRoute > 0
	if settings.MaxConnections != nil {
		most, limited = int64(*settings.MaxConnections), true
	}
	if !limited || busy <= most {
		return nil
	}
	route.Counters.Failures.Add(1)
	return &Refusal{Reason: table.ReasonRouteLimit, Detail: fmt.Sprintf("the route may have %d connections", most), Alert: hello.InternalError}
}

// Leave gives back the place that [Config.Admit] took.
func Leave(route *table.Route) { route.Counters.Busy.Add(-1) }

// Choice is the endpoints that one connection tries, one after another: each has
// a budget of time to answer, and no further one is tried when three budgets are
// over. So only endpoints that refuse at once can be many.
type Choice struct {
	cfg      *Config
	route    *table.Route
	picker   table.Picker
	begin    time.Time
	budget   time.Duration
	attempts int
	last     error
}

// Choose begins a choice among a route's endpoints.
func (c *Config) Choose(route *table.Route, settings table.Settings, now time.Time) Choice {
	return Choice{
		cfg: c, route: route, begin: now,
		picker: route.Endpoints.Pick(c.Random(), now),
		budget: cmp.Or(route.ConnectTimeout, c.ConnectTimeout, settings.ConnectTimeout, defaultConnectTimeout),
	}
}

// Budget is how long one endpoint has to answer.
func (c *Choice) Budget() time.Duration { return c.budget }

// Attempts is how many endpoints were given out.
func (c *Choice) Attempts() int { return c.attempts }

// Restart counts the time of further endpoints from now.
func (c *Choice) Restart(now time.Time) { c.begin = now }

// Next is the endpoint to try; nil when none is to be.
func (c *Choice) Next(now time.Time) *table.Endpoint {
	if c.attempts >= c.cfg.Attempts || c.attempts > 0 && now.Sub(c.begin) >= budgets*c.budget {
		return nil
	}
	e := c.picker.Next()
	if e != nil {
		c.attempts++
	}
	return e
}

// Connected says that the endpoint answered.
func (c *Choice) Connected(e *table.Endpoint) { c.route.Endpoints.Connected(e) }

// Failed says that the endpoint did not answer, and why. It counts that.
func (c *Choice) Failed(e *table.Endpoint, now time.Time, err error, counts *Counts) {
	c.last = fmt.Errorf("%s: %w", e.Name, err)
	c.cfg.EndpointFailed(c.route, e, now, err, counts)
}

// EndpointFailed counts that an endpoint of a route did not answer, and why; against
// the endpoint only if it says something of it.
func (c *Config) EndpointFailed(route *table.Route, e *table.Endpoint, now time.Time, err error, counts *Counts) {
	counts.ConnectFailures.Add(1)
	if isLocal(err) {
		return
	}
	if route.Endpoints.Failed(e, now) {
		counts.Ejections.Add(1)
		c.Logger.Warn("endpoint ejected", "route", route.Name, "endpoint", e.Name, "err", err)
	}
}

// isLocal reports whether an error says that this machine had no descriptor, port
// or memory left to connect with.
func isLocal(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM},
		func(local error) bool { return errors.Is(err, local) })
}

// Refusal is why the connection is refused after Next gave nothing. It counts that.
func (c *Choice) Refusal() *Refusal {
	c.route.Counters.Failures.Add(1)
	if c.last != nil {
		return &Refusal{Reason: table.ReasonConnectFailed, Detail: c.last.Error(), Alert: hello.InternalError}
	}
	// The set may have been filled since.
	why := cmp.Or(c.route.Endpoints.Why(), table.ErrEmpty)
	return &Refusal{Reason: table.ReasonNoEndpoint, Detail: why.Error(), Alert: hello.InternalError}
}

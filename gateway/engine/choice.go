package engine

import (
	"cmp"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Admit has a connection take its place among those of a route; [Leave] gives it
// back, whether it was refused or not.
func Admit(route *table.Route, settings table.Settings) *Refusal {
	busy := route.Counters.Busy.Add(1)
	if most := settings.MaxConnections; most != nil && busy > int64(*most) {
		route.Counters.Failures.Add(1)
		return &Refusal{Reason: table.ReasonRouteLimit, Detail: fmt.Sprintf("the route may have %d connections", *most), Alert: hello.InternalError}
	}
	return nil
}

// Leave gives back the place that [Admit] took.
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
	counts.ConnectFailures.Add(1)
	if c.route.Endpoints.Failed(e, now) {
		counts.Ejections.Add(1)
		c.cfg.Logger.Warn("endpoint ejected", "route", c.route.Name, "endpoint", e.Name, "err", err)
	}
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

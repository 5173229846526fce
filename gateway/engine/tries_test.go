package engine_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// routeTo is a route with so many endpoints.
func routeTo(n int) *table.Route {
	set := table.NewSet(table.Ejection{})
	var list []*isthmusv1.Endpoint
	for i := range n {
		list = append(list, &isthmusv1.Endpoint{
			Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}).String(), Port: 1, Weight: 1,
			Health: isthmusv1.Health_HEALTH_HEALTHY,
		})
	}
	set.Replace(list, nil)
	return &table.Route{Name: "api", Endpoints: set, Counters: new(table.Counters)}
}

func config(t *testing.T, c engine.Config) *engine.Config {
	t.Helper()
	c.Table = func() *table.Table { return new(table.Table) }
	c, err := c.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

// The time that an endpoint has: its route's, then the engine's as configured, then
// the registration's, then the engine's own.
func TestBudget(t *testing.T) {
	const route, configured, registered, own = 50 * time.Minute, 40 * time.Minute, 30 * time.Minute, 2 * time.Second
	for _, c := range []struct{ route, configured, registered, want time.Duration }{
		{route, configured, registered, route},
		{0, configured, registered, configured},
		{0, 0, registered, registered},
		{0, 0, 0, own},
	} {
		r := routeTo(1)
		r.ConnectTimeout = c.route
		choice := config(t, engine.Config{ConnectTimeout: c.configured}).
			Choose(r, table.Settings{ConnectTimeout: c.registered}, time.Unix(1000, 0))
		if got := choice.Budget(); got != c.want {
			t.Errorf("an endpoint has %v, want %v", got, c.want)
		}
	}
}

var errNo = errors.New("refused by the test")

// tries gives endpoints out until there are no more; each takes its time and fails.
func tries(cfg *engine.Config, r *table.Route, takes time.Duration, counts *engine.Counts) (*engine.Choice, int) {
	now := time.Unix(1000, 0)
	choice := cfg.Choose(r, table.Settings{}, now)
	n := 0
	for e := choice.Next(now); e != nil; e = choice.Next(now) {
		n++
		now = now.Add(takes)
		choice.Failed(e, now, errNo, counts)
	}
	return &choice, n
}

// Endpoints that are silent cost their budgets, and a client waits for three of
// those at most; those that refuse at once cost nothing.
func TestThreeBudgets(t *testing.T) {
	for _, c := range []struct {
		takes time.Duration
		want  int
	}{
		{0, 9}, {time.Second, 3}, {1499 * time.Millisecond, 3}, {1500 * time.Millisecond, 2}, {3 * time.Second, 1},
	} {
		counts := new(engine.Counts)
		r := routeTo(9)
		choice, n := tries(config(t, engine.Config{ConnectTimeout: time.Second}), r, c.takes, counts)
		if n != c.want || choice.Attempts() != n || counts.ConnectFailures.Load() != uint64(n) {
			t.Errorf("%d endpoints that take %v are tried, %d failures counted; want %d", n, c.takes, counts.ConnectFailures.Load(), c.want)
		}
		refusal := choice.Refusal()
		if refusal.Reason != table.ReasonConnectFailed || refusal.Alert != hello.InternalError || r.Counters.Failures.Load() != 1 {
			t.Errorf("refused with %+v", refusal)
		}
	}
}

func TestAttempts(t *testing.T) {
	for attempts, want := range map[int]int{0: table.MaxAttempts, 2: 2, 1000: table.MaxAttempts} {
		if _, n := tries(config(t, engine.Config{Attempts: attempts}), routeTo(100), 0, new(engine.Counts)); n != want {
			t.Errorf("%d attempts are configured: %d endpoints are tried; want %d", attempts, n, want)
		}
	}
}

// What was tried and failed is said, and what there never was.
func TestNothingToTry(t *testing.T) {
	choice, n := tries(config(t, engine.Config{}), routeTo(0), 0, new(engine.Counts))
	refusal := choice.Refusal()
	if n != 0 || refusal.Reason != table.ReasonNoEndpoint || refusal.Detail != table.ErrEmpty.Error() {
		t.Errorf("%d are tried, refused with %+v", n, refusal)
	}
	choice, _ = tries(config(t, engine.Config{}), routeTo(1), 0, new(engine.Counts))
	if got := choice.Refusal().Detail; got != "10.0.0.1:1: refused by the test" {
		t.Errorf("refused with %q", got)
	}
}

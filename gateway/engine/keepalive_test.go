package engine_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Of many connections that were opened at once, few are probed at once.
func TestProbesAreSpread(t *testing.T) {
	const connections = 10000
	random := rand.New(rand.NewPCG(1, 2))
	at := make(map[time.Duration]int)
	for range connections {
		k := engine.Probing(nil, random.Uint64())
		if k.Idle < 30*time.Second || k.Idle > time.Minute || k.Interval != 15*time.Second || k.Count != 6 {
			t.Fatalf("probed as %+v", k)
		}
		at[k.Idle]++
	}
	for idle, n := range at {
		if n > connections/20 {
			t.Errorf("%d of %d connections are probed after %s", n, connections, idle)
		}
	}
}

// What is asked for counts to the letter, and what is not asked for does not.
func TestProbesAsAskedFor(t *testing.T) {
	asked := &table.Keepalive{Idle: 33 * time.Second, Interval: 7 * time.Second, Count: 4}
	if got := engine.Probing(asked, 17); got != *asked {
		t.Errorf("got %+v", got)
	}
	ours := engine.Probing(nil, 17)
	for _, test := range []struct{ asked, want table.Keepalive }{
		{table.Keepalive{}, ours},
		{table.Keepalive{Idle: -time.Second}, ours},
		{table.Keepalive{Idle: time.Second}, table.Keepalive{Idle: time.Second, Interval: ours.Interval, Count: ours.Count}},
		{table.Keepalive{Count: 2}, table.Keepalive{Idle: ours.Idle, Interval: ours.Interval, Count: 2}},
	} {
		if got := engine.Probing(&test.asked, 17); got != test.want {
			t.Errorf("asked for %+v: %+v, want %+v", test.asked, got, test.want)
		}
	}
	settings := table.Settings{Keepalive: asked}
	cfg := engine.Config{Random: func() uint64 { return 17 }}
	if got := cfg.Probing(&table.Route{Wildcard: true}, settings); got != *asked {
		t.Errorf("to another datacenter: %+v", got)
	}
	if got := cfg.Probing(&table.Route{}, settings); got != ours {
		t.Errorf("to an own service: %+v", got)
	}
}

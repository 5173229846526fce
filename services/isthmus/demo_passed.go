package main

import (
	"context"
	"slices"
	"strings"
	"time"
)

// A Go gateway tells of each connection by a record; an Envoy has counters, by cluster,
// which its admin server shows. So what an Envoy has joined to an upstream is what its
// counters rose by while nothing else was asked for.

// counters are those of the Envoy gateways at a moment: connections by gateway's name and
// cluster.
type counters map[string]map[string]uint64

func (d *demoRun) counters(ctx context.Context) (counters, error) {
	out := make(counters)
	for _, g := range d.world.gateways {
		if g.envoy == nil {
			continue
		}
		joined, err := g.envoy.joined(ctx)
		if err != nil {
			return nil, err
		}
		out[g.name] = joined
	}
	return out, nil
}

// since is by how much the counters of a gateway rose for an upstream: those of its name,
// or of the datacenter where it is.
func (c counters) since(before counters, gateway, upstream string) int {
	rose := 0
	for cluster, n := range c[gateway] {
		named, _, _ := strings.Cut(cluster, ".internal.")
		if strings.HasPrefix(named, upstream+".") || !strings.Contains(named, ".") {
			rose += int(n - before[gateway][cluster])
		}
	}
	return rose
}

// sent is what became of the requests to one upstream.
type sent struct {
	failure       error
	before, after counters
}

// send makes the requests to one upstream.
func (d *demoRun) send(ctx context.Context, target loadTarget) (out sent) {
	if out.before, out.failure = d.counters(ctx); out.failure != nil {
		return out
	}
	if out.failure = burst(ctx, target, demoRequests); out.failure != nil {
		return out
	}
	out.after, out.failure = d.counters(ctx)
	return out
}

// hop is how many connections the gateways of a datacenter passed on to an upstream, by
// gateway.
type hop map[string]int

func (h hop) total() int {
	n := 0
	for _, of := range h {
		n += of
	}
	return n
}

// hop waits until the gateways of a datacenter have passed on so many, or ctx ends.
func (d *demoRun) hop(ctx context.Context, began window, went sent, datacenter, upstream string, n int) hop {
	out := make(hop)
	for _, g := range d.world.gateways {
		if of := went.after.since(went.before, g.name, upstream); g.datacenter == datacenter && of > 0 {
			out[g.name] = of
		}
	}
	for _, s := range d.world.records.await(ctx, began.mark, n-out.total(), began.holds(passedIn(datacenter, upstream))) {
		out[s.gateway]++
	}
	return out
}

// joined sums the connections that each datacenter's gateways have joined.
func (d *demoRun) joined(ctx context.Context) (map[string]uint64, error) {
	out := make(map[string]uint64)
	for _, g := range d.world.gateways {
		n, err := g.joined(ctx)
		if err != nil {
			return nil, err
		}
		out[g.datacenter] += n
	}
	return out, nil
}

// joined are the connections that the gateway has joined, by its own counters.
func (g *worldGateway) joined(ctx context.Context) (uint64, error) {
	var sum uint64
	if g.envoy == nil {
		for route := range g.running.Feed().Table().All {
			sum += route.Counters.Connections.Load()
		}
		return sum, nil
	}
	byCluster, err := g.envoy.joined(ctx)
	for _, n := range byCluster {
		sum += n
	}
	return sum, err
}

// passes waits until a gateway has passed on so many connections from now on, or ctx
// ends, and returns how many it has.
func (d *demoRun) passes(ctx context.Context, g *worldGateway, n int) int {
	if g.envoy == nil {
		now := window{d.world.records.mark(), time.Now()}
		return len(d.world.records.await(ctx, now.mark, n, now.holds(passedBy(g.name))))
	}
	before, err := g.joined(ctx)
	if err != nil {
		return 0
	}
	passed := 0
	_ = every(ctx, 10*time.Millisecond, func(ctx context.Context) (bool, error) { // What there is counts.
		now, err := g.joined(ctx)
		if err == nil {
			passed = int(now - before)
		}
		return passed >= n, err
	})
	return passed
}

// through matches connections of a gateway that began after a moment: its own records,
// and those of sidecars that connected to it.
func through(g *worldGateway, after time.Time) func(seen) bool {
	return func(s seen) bool {
		to := passedBy(g.name)(s) ||
			s.carried != nil && slices.Contains(g.listen, s.carried.Endpoint) && !s.carried.Reason.Refused()
		return to && s.start().After(after)
	}
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// add connects the next ones, up to n in all, and measures what that costs the server.
func (c *crowd) add(ctx context.Context, n int, address string, server family, s *stage) error {
	s.came = n - c.open
	used, err := server.cpu()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := c.connect(ctx, n, address); err != nil {
		return err
	}
	at, err := c.whole.wait(ctx, connectWithin)
	if err != nil {
		return err
	}
	s.connect = at[len(at)-1].Sub(begin)
	since, err := server.cpu()
	if err != nil {
		return err
	}
	s.connectCPU = since - used
	s.memory, err = server.memory()
	return err
}

// flip sets the other global mode, and waits until all that are connected have
// acknowledged all that this changes.
func (p streamsPlan) flip(ctx context.Context, w *meshWorld, c *crowd, server family, within time.Duration, into *[]flip) error {
	// A flip on the heels of another one leaves some proxies of Consul 1.22 with the old mode.
	if err := c.quiet(ctx); err != nil {
		return err
	}
	used, err := server.cpu()
	if err != nil {
		return err
	}
	mode := map[string]string{"local": "remote", "remote": "local"}[w.mode]
	sought := c.seek(gatewayOf(mode), p.upstreams, c.open)
	begin := time.Now()
	if err := w.setMode(ctx, mode); err != nil {
		return err
	}
	at, err := sought.all.whileComing(ctx, within)
	if err != nil && (!errors.Is(err, errNotAll) || within == waitAll) {
		return fmt.Errorf("flip to %s: %w", mode, err)
	}
	slices.SortFunc(at, time.Time.Compare)
	f := flip{last: within, half: within, missing: c.open - len(at)}
	if len(at) > 0 {
		f.last = at[len(at)-1].Sub(begin)
	}
	if half := c.open / 2; half < len(at) {
		f.half = at[half].Sub(begin)
	}
	since, err := server.cpu()
	f.cpu = since - used
	*into = append(*into, f)
	return err
}

// idle is the share of a core that is used while nothing changes.
func (f family) idle(ctx context.Context, d time.Duration) (float64, error) {
	before, err := f.cpu()
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	after, err := f.cpu()
	return (after - before).Seconds() / d.Seconds(), err
}

// heap is what is alive on the heap and the stacks after a collection.
func (n xdsNode) heap(ctx context.Context) (int64, error) {
	if _, err := fetch(ctx, "http://"+n.admin+"/debug/pprof/heap?gc=1"); err != nil {
		return 0, err
	}
	heap, err := n.metric(ctx, "go_memstats_heap_alloc_bytes")
	if err != nil {
		return 0, err
	}
	stacks, err := n.metric(ctx, "go_memstats_stack_inuse_bytes")
	return int64(heap + stacks), err
}

// errNoMetric says that a process does not tell a number.
var errNoMetric = errors.New("there is no such metric")

// metric is one number of a node.
func (n xdsNode) metric(ctx context.Context, name string) (float64, error) {
	page, err := fetch(ctx, "http://"+n.admin+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range linesOf(page) {
		if len(line) > len(name) && line[:len(name)] == name && line[len(name)] == ' ' {
			return strconv.ParseFloat(line[len(name)+1:], 64)
		}
	}
	return 0, fmt.Errorf("%s: %w", name, errNoMetric)
}

// quiet waits until a node has so many streams, and nothing is going on for a second: the
// number of goroutines says both.
func (n xdsNode) quiet(ctx context.Context, streams int) error {
	ctx, cancel := context.WithTimeout(ctx, waitAll)
	defer cancel()
	last, same := 0.0, 0
	for same < 10 {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		now, err := n.metric(ctx, "go_goroutines")
		if err != nil {
			return err
		}
		if same++; now < float64(streams) || now-last > 5 || last-now > 5 {
			same = 0
		}
		last = now
	}
	return nil
}

// medianFlip is that of the last proxy.
func medianFlip(flips []flip) flip {
	if len(flips) == 0 {
		return flip{}
	}
	sorted := slices.SortedFunc(slices.Values(flips), func(a, b flip) int { return cmp.Compare(a.last, b.last) })
	return sorted[len(sorted)/2]
}

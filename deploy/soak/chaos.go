package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// chaosSettings are those of the part chaos, which goes on until it has seen so
// many of each.
type chaosSettings struct {
	swaps, handovers, deaths int
	// flap is how long the endpoint lives, and how long it is dead.
	flap time.Duration
	// drain is how long a gateway that is handed over waits for its connections.
	// Zero: longer than any takes.
	drain time.Duration
}

func (s chaosSettings) check() error {
	if s.swaps < 1 || s.handovers < 0 || 2*s.handovers > s.swaps || s.deaths < 0 || s.flap <= 0 {
		return errors.New("-swaps is at least 1, -handovers from 0 to half as many, -deaths not below 0, -flap above")
	}
	return nil
}

const (
	// steadyServers never die; steadyNames lead to some of them, others after each
	// swap.
	steadyServers = 3
	steadyNames   = 4
	// flapping is a service with one endpoint that lives and one that dies.
	flapping = "flapping"
)

// chaos is the world under load.
type chaos struct {
	settings chaosSettings
	world    *world
	out      io.Writer
	steady   []string
	// mortal is the endpoint that dies.
	mortal *endpoint
	// lives is the address of the flapping service's other endpoint.
	lives string

	// current is the gateway that serves; changing, that a hand-over is on its way.
	current  atomic.Pointer[process]
	changing atomic.Bool

	fails failures
	// fresh and kept count the requests that were answered, on new connections and
	// further ones on kept ones; excused those that a death took along.
	fresh, kept, excused atomic.Int64
	// swapped counts the swaps, seen those that were looked at with connections.
	swapped, seen, handed, died atomic.Int64
}

// soakChaos does to a gateway what must not be noticed.
func soakChaos(ctx context.Context, w *world, s chaosSettings, out io.Writer) ([]verdict, error) {
	c := &chaos{settings: s, world: w, out: out, lives: w.address(20), mortal: newEndpoint(w.address(21))}
	for i := range steadyServers {
		c.steady = append(c.steady, w.address(11+i))
	}
	endpoints := []*endpoint{c.mortal, newEndpoint(c.lives)}
	for _, address := range c.steady {
		endpoints = append(endpoints, newEndpoint(address))
	}
	for _, e := range endpoints {
		if err := e.live(); err != nil {
			return nil, err
		}
		defer e.stop()
	}
	if _, err := w.write(ctx, c.table(0)); err != nil {
		return nil, err
	}
	first, err := c.gateway(ctx)
	if err != nil {
		return nil, err
	}
	c.current.Store(first)
	return c.run(ctx)
}

// gateway starts a gateway that is slow to lose patience: nothing here is about
// deadlines.
func (c *chaos) gateway(ctx context.Context) (*process, error) {
	drain := cmp.Or(c.settings.drain, 2*patience)
	p, err := c.world.gateway("--drain", drain.String(), "--hello-timeout", patience.String(), "--access-log", c.world.path("access.log"))
	if err != nil {
		return nil, err
	}
	return p, p.ready(ctx)
}

// run puts the load on, does all that there is to do at once, and takes the load
// off.
func (c *chaos) run(ctx context.Context) ([]verdict, error) {
	if err := c.look(ctx, 0); err != nil {
		return nil, err
	}
	before, err := c.current.Load().atRest(ctx, 0)
	if err != nil {
		return nil, err
	}
	loading, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	c.startLoad(loading, &load)
	began := time.Now()
	err = c.trouble(ctx)
	stop()
	load.Wait()
	fmt.Fprint(c.out, c.explain(c.fails.first))
	if err != nil {
		return nil, errors.Join(err, c.fails.first)
	}
	fmt.Fprintf(c.out, "chaos: %s under load: %d requests on new connections, %d on kept ones; the dying endpoint took %d of its %d connections along, in which %d requests failed\n",
		time.Since(began).Round(time.Second), c.fresh.Load(), c.kept.Load(), c.mortal.taken(), c.mortal.served.Load(), c.excused.Load())
	last, err := c.last(ctx, before)
	if err != nil {
		return nil, err
	}
	return append(c.verdicts(), last...), c.current.Load().stop(ctx)
}

// last judges the last gateway, by the descriptors that the first one had when it
// was idle; if it is another kind of gateway, it may have more.
func (c *chaos) last(ctx context.Context, before int) ([]verdict, error) {
	after, err := c.current.Load().atRest(ctx, before)
	if err != nil {
		return nil, err
	}
	m, err := c.current.Load().metrics(ctx)
	if err != nil {
		return nil, err
	}
	dropped := int(m.sum("access_log_dropped_total", ""))
	v := verdict{"descriptors of the last gateway, when idle", fmt.Sprint(after), fmt.Sprintf("at most %d", before), after <= before}
	if c.world.kind(0) != c.world.kind(int(c.handed.Load())) {
		v.asked, v.ok = "not judged, of another kind", true
	}
	return []verdict{v, {"lines that its access log dropped", fmt.Sprint(dropped), "0", dropped == 0}}, nil
}

func (c *chaos) verdicts() []verdict {
	atLeast := func(what string, n *atomic.Int64, least int) verdict {
		return verdict{what, fmt.Sprint(n.Load()), fmt.Sprintf("at least %d", least), n.Load() >= int64(least)}
	}
	return []verdict{
		c.fails.verdict("requests that failed with a live endpoint", c.fresh.Load()+c.kept.Load()+c.excused.Load()+c.fails.count()),
		atLeast("table swaps", &c.swapped, c.settings.swaps),
		atLeast("of them looked at with connections", &c.seen, c.settings.swaps/2-c.settings.handovers),
		atLeast("hand-overs, each predecessor ended by itself", &c.handed, c.settings.handovers),
		atLeast("deaths of an endpoint that had been used", &c.died, c.settings.deaths),
	}
}

// trouble swaps tables, hands gateways over and has the endpoint die, all at once.
// The first that goes wrong ends the others.
func (c *chaos) trouble(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	due, over := make(chan straddlers), make(chan struct{})
	var all sync.WaitGroup
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return c.swap(ctx, due, over) },
		func(ctx context.Context) error { return c.handOver(ctx, due, over) },
		c.flap,
	} {
		all.Go(func() {
			if err := step(ctx); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// idleSettings are those of the part idle.
type idleSettings struct {
	// connections are kept open while total new ones come, rate of them each
	// second; a rate of 0 is as many as can.
	connections, rate, total int
	// sample is how often the gateway is looked at.
	sample time.Duration
}

// mostIdle leaves a gateway, which has two descriptors for each, below 20,000 and
// its own limit of connections.
const mostIdle = 9500

func (s idleSettings) check() error {
	if s.connections < 0 || s.connections > mostIdle || s.rate < 0 || s.total < 1 || s.sample <= 0 {
		return fmt.Errorf("-idle is from 0 to %d, -rate not below 0, -duration and -sample above", mostIdle)
	}
	return nil
}

const (
	// atOnce is how many new connections there are at a time, at most.
	atOnce = 64
	// warmUp is how many connections a gateway has carried before its descriptors
	// are counted: what it keeps for later is there then.
	warmUp = 500
	// backends is how many endpoints the service has.
	backends = 4
	// heldRate is the share of the rate that must have been kept to.
	heldRate = 0.98
)

// idleRun is a gateway with its idle connections, and what was seen of it.
type idleRun struct {
	settings idleSettings
	world    *world
	gateway  *process
	hello    []byte
	out      io.Writer

	opened  atomic.Uint64 // connections, of all kinds
	done    atomic.Int64  // new ones that were answered and have ended
	fails   failures
	idle    []*client
	samples []sample
}

// soakIdle keeps idle connections open while new ones come and go.
func soakIdle(ctx context.Context, w *world, s idleSettings, out io.Writer) ([]verdict, error) {
	r := &idleRun{settings: s, world: w, hello: helloFor(sni("api")), out: out}
	var addresses []string
	for i := range backends {
		addresses = append(addresses, w.address(11+i))
	}
	stop, err := startBackend(ctx, addresses...)
	if err != nil {
		return nil, err
	}
	defer stop()
	var table routes
	table.put("api", addresses...)
	if _, err := w.write(ctx, &table); err != nil {
		return nil, err
	}
	if r.gateway, err = w.gateway(); err != nil {
		return nil, err
	}
	if err := r.gateway.ready(ctx); err != nil {
		return nil, err
	}
	return r.run(ctx)
}

func (r *idleRun) run(ctx context.Context) ([]verdict, error) {
	r.load(ctx, warmUp, 0)
	before, err := r.gateway.atRest(ctx, 0)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	r.openIdle(ctx)
	fmt.Fprintf(r.out, "idle: %d connections opened in %s; %d descriptors before\n",
		len(r.idle), time.Since(began).Round(time.Millisecond), before)
	r.done.Store(0)
	began = time.Now()
	if err := r.watched(ctx, began); err != nil {
		return nil, err
	}
	rate := float64(r.done.Load()) / time.Since(began).Seconds()
	alive := r.endIdle()
	after, err := r.gateway.atRest(ctx, before)
	if err != nil {
		return nil, err
	}
	m, err := r.gateway.metrics(ctx)
	if err != nil {
		return nil, err
	}
	verdicts := r.verdicts(rate, alive, before, after, m)
	return verdicts, r.gateway.stop(ctx)
}

// verdicts compares what was seen with what is asked.
func (r *idleRun) verdicts(rate float64, alive, before, after int, m metrics) []verdict {
	accepted, opened := uint64(m.sum("connections_accepted_total", "")), r.opened.Load()
	ended := m.sum("connections_ended_total", `reason="done"`) + m.sum("connections_ended_total", `reason="client_reset"`)
	out := []verdict{
		r.fails.verdict("connections that failed", int64(opened)),
		{"idle connections that answer at the end", fmt.Sprint(alive), fmt.Sprint(r.settings.connections), alive == r.settings.connections},
		{"connections that the gateway accepted", fmt.Sprint(accepted), fmt.Sprint(opened), accepted == opened},
		{"of them ended by their client, as it says", fmt.Sprint(uint64(ended)), fmt.Sprint(opened), uint64(ended) == opened},
		{"descriptors of the gateway, when idle again", fmt.Sprint(after), fmt.Sprintf("at most %d", before), after <= before},
	}
	if r.settings.rate > 0 {
		asked := heldRate * float64(r.settings.rate)
		out = append(out, verdict{"new connections a second", fmt.Sprintf("%.1f", rate), fmt.Sprintf("at least %.0f", asked), rate >= asked})
	}
	return append(out, flat(r.samples))
}

// load opens new connections and ends them, half of them by a reset; it returns
// when all have ended.
func (r *idleRun) load(ctx context.Context, total, rate int) {
	addresses := r.world.addresses()
	tickets := make(chan int)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for i := range tickets {
				if err := r.one(ctx, addresses[i%len(addresses)], i%2 == 0); err != nil {
					r.fails.add(err)
					continue
				}
				r.done.Add(1)
			}
		})
	}
	pace(ctx, total, rate, tickets)
	close(tickets)
	workers.Wait()
}

// one is the life of a new connection.
func (r *idleRun) one(ctx context.Context, address string, orderly bool) error {
	r.opened.Add(1)
	c, err := open(ctx, address, r.hello)
	if err != nil {
		return err
	}
	return c.own(c.end(orderly))
}

// pace hands out numbered tickets, rate of them a second and at once what is late;
// a rate of 0 does not wait.
func pace(ctx context.Context, total, rate int, tickets chan<- int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for next := 0; next < total; {
		due := total
		if rate > 0 {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			due = min(total, int(time.Since(began).Seconds()*float64(rate)))
		}
		for ; next < due; next++ {
			select {
			case tickets <- next:
			case <-ctx.Done():
				return
			}
		}
	}
}

// openIdle opens the connections that are kept.
func (r *idleRun) openIdle(ctx context.Context) {
	addresses := r.world.addresses()
	tickets := make(chan int)
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for i := range tickets {
				r.opened.Add(1)
				c, err := open(ctx, addresses[i%len(addresses)], r.hello)
				if err != nil {
					r.fails.add(fmt.Errorf("an idle connection: %w", err))
					continue
				}
				mu.Lock()
				r.idle = append(r.idle, c)
				mu.Unlock()
			}
		})
	}
	pace(ctx, r.settings.connections, 0, tickets)
	close(tickets)
	workers.Wait()
}

// endIdle asks every idle connection once more, ends it, and returns how many
// answered and ended well.
func (r *idleRun) endIdle() (alive int) {
	for i, c := range r.idle {
		err := c.ask()
		if err == nil {
			err = c.end(i%2 == 0)
		}
		if err != nil {
			_ = c.Close()
			r.fails.add(fmt.Errorf("an idle connection at the end, %w", c.own(err)))
			continue
		}
		alive++
	}
	return alive
}

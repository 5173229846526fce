package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// swapName is a name that only the table after the swap of that number has.
func swapName(swap int) string { return fmt.Sprintf("swap-%d", swap) }

// steadyName is a name that always has a live endpoint.
func steadyName(i int) string { return fmt.Sprintf("steady-%d", i) }

// table is what a swap changes: the endpoints of the steady names, one more and
// one less of them in turn, and the name of the swap before.
func (c *chaos) table(swap int) *routes {
	r := new(routes)
	if swap == 0 {
		r.put(flapping, c.lives, c.mortal.address)
	} else {
		r.forget(swapName(swap - 1))
	}
	for i := range steadyNames {
		first := (swap + i) % steadyServers
		endpoints := []string{c.steady[first]}
		if (swap+i)%2 == 0 {
			endpoints = append(endpoints, c.steady[(first+1)%steadyServers])
		}
		r.put(steadyName(i), endpoints...)
	}
	r.name(swapName(swap), steadyName(swap%steadyNames))
	return r
}

// swap swaps tables one after another: for each hand-over, half of them beside it
// and half of them after it.
func (c *chaos) swap(ctx context.Context, due chan<- straddlers, over <-chan struct{}) error {
	defer close(due)
	half := -1
	for swap := 1; swap <= c.settings.swaps; swap++ {
		if now := 2 * (swap - 1) * c.settings.handovers / c.settings.swaps; now != half && c.settings.handovers > 0 {
			half = now
			if ok, err := c.turn(ctx, half%2 == 0, due, over); !ok {
				return err
			}
		}
		sequence, err := c.world.write(ctx, c.table(swap))
		if err != nil {
			return fmt.Errorf("swap %d: %w", swap, err)
		}
		if err := c.applied(ctx, sequence); err != nil {
			return fmt.Errorf("swap %d: %w", swap, err)
		}
		c.swapped.Add(1)
		if err := c.look(ctx, swap); err != nil {
			return fmt.Errorf("swap %d: %w", swap, err)
		}
	}
	return nil
}

// turn has a hand-over begin, or waits for its end. It is false when ctx ends.
func (c *chaos) turn(ctx context.Context, begin bool, due chan<- straddlers, over <-chan struct{}) (bool, error) {
	if !begin {
		select {
		case <-over:
			return true, nil
		case <-ctx.Done():
			return false, nil
		}
	}
	s, err := c.straddle(ctx)
	if err != nil {
		return false, err
	}
	select {
	case due <- s:
		return true, nil
	case <-ctx.Done():
		return false, nil
	}
}

// applied waits until the gateway that serves has a table of the sequence.
func (c *chaos) applied(ctx context.Context, sequence uint64) error {
	return await(ctx, "the table does not come", func(ctx context.Context) error {
		m, err := c.current.Load().metrics(ctx)
		if has := uint64(m.sum("table_sequence", "")); err == nil && has < sequence {
			err = fmt.Errorf("it is at %d, not %d", has, sequence)
		}
		return err
	})
}

// look asks for the name that a swap added, and for the one that it removed. While
// a hand-over is on its way two gateways accept, of which only one is known to
// have the table.
func (c *chaos) look(ctx context.Context, swap int) error {
	if c.changing.Load() {
		return nil
	}
	if err := c.request(ctx, swap, helloFor(sni(swapName(swap)))); err != nil {
		c.failed(fmt.Sprintf("the name of swap %d", swap), err)
	}
	if swap > 0 {
		if err := c.refused(ctx, swap, swapName(swap-1)); err != nil {
			return err
		}
	}
	c.seen.Add(1)
	return nil
}

// request is a request on a connection of its own.
func (c *chaos) request(ctx context.Context, number int, hello []byte) error {
	addresses := c.world.addresses()
	conn, err := open(ctx, addresses[number%len(addresses)], hello)
	if err != nil {
		return err
	}
	if err := conn.end(number%2 == 0); err != nil {
		return conn.own(err)
	}
	c.fresh.Add(1)
	return nil
}

// unrecognizedName is the TLS alert that a gateway refuses a name with.
var unrecognizedName = []byte{21, 3, 3, 0, 2, 2, 112}

// refused wants a name to be refused.
func (c *chaos) refused(ctx context.Context, number int, name string) error {
	addresses := c.world.addresses()
	conn, err := dial(ctx, addresses[number%len(addresses)])
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.say(asking(helloFor(sni(name)), conn.first)); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err != nil || len(answer) != len(unrecognizedName) || answer[6] != unrecognizedName[6] {
		return fmt.Errorf("%s is not refused: %x (%w)", name, answer, err)
	}
	return nil
}

// handOver starts a successor whenever one is due, waits until the predecessor has
// ended by itself, and says that it is over.
func (c *chaos) handOver(ctx context.Context, due <-chan straddlers, over chan<- struct{}) error {
	for s := range due {
		if err := c.handOverOnce(ctx, s); err != nil {
			return fmt.Errorf("hand-over %d: %w", c.handed.Load()+1, err)
		}
		c.handed.Add(1)
		select {
		case over <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// errCut indicates a predecessor whose drain ended before its connections did.
var errCut = errors.New("the predecessor cut connections")

func (c *chaos) handOverOnce(ctx context.Context, begun straddlers) error {
	c.changing.Store(true)
	defer c.changing.Store(false)
	old := c.current.Load()
	next, err := c.gateway(ctx)
	if err != nil {
		return err
	}
	c.current.Store(next)
	if err := await(ctx, "the predecessor does not drain", func(context.Context) error {
		if !old.said("gateway drains") {
			return errors.New("it has not said so")
		}
		return nil
	}); err != nil {
		return err
	}
	begun.finish(c)
	if err := old.ended(ctx); err != nil {
		return err
	}
	if old.said("the drain ended before") {
		return errCut
	}
	return nil
}

// flap has the endpoint die and return, until the swaps and hand-overs are done
// and it has died often enough. A life in which it was not used does not count, and goes on.
func (c *chaos) flap(ctx context.Context) error {
	tick := time.NewTicker(c.settings.flap)
	defer tick.Stop()
	served := int64(0)
	for alive := true; !c.done(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		switch {
		case !alive:
			if err := c.mortal.live(); err != nil {
				return err
			}
			alive, served = true, c.mortal.served.Load()
		case c.mortal.served.Load() > served:
			if err := c.mortal.die(ctx); err != nil {
				return err
			}
			alive = false
			c.died.Add(1)
		}
	}
	return nil
}

// done reports whether all has been seen that there is to see.
func (c *chaos) done() bool {
	s := c.settings
	return c.swapped.Load() >= int64(s.swaps) && c.handed.Load() >= int64(s.handovers) && c.died.Load() >= int64(s.deaths)
}

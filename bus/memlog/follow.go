package memlog

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// consumer is one following of a stream on its way.
type consumer struct {
	client   *Client
	name     string
	stream   *stream
	resets   int
	snapshot []bus.Message // what is left of the bootstrap
	cursor   uint64        // the last sequence delivered, or jumped to
	begun    bool          // a message was delivered
	again    *bus.Message  // to be delivered a second time
}

// Follow implements [bus.Log].
func (c *Client) Follow(ctx context.Context, name string, handle func(bus.Delivery) error) error {
	f, start, err := c.consume(ctx, name)
	if err != nil {
		return err
	}
	if err := handle(bus.Delivery{Start: &start}); err != nil {
		return err
	}
	for {
		m, delay, err := f.next(ctx)
		if err != nil {
			return err
		}
		if delay > 0 {
			select {
			case <-time.After(delay):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := handle(bus.Delivery{Message: m}); err != nil {
			return err
		}
	}
}

// consume makes the consumer, waiting for the network if it has to.
func (c *Client) consume(ctx context.Context, name string) (*consumer, bus.StreamState, error) {
	w := c.domain.world
	w.mu.Lock()
	defer w.mu.Unlock()
	for c.cut {
		if err := c.wait(ctx, c.healed); err != nil {
			return nil, bus.StreamState{}, err
		}
	}
	s, err := c.stream(name)
	if err != nil {
		return nil, bus.StreamState{}, err
	}
	start := s.state()
	start.Last = s.visible()
	if first := s.first(); start.Last > first && c.chance(w.faults.HalfTransaction, "half", name) {
		start.Last = max(first, start.Last-c.pick(3, "half", name))
	}
	all := func(isthmusv1.Key) bool { return true }
	f := &consumer{client: c, name: name, stream: s, resets: s.resets, cursor: start.Last, snapshot: s.latest(start.Last, all)}
	start.Messages = uint64(len(s.between(0, start.Last)))
	return f, start, nil
}

// wait gives up the world's mutex until something has changed.
func (c *Client) wait(ctx context.Context, changed <-chan struct{}) error {
	c.domain.world.mu.Unlock()
	defer c.domain.world.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// next waits for the next message.
func (f *consumer) next(ctx context.Context) (bus.Message, time.Duration, error) {
	c, w := f.client, f.client.domain.world
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return bus.Message{}, 0, context.Cause(ctx)
		}
		changed := f.stream.changed
		if c.cut {
			changed = c.healed
		} else {
			if err := f.check(); err != nil {
				return bus.Message{}, 0, err
			}
			if m, ok := f.take(); ok {
				return m, c.delay, nil
			}
		}
		if err := c.wait(ctx, changed); err != nil {
			return bus.Message{}, 0, err
		}
	}
}

// check sees to what may have become of the stream and of the consumer.
func (f *consumer) check() error {
	switch now := f.client.domain.streams[f.name]; {
	case now == nil:
		return fmt.Errorf("%s: %w", f.name, bus.ErrNoStream)
	case now != f.stream:
		return fmt.Errorf("%s: incarnation %s was %s: %w", f.name, now.incarnation, f.stream.incarnation, bus.ErrReplaced)
	}
	lost := f.resets != f.stream.resets
	f.resets = f.stream.resets
	if !lost && !f.client.chance(f.client.domain.world.faults.ResetConsumer, "reset", f.name) {
		return nil
	}
	if !f.begun {
		return fmt.Errorf("%s: %w", f.name, bus.ErrReset)
	}
	// A new consumer goes on after the last message delivered, so the rest of a
	// bootstrap comes with all that was superseded.
	f.snapshot = nil
	return nil
}

// take is the next message, if there is one.
func (f *consumer) take() (bus.Message, bool) {
	if m := f.again; m != nil {
		f.again = nil
		return *m, true
	}
	var m bus.Message
	switch {
	case len(f.snapshot) > 0:
		m, f.snapshot = f.snapshot[0], f.snapshot[1:]
	default:
		tail := f.stream.between(f.cursor+1, f.stream.visible())
		if len(tail) == 0 {
			return bus.Message{}, false
		}
		m = tail[0]
	}
	f.cursor, f.begun = m.Sequence, true
	if f.client.chance(f.client.domain.world.faults.Duplicate, "duplicate", f.name) {
		f.again = &m
	}
	return m, true
}

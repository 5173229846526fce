package memlog

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Client is one process's connection to a log.
type Client struct {
	domain *domain
	name   string

	// The world's mutex guards these.
	cut       bool
	delay     time.Duration
	healed    chan struct{} // closed when cut ends
	decisions map[string]uint64
}

func newClient(d *domain, name string) *Client {
	return &Client{domain: d, name: name, healed: make(chan struct{}), decisions: make(map[string]uint64)}
}

// Cut takes the client off the network, or puts it back: nothing arrives, no
// request is answered, and none is carried out.
func (c *Client) Cut(cut bool) {
	c.domain.world.mu.Lock()
	defer c.domain.world.mu.Unlock()
	if c.cut && !cut {
		close(c.healed)
		c.healed = make(chan struct{})
	}
	c.cut = cut
}

// Delay lets the client see each message that much later: a stale view.
func (c *Client) Delay(delay time.Duration) {
	c.domain.world.mu.Lock()
	defer c.domain.world.mu.Unlock()
	c.delay = delay
}

// enter takes the world's mutex for a request, unless nobody answers.
func (c *Client) enter(ctx context.Context, what string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	c.domain.world.mu.Lock()
	if !c.cut {
		return nil
	}
	c.domain.world.mu.Unlock()
	return noAnswer(ctx, what)
}

func noAnswer(ctx context.Context, what string) error {
	select {
	case <-time.After(unanswered):
		return fmt.Errorf("%s: %w", what, bus.ErrUnanswered)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w: %w", what, bus.ErrUnanswered, context.Cause(ctx))
	}
}

func (c *Client) stream(name string) (*stream, error) {
	s := c.domain.streams[name]
	if s == nil {
		return nil, fmt.Errorf("%s: %w", name, bus.ErrNoStream)
	}
	return s, nil
}

// Create implements [bus.Log].
func (c *Client) Create(ctx context.Context, config bus.StreamConfig) (bus.StreamState, error) {
	if err := c.enter(ctx, config.Name); err != nil {
		return bus.StreamState{}, err
	}
	defer c.domain.world.mu.Unlock()
	return c.domain.create(config)
}

// State implements [bus.Log].
func (c *Client) State(ctx context.Context, name string) (bus.StreamState, error) {
	if err := c.enter(ctx, name); err != nil {
		return bus.StreamState{}, err
	}
	defer c.domain.world.mu.Unlock()
	s, err := c.stream(name)
	if err != nil {
		return bus.StreamState{}, err
	}
	return s.state(), nil
}

// Streams implements [bus.Log].
func (c *Client) Streams(ctx context.Context) ([]string, error) {
	if err := c.enter(ctx, "streams"); err != nil {
		return nil, err
	}
	defer c.domain.world.mu.Unlock()
	var names []string
	for name := range c.domain.streams {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Append implements [bus.Log].
func (c *Client) Append(ctx context.Context, name string, expectedLast uint64, messages []bus.Message) (uint64, error) {
	return c.store(ctx, name, &expectedLast, messages)
}

// Publish implements [bus.Log].
func (c *Client) Publish(ctx context.Context, name string, message bus.Message) error {
	_, err := c.store(ctx, name, nil, []bus.Message{message})
	return err
}

func (c *Client) store(ctx context.Context, name string, expectedLast *uint64, messages []bus.Message) (uint64, error) {
	if err := bus.CheckMessages(name, messages); err != nil {
		return 0, err
	}
	if err := c.enter(ctx, name); err != nil {
		return 0, err
	}
	last, lost, err := c.storeLocked(name, expectedLast, messages)
	c.domain.world.mu.Unlock()
	if lost {
		return 0, noAnswer(ctx, name)
	}
	return last, err
}

func (c *Client) storeLocked(name string, expectedLast *uint64, messages []bus.Message) (last uint64, lost bool, err error) {
	s, err := c.stream(name)
	if err != nil {
		return 0, false, err
	}
	if s.config.Mirror != nil {
		return 0, false, fmt.Errorf("%s is a mirror and takes no messages: %w", name, bus.ErrNoStream)
	}
	if s.loseRequest || c.chance(c.domain.world.faults.LostRequest, "lost request", name) {
		s.loseRequest = false
		return 0, true, nil
	}
	if expectedLast != nil && *expectedLast != s.last {
		return 0, false, fmt.Errorf("%s: expected %d, is %d: %w", name, *expectedLast, s.last, bus.ErrWrongSequence)
	}
	for _, m := range messages {
		s.add(bus.Message{Key: m.Key, Record: m.Record, Sequence: s.last + 1, Time: time.Now()})
	}
	s.wake()
	c.domain.world.copyAll()
	lost = s.loseAnswer || c.chance(c.domain.world.faults.LostAnswer, "lost answer", name)
	s.loseAnswer = false
	return s.last, lost, nil
}

// History implements [bus.Log].
func (c *Client) History(ctx context.Context, name string, from, to uint64) iter.Seq2[bus.Message, error] {
	return func(yield func(bus.Message, error) bool) {
		messages, err := c.history(ctx, name, from, to)
		for _, m := range messages {
			if !yield(m, nil) {
				return
			}
		}
		if err != nil {
			yield(bus.Message{}, err)
		}
	}
}

func (c *Client) history(ctx context.Context, name string, from, to uint64) ([]bus.Message, error) {
	if err := c.enter(ctx, name); err != nil {
		return nil, err
	}
	defer c.domain.world.mu.Unlock()
	s, err := c.stream(name)
	if err != nil {
		return nil, err
	}
	if to == 0 || to > s.last {
		to = s.last
	}
	if from > 0 && from <= to && from < s.first() {
		return nil, fmt.Errorf("%s at %d: begins at %d: %w", name, from, s.first(), bus.ErrNotRetained)
	}
	messages := s.between(from, to)
	for i, m := range messages {
		if i > 0 && m.Sequence != messages[i-1].Sequence+1 {
			return messages[:i], fmt.Errorf("%s at %d: came after %d: %w", name, m.Sequence, messages[i-1].Sequence, bus.ErrGap)
		}
	}
	return slices.Clone(messages), nil
}

// Latest implements [bus.Log].
func (c *Client) Latest(ctx context.Context, name string, keys []isthmusv1.Key, upTo uint64) ([]bus.Message, error) {
	if err := c.enter(ctx, name); err != nil {
		return nil, err
	}
	defer c.domain.world.mu.Unlock()
	s, err := c.stream(name)
	if err != nil {
		return nil, err
	}
	if upTo == 0 || upTo > s.last {
		upTo = s.last
	}
	if upTo > 0 && c.chance(c.domain.world.faults.StaleRead, "stale read", name) {
		upTo--
	}
	wanted := make(map[isthmusv1.Key]bool, len(keys))
	for _, key := range keys {
		wanted[key] = true
	}
	return s.latest(upTo, func(key isthmusv1.Key) bool { return wanted[key] }), nil
}

package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Settings of a consumer: loss is noticed after two missed heartbeats, and a
// consumer whose reader is gone disappears by itself.
const (
	consumerHeartbeat = 500 * time.Millisecond
	consumerExpiry    = 5 * time.Second
	consumerInactive  = 30 * time.Second
	consumerBuffer    = 5000
)

// cursor reads a stream in order. It is an ordered consumer whose resets are
// seen: the client library's own would repeat the first policy when nothing was
// received yet, which shows half of what happened in between.
type cursor struct {
	j      *JetStream
	stream string
	// next is the sequence to go on from after a loss.
	next uint64
	// delivered is the consumer's own count, which must not jump.
	delivered uint64
	consumer  jetstream.Consumer
	messages  jetstream.MessagesContext
	unlisten  func()
}

// open makes a consumer: from the last message of each key, or from next.
func (c *cursor) open(ctx context.Context, policy jetstream.DeliverPolicy) error {
	c.close(ctx)
	subjects, err := streamSubjects(c.stream)
	if err != nil {
		return err
	}
	cc := jetstream.ConsumerConfig{
		Name: "isthmus-" + randomID(), DeliverPolicy: policy, FilterSubject: subjects,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1,
		InactiveThreshold: consumerInactive,
	}
	if policy == jetstream.DeliverByStartSequencePolicy {
		cc.OptStartSeq = c.next
	}
	asking, cancel := c.j.request(ctx, 0)
	defer cancel()
	consumer, err := c.j.js.CreateConsumer(asking, c.stream, cc)
	if err != nil {
		return named(ctx, c.stream, err)
	}
	c.consumer, c.delivered = consumer, 0
	messages, err := consumer.Messages(jetstream.PullMaxMessages(consumerBuffer), jetstream.PullExpiry(consumerExpiry), jetstream.PullHeartbeat(consumerHeartbeat))
	if err != nil {
		return named(ctx, c.stream, err)
	}
	c.messages, c.unlisten = messages, c.j.lost.add(messages.Stop)
	return nil
}

// errLost: the consumer, or something that it sent, is gone.
var errLost = errors.New("the consumer was lost")

// read waits for the next message. The error errLost asks for a new consumer.
func (c *cursor) read(ctx context.Context) (Message, error) {
	m, err := c.messages.Next(jetstream.NextContext(ctx))
	switch {
	case ctx.Err() != nil:
		return Message{}, context.Cause(ctx)
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, jetstream.ErrConnectionClosed):
		return Message{}, fmt.Errorf("%s: %w", c.stream, err)
	case err != nil:
		return Message{}, fmt.Errorf("%s: %w: %w", c.stream, errLost, err)
	}
	meta, err := m.Metadata()
	if err != nil {
		return Message{}, fmt.Errorf("%s: %w: %w", c.stream, ErrMalformed, err)
	}
	if c.delivered++; meta.Sequence.Consumer != c.delivered {
		return Message{}, fmt.Errorf("%s: %w: %d of its messages came, %d were sent", c.stream, errLost, c.delivered-1, meta.Sequence.Consumer-1)
	}
	_, _, key, err := ParseSubject(m.Subject())
	if err != nil {
		return Message{}, fmt.Errorf("%s at %d: %w", c.stream, meta.Sequence.Stream, err)
	}
	c.next = meta.Sequence.Stream + 1
	return Message{Key: key, Record: m.Data(), Sequence: meta.Sequence.Stream, Time: meta.Timestamp}, nil
}

// close gives the consumer back. If that fails, it disappears by itself.
func (c *cursor) close(ctx context.Context) {
	if c.messages != nil {
		c.unlisten()
		c.messages.Stop()
		c.messages = nil
	}
	if c.consumer == nil {
		return
	}
	name := c.consumer.CachedInfo().Name
	c.consumer = nil
	if !c.j.nc.IsConnected() {
		return
	}
	deleting, cancel := context.WithTimeout(context.WithoutCancel(ctx), consumerHeartbeat)
	defer cancel()
	if err := c.j.js.DeleteConsumer(deleting, c.stream, name); err != nil {
		c.j.log.Debug("a consumer was left behind", "stream", c.stream, "err", err)
	}
}

// Follow implements [Log].
func (j *JetStream) Follow(ctx context.Context, stream string, handle func(Delivery) error) error {
	c := &cursor{j: j, stream: stream}
	defer func() { c.close(ctx) }()
	if err := patiently(ctx, func() error { return c.open(ctx, jetstream.DeliverLastPerSubjectPolicy) }); err != nil {
		return err
	}
	// The consumer was made before: what it does not show was stored later.
	start, err := j.patientState(ctx, stream)
	if err != nil {
		return err
	}
	if start.Messages == 0 {
		c.next = start.Last + 1
	}
	if err := handle(Delivery{Start: &start}); err != nil {
		return err
	}
	for {
		m, err := c.read(ctx)
		if errors.Is(err, errLost) {
			j.log.Debug("consumer is replaced", "stream", stream, "err", err)
			err = c.replace(ctx, start)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if err := handle(Delivery{Message: m}); err != nil {
			return err
		}
	}
}

func (j *JetStream) patientState(ctx context.Context, stream string) (state StreamState, err error) {
	err = patiently(ctx, func() error {
		state, err = j.State(ctx, stream)
		return err
	})
	return state, err
}

// replace makes a new consumer that goes on where the lost one was, unless the
// stream is no longer what it was.
func (c *cursor) replace(ctx context.Context, start StreamState) error {
	if c.next == 0 {
		return fmt.Errorf("%s: %w", c.stream, ErrReset)
	}
	return patiently(ctx, func() error {
		if err := c.open(ctx, jetstream.DeliverByStartSequencePolicy); err != nil {
			return err
		}
		now, err := c.j.State(ctx, c.stream)
		switch {
		case err != nil:
			return err
		case now.Incarnation != start.Incarnation:
			return fmt.Errorf("%s: incarnation %q was %q: %w", c.stream, now.Incarnation, start.Incarnation, ErrReplaced)
		case now.Last+1 < c.next:
			return fmt.Errorf("%s: ends at %d, read up to %d: %w", c.stream, now.Last, c.next-1, ErrReplaced)
		case now.First > c.next:
			return fmt.Errorf("%s: begins at %d, read up to %d: %w", c.stream, now.First, c.next-1, ErrGap)
		}
		return nil
	})
}

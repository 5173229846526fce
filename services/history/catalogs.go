package history

import (
	"context"
	"fmt"
	"iter"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// catalogs drives a machine from basis to basis.
type catalogs struct {
	log     bus.Log
	machine Machine
	streams map[string]*catalog
}

// catalog is one stream on its way.
type catalog struct {
	position *isthmusv1.Position
	memory   *memory
	next     func() (*isthmusv1.Transaction, error, bool)
	stop     func()
	// ahead was read and is beyond the basis.
	ahead *isthmusv1.Transaction
}

func (c *catalogs) close() {
	for _, stream := range c.streams {
		stream.stop()
	}
}

// advance brings every catalog to its position in the basis, and returns what
// happened on the way; a catalog's first state is not among it.
//
// Possible errors: [bus.ErrNotRetained], [bus.ErrIncarnation], [bus.ErrNoStream].
func (c *catalogs) advance(ctx context.Context, basis *isthmusv1.Basis) ([]step, error) {
	for name, stream := range c.streams {
		if basis.At(name) == nil {
			stream.stop()
			delete(c.streams, name)
			c.machine.RemoveStream(name)
		}
	}
	var steps []step
	for _, position := range basis.GetPositions() {
		taken, err := c.advanceStream(ctx, position)
		if err != nil {
			return nil, err
		}
		steps = append(steps, taken...)
	}
	return steps, nil
}

func (c *catalogs) advanceStream(ctx context.Context, to *isthmusv1.Position) ([]step, error) {
	stream := c.streams[to.GetStream()]
	if stream == nil || stream.position.GetIncarnation() != to.GetIncarnation() || stream.position.GetSequence() > to.GetSequence() {
		return nil, c.open(ctx, to)
	}
	var steps []step
	for stream.position.GetSequence() < to.GetSequence() {
		t := stream.ahead
		stream.ahead = nil
		if t == nil {
			next, err, ok := stream.next()
			if err != nil {
				return nil, err
			}
			if !ok {
				return nil, fmt.Errorf("%s at %d: %w", to.GetStream(), to.GetSequence(), bus.ErrNotYet)
			}
			t = next
		}
		if t.Sequence > to.GetSequence() {
			stream.ahead = t
			return nil, fmt.Errorf("%s at %d: the basis is within a transaction, which ends at %d", to.GetStream(), to.GetSequence(), t.Sequence)
		}
		c.machine.Apply(t)
		stream.position = t.Position()
		for _, change := range t.Changes {
			steps = append(steps, stream.memory.take(t.Incarnation, change, nil))
		}
	}
	return steps, nil
}

// open gives the machine a catalog's whole state, and goes on from there.
func (c *catalogs) open(ctx context.Context, at *isthmusv1.Position) error {
	state, err := c.log.State(ctx, at.GetStream())
	if err != nil {
		return err
	}
	// Asked before the sequence is: a stream that was made again may be shorter.
	if state.Incarnation != "" && state.Incarnation != at.GetIncarnation() {
		return fmt.Errorf("%s was made again since: %w", at.GetStream(), bus.ErrIncarnation)
	}
	t, err := bus.StateAt(ctx, c.log, at.GetStream(), at.GetSequence())
	if err != nil {
		return err
	}
	if t.Incarnation != at.GetIncarnation() {
		return fmt.Errorf("%s was made again since: %w", at.GetStream(), bus.ErrIncarnation)
	}
	if old := c.streams[at.GetStream()]; old != nil {
		old.stop()
	}
	c.machine.Apply(t)
	stream := &catalog{position: t.Position(), memory: newMemory(at.GetStream(), true)}
	for _, change := range t.Changes {
		stream.memory.take(t.Incarnation, change, nil)
	}
	stream.next, stream.stop = iter.Pull2(transactions(ctx, c.log, t.Position(), state.Last))
	c.streams[at.GetStream()] = stream
	return nil
}

// transactions yields the closed transactions after a position, up to a sequence.
func transactions(ctx context.Context, log bus.Log, after *isthmusv1.Position, to uint64) iter.Seq2[*isthmusv1.Transaction, error] {
	return func(yield func(*isthmusv1.Transaction, error) bool) {
		if to <= after.GetSequence() {
			return
		}
		stage := bus.ResumeStage(after)
		for m, err := range log.History(ctx, after.GetStream(), after.GetSequence()+1, to) {
			if err != nil {
				yield(nil, err)
				return
			}
			t, err := stage.Add(m)
			if err != nil {
				yield(nil, err)
				return
			}
			if t != nil && !yield(t, nil) {
				return
			}
		}
	}
}

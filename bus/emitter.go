package bus

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// EmitterConfig is what an [Emitter] is made of.
type EmitterConfig struct {
	// Writer writes the stream. The emitter does not run it.
	Writer *Writer
	// Ready takes from the machine what it changed since the last call; false:
	// it has nothing to say yet. A [Put] without a value ends its key.
	Ready func() ([]Put, bool)
	// All is the machine's whole output.
	All func() iter.Seq2[isthmusv1.Key, proto.Message]
	// Failed is told of a write that did not succeed and is tried again. Not
	// being active is no failure. May be nil.
	Failed func(error)
	// RetryAfter is the wait before that. 0: a second.
	RetryAfter time.Duration
}

// Emitter keeps a stream equal to the output of a machine that a [Drive] drives:
// give the drive its Emit and its Wake, and run its Run beside the drive's.
//
// In a turn of office that it has compared the log in, it writes what the
// machine changed. While another process writes, and after a write that failed,
// it lets go of what changed: what it writes next is the whole difference
// between the log and the machine.
type Emitter struct {
	cfg    EmitterConfig
	notify <-chan struct{}
	wake   chan struct{}
	// turn is the turn of office that the log was compared in; zero: compare it.
	// It belongs to Emit.
	turn Turn
	// failed: the last write has to be tried again.
	failed atomic.Bool
}

// NewEmitter returns an emitter; make it before the writer runs.
func NewEmitter(cfg EmitterConfig) *Emitter {
	if cfg.RetryAfter == 0 {
		cfg.RetryAfter = time.Second
	}
	if cfg.Failed == nil {
		cfg.Failed = func(error) {}
	}
	return &Emitter{cfg: cfg, notify: cfg.Writer.Notify(), wake: make(chan struct{}, 1)}
}

// Wake is [Drive.Wake].
func (e *Emitter) Wake() <-chan struct{} { return e.wake }

// Run makes the drive go round when the writer's turn has come or gone, and
// after a write that failed, until the context ends.
func (e *Emitter) Run(ctx context.Context) error {
	retry := time.NewTicker(e.cfg.RetryAfter)
	defer retry.Stop()
	for {
		select {
		case <-e.notify:
		case <-retry.C:
			if !e.failed.Load() {
				continue
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// Emit is [Drive.Emit]: it writes what the log lacks of the machine's output at
// a basis. Its only error is the context's cause.
func (e *Emitter) Emit(ctx context.Context, basis *isthmusv1.Basis) error {
	changes, ready := e.cfg.Ready()
	turn := e.cfg.Writer.Turn()
	if !ready || turn == (Turn{}) {
		e.turn = Turn{}
		return nil
	}
	d, err := e.difference(changes, basis, turn)
	if err == nil {
		_, err = e.cfg.Writer.Write(ctx, d)
	}
	e.failed.Store(err != nil)
	if err == nil {
		e.turn = turn
		return nil
	}
	e.turn = Turn{}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !errors.Is(err, ErrNotActive) { // The writer says when it is active again.
		e.cfg.Failed(err)
	}
	return nil
}

// difference is the change alone, or in a new turn everything that the log does
// not have.
func (e *Emitter) difference(changes []Put, basis *isthmusv1.Basis, turn Turn) (Difference, error) {
	d := Difference{Basis: basis, Turn: turn}
	if e.turn == turn {
		d.Puts = changes
		return d, nil
	}
	snapshot, err := e.cfg.Writer.Snapshot()
	if err != nil {
		return d, err
	}
	live := make(map[isthmusv1.Key]bool)
	for key, value := range e.cfg.All() {
		live[key] = true
		d.Puts = append(d.Puts, Put{Key: key, Value: value})
	}
	for key := range snapshot.Values {
		if !live[key] && key.Kind != isthmusv1.KindWriter && key.Kind != isthmusv1.KindBasis {
			d.Deletes = append(d.Deletes, key)
		}
	}
	return d, nil
}

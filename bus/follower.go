package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Waits between two attempts to follow a stream: doubled after each attempt
// that brought no transaction.
const (
	restartAtLeast = 50 * time.Millisecond
	restartAtMost  = 5 * time.Second
)

// follower stages one stream for a [Drive], for ever.
type follower struct {
	log    Log
	stream string
	logger *slog.Logger
	events chan<- driveEvent

	stage *Stage
	// applied is the position handed out last, to see a stream go back.
	applied *isthmusv1.Position
	moved   bool
	// unfilled is what the loop was told last of the first fill.
	unfilled bool
}

// run follows the stream until the context ends, starting over as often as it
// has to.
func (f *follower) run(ctx context.Context) {
	wait := restartAtLeast
	for ctx.Err() == nil {
		f.moved = false
		err := f.log.Follow(ctx, f.stream, func(d Delivery) error { return f.handle(ctx, d) })
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrNoStream) {
			f.logger.Debug("stream is not there yet", "err", err)
		} else {
			f.logger.Log(ctx, severity(err), "following starts over", "err", err)
		}
		if f.send(ctx, driveEvent{trouble: err}) != nil {
			return
		}
		if f.moved {
			wait = restartAtLeast
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, restartAtMost)
	}
}

func (f *follower) handle(ctx context.Context, d Delivery) error {
	if d.Start != nil {
		return f.begin(ctx, *d.Start)
	}
	t, err := f.stage.Add(d.Message)
	if err == nil && t == nil && f.stage.Need() != nil {
		t, err = answerNeed(ctx, f.log, f.stage)
	}
	if err != nil {
		return err
	}
	return f.hand(ctx, t, nil)
}

// begin starts a stage, unless the stream cannot be what it should be.
func (f *follower) begin(ctx context.Context, start StreamState) error {
	if start.Mirror != nil && start.Deleted > 0 {
		return fmt.Errorf("%s: %d of %d to %d: %w", f.stream, start.Deleted, start.First, start.Last, ErrMirrorHoles)
	}
	if p := f.applied; p != nil && p.GetIncarnation() == start.Incarnation && start.Last < p.GetSequence() {
		if start.Mirror != nil {
			return fmt.Errorf("%s: the mirror is filled again and ends at %d, applied is %d: %w", f.stream, start.Last, p.GetSequence(), ErrReplaced)
		}
		f.logger.Error("the stream has lost messages: it ends before what was applied of it",
			"last", start.Last, "applied", p.GetSequence())
	}
	f.stage = NewStage(start)
	t, err := f.stage.Begin()
	if err != nil {
		return err
	}
	return f.hand(ctx, t, &start)
}

// hand tells the loop what came of a delivery.
func (f *follower) hand(ctx context.Context, t *isthmusv1.Transaction, start *StreamState) error {
	e := driveEvent{transaction: t, start: start, last: f.stage.Last(), unfilled: f.stage.phase == filling}
	if t == nil && start == nil && e.unfilled == f.unfilled {
		return nil
	}
	f.unfilled = e.unfilled
	if t != nil {
		f.applied, f.moved = t.Position(), true
	}
	return f.send(ctx, e)
}

func (f *follower) send(ctx context.Context, e driveEvent) error {
	e.stream = f.stream
	select {
	case f.events <- e:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// answerNeed fetches what a stage needs at the end of a bootstrap.
func answerNeed(ctx context.Context, log Log, stage *Stage) (*isthmusv1.Transaction, error) {
	need := stage.Need()
	if need.UpTo == 0 {
		return stage.Fill(nil, nil)
	}
	var closed Message
	for m, err := range log.History(ctx, stage.start.Stream, need.UpTo, need.UpTo) {
		if errors.Is(err, ErrNotRetained) {
			stage.Wait()
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		closed = m
	}
	earlier, err := log.Latest(ctx, stage.start.Stream, need.Keys, need.UpTo)
	if err != nil {
		return nil, err
	}
	return stage.Fill(earlier, &closed)
}

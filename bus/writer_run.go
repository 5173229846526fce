package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// now is event time and the clock of heartbeats; never used for order.
func now() time.Time { return time.Now() }

// Waits of a writer whose log does not answer.
const (
	writerRetry = 100 * time.Millisecond
	writerIdle  = 5 * time.Second
)

// Run follows the stream, and holds it when it is this writer's turn, until the
// context ends; then it asks the others to take over, and returns the context's
// cause. Possible error: [ErrMirror]. All its goroutines have ended when it
// returns.
func (w *Writer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil)
	parts.Go(func() { w.listen(ctx) })
	parts.Go(func() { w.follow(ctx, cancel) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-w.kick:
		case <-timer.C:
		case <-ctx.Done():
			w.resign(ctx)
			return context.Cause(ctx)
		}
		timer.Reset(w.step(ctx))
	}
}

// follow keeps the state, starting over as often as it has to.
func (w *Writer) follow(ctx context.Context, giveUp context.CancelCauseFunc) {
	for ctx.Err() == nil {
		following, stop := context.WithCancelCause(ctx)
		w.mu.Lock()
		w.refollow = stop
		w.mu.Unlock()
		state, err := w.cfg.Log.Create(following, StreamConfig{Name: w.cfg.Stream, MaxMessages: w.cfg.MaxMessages, Replicas: w.cfg.Replicas})
		if err == nil && state.Mirror != nil {
			giveUp(fmt.Errorf("%s of domain %s: %w", w.cfg.Stream, state.Mirror.Domain, ErrMirror))
			return
		}
		if err == nil {
			var boot writerBoot
			err = w.cfg.Log.Follow(following, w.cfg.Stream, func(d Delivery) error { return w.deliver(following, &boot, d) })
		}
		stop(nil)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrNoStream) || errors.Is(err, ErrReplaced) || errors.Is(err, ErrIncarnation) {
			w.mu.Lock()
			w.dropState()
			w.mu.Unlock()
		}
		w.log.Log(ctx, severity(err), "following the own stream starts over", "err", err)
		select {
		case <-time.After(writerRetry):
		case <-ctx.Done():
		}
	}
}

// listen takes the heartbeats of whoever is active.
func (w *Writer) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.cfg.Log.Heartbeats(ctx, w.cfg.Stream, w.hear)
		if ctx.Err() != nil {
			return
		}
		w.log.Log(ctx, severity(err), "heartbeats cannot be heard", "err", err)
		select {
		case <-time.After(writerRetry):
		case <-ctx.Done():
		}
	}
}

// hear takes one heartbeat. Those of terms that have passed mean nothing.
func (w *Writer) hear(beat Heartbeat) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil || beat.Term < w.state.term || beat.Term == w.term {
		return
	}
	w.heard = now()
	if w.sourceLost != beat.SourceLost {
		w.sourceLost = beat.SourceLost
		w.wake()
	}
}

// wake makes Run look again.
func (w *Writer) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// step does what is due, and returns when something will be again.
func (w *Writer) step(ctx context.Context) time.Duration {
	w.mu.Lock()
	booted, active := w.state != nil, w.term != 0
	w.mu.Unlock()
	switch {
	case !booted:
		return writerIdle // The end of the bootstrap kicks.
	case active:
		return w.stepActive(ctx)
	default:
		return w.stepFollower(ctx)
	}
}

// stepActive sends the heartbeat, and the basis that has waited.
func (w *Writer) stepActive(ctx context.Context) time.Duration {
	live := w.sourceLive()
	w.mu.Lock()
	beat, due := Heartbeat{Term: w.term, Owner: w.cfg.Owner, SourceLost: !live}, !now().Before(w.beatAt)
	if due {
		w.beatAt = now().Add(w.cfg.HeartbeatInterval)
	}
	w.mu.Unlock()
	if due {
		if err := w.cfg.Log.Beat(ctx, w.cfg.Stream, beat); err != nil {
			w.log.Debug("heartbeat was not sent", "err", err)
		}
	}
	w.flushBasis(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	next := w.beatAt
	if w.pending != nil && w.basisAt.Before(next) {
		next = w.basisAt
	}
	return max(next.Sub(now()), time.Millisecond)
}

func (w *Writer) sourceLive() bool { return w.cfg.SourceLive == nil || w.cfg.SourceLive() }

// stepFollower takes over when nobody is active, the active one has fallen
// silent, or it has lost its source.
func (w *Writer) stepFollower(ctx context.Context) time.Duration {
	live := w.sourceLive()
	w.mu.Lock()
	silent := w.heard.Add(w.cfg.TakeoverAfter)
	due := w.state != nil && (w.state.term == 0 || w.sourceLost || !now().Before(silent))
	ready := live && w.state != nil && w.state.rules <= w.cfg.RulesVersion
	if !due || !ready {
		defer w.mu.Unlock()
		if due {
			return writerRetry // Waiting for the own source, or for newer rules elsewhere.
		}
		return max(silent.Sub(now()), time.Millisecond)
	}
	w.mu.Unlock()
	if err := w.takeOver(ctx); err != nil {
		if ctx.Err() == nil {
			w.log.Info("did not take over", "err", err)
		}
		return writerRetry
	}
	return 0
}

// takeOver writes the next term onto the tail. Whoever was faster wins.
func (w *Writer) takeOver(ctx context.Context) error {
	if err := w.writing.take(ctx); err != nil {
		return err
	}
	defer w.writing.give()
	if err := w.readTail(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	if w.state == nil || (w.state.term != 0 && !w.sourceLost && now().Before(w.heard.Add(w.cfg.TakeoverAfter))) {
		w.mu.Unlock()
		return ErrNotActive // Somebody else was faster.
	}
	if w.state.rules > w.cfg.RulesVersion {
		w.mu.Unlock()
		return ErrOldRules
	}
	term := w.state.term + 1
	value, err := isthmusv1.Marshal(&isthmusv1.Writer{Term: term, Owner: w.cfg.Owner})
	if err != nil {
		w.mu.Unlock()
		return err
	}
	tx, err := w.state.transaction(w.cfg.Instance, term, []change{{key: isthmusv1.WriterKey(), value: value}}, w.state.wholeMark())
	w.mu.Unlock()
	if err != nil {
		return err
	}
	if err := w.append(ctx, tx); err != nil {
		if !errors.Is(err, ErrUnanswered) {
			return errors.Join(err, w.readTail(ctx))
		}
		if err := w.readTail(ctx); err != nil {
			return err
		}
	}
	if err := w.hold(term, tx.id); err != nil {
		return err
	}
	// The new term took a place in the log: keys may have come into the older half.
	keep := &writeJob{writer: w, turn: w.Turn(), ids: make(map[string]bool)}
	return keep.run(ctx)
}

// hold makes this writer the active one, if the term at the tail is its own.
func (w *Writer) hold(term uint64, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil || w.state.term != term || w.state.lastTransaction != id {
		return ErrNotActive
	}
	w.term, w.sourceLost, w.beatAt, w.basisAt = term, false, time.Time{}, time.Time{}
	w.log.Info("took over", "term", term)
	w.tell()
	return nil
}

// resign asks the others to take over at once.
func (w *Writer) resign(ctx context.Context) {
	w.mu.Lock()
	term := w.term
	w.term, w.pending = 0, nil
	w.tell()
	w.mu.Unlock()
	if term == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writerRetry)
	defer cancel()
	if err := w.cfg.Log.Beat(ctx, w.cfg.Stream, Heartbeat{Term: term, Owner: w.cfg.Owner, SourceLost: true}); err != nil {
		w.log.Debug("the last heartbeat was not sent", "err", err)
	}
}

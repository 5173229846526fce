package consul

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/watcher"
)

// follow asks a query again and again, each time waiting beyond the index of the
// last answer, and hands over what it answers.
//
// The rules of the index are Consul's own (website: features/blocking): one that
// goes backwards, as after a restore, is started anew; 0 counts as 1, since 0 does
// not wait; a return says nothing about a change. One without progress is asked
// again without waiting, since beyond an index from before a restore it would wait
// in vain; and so is everything, when one ends long before its time.
func (s *Source) follow(ctx context.Context, q query) {
	var (
		index, seen uint64
		partial     string
	)
	pause, generation := newBackoff(), s.generation()
	for ctx.Err() == nil {
		if generation.Err() != nil {
			generation, index = s.generation(), 0
		}
		wait, began := jitter(s.waitFor(partial)), time.Now()
		state, err := during(ctx, generation, func(ctx context.Context) (watcher.State, error) {
			return q.fetch(ctx, consul.Query{Index: index, Wait: wait, Consistency: q.consistency})
		})
		if generation.Err() != nil {
			continue
		}
		if err != nil {
			// The next one does not wait: a source that is there again is seen at once.
			index = 0
			s.failed(ctx, q.scope, err)
			pause.wait(ctx, err)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		s.succeeded(q.scope)
		partial = state.Partial
		switch {
		case state.Index == 0:
			// Nothing to wait beyond: a refusal, or a node that is not shown.
			state.After = seen
			s.present(state)
			s.askForNodes()
			pause.wait(ctx, errNoIndex)
			continue
		case state.Index <= index:
			// No progress: the wait is over, or the server has let go of a state that a
			// restore replaced, and answers with the old one. Asked at once, it says which.
			if q.alone && time.Since(began) < wait {
				s.abandoned(generation)
			}
			index = 0
		default:
			index = max(state.Index, 1)
		}
		pause.reset()
		// An index that went backwards has not been seen after a higher one.
		state.After = min(seen, state.Index)
		seen = state.Index
		s.present(state)
		if !sleep(ctx, respite(len(state.Values))) {
			return
		}
	}
}

// Answers of more than fewValues are asked for less often, the larger the less: each
// costs Consul and us all that it holds, whatever changed. A node with thousands of
// instances is one that a synchronisation registers everything on.
const (
	fewValues     = 500
	pauseForValue = 100 * time.Microsecond
)

// respite is the pause after an answer of so many values.
func respite(values int) time.Duration {
	if values <= fewValues {
		return 0
	}
	return jitter(time.Duration(values) * pauseForValue)
}

// waitFor is how long to wait for a change of a scope that was shown whole, or in
// part. A query keeps the rights that it began with while it waits, and a right that
// is given changes nothing that would end the wait.
func (s *Source) waitFor(partial string) time.Duration {
	if partial == "" {
		return s.wait
	}
	return min(s.wait, s.poll)
}

// errNoIndex is the reason of the pause before a query is asked again whose answer
// had no index.
var errNoIndex = errors.New("the answer has no index")

// Bounds of the pause before a failed query is asked again.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
	// A busy agent is given more time.
	lastBusyPause = 30 * time.Second
)

// backoff is a pause that grows with each failure.
type backoff struct{ next time.Duration }

func newBackoff() *backoff { return &backoff{next: firstPause} }

func (b *backoff) reset() { b.next = firstPause }

// wait pauses, and reports whether the context is still there.
func (b *backoff) wait(ctx context.Context, err error) bool {
	limit := lastPause
	if errors.Is(err, consul.ErrTooMany) {
		limit = lastBusyPause
	}
	pause := min(b.next, limit)
	b.next = min(2*b.next, limit)
	return sleep(ctx, jitter(pause))
}

// jitter is within a fifth of a duration, so that queries that began together do
// not stay together.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // Spreads load; nobody gains from guessing it.
}

// sleep waits, and reports whether the context is still there.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package watcher_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher"
)

// veiled is a view from which access control keeps nodes.
type veiled struct {
	*view
	hides func(node string) bool
}

// veil takes the hidden nodes out of a state that says so.
func (v *veiled) veil(state watcher.State) watcher.State {
	var shown []watcher.Value
	for _, value := range state.Values {
		if !v.hides(value.Key.Parts()[0]) {
			shown = append(shown, value)
		}
	}
	if len(shown) < len(state.Values) {
		state.Values, state.Partial = shown, "access control"
		state.Covers = func(key isthmusv1.Key) bool { return strings.HasPrefix(key.Parts()[0], state.Scope) }
	}
	return state
}

func (v *veiled) Run(ctx context.Context, sink watcher.Sink) error {
	return v.view.Run(ctx, veiledSink{sink, v})
}

func (v *veiled) Read(ctx context.Context, scope string) (watcher.State, error) {
	state, err := v.view.Read(ctx, scope)
	return v.veil(state), err
}

func (v *veiled) ReadAll(ctx context.Context) ([]watcher.State, error) {
	states, err := v.view.ReadAll(ctx)
	for i := range states {
		states[i] = v.veil(states[i])
	}
	return states, err
}

type veiledSink struct {
	watcher.Sink
	v *veiled
}

func (s veiledSink) Present(state watcher.State) { s.Sink.Present(s.v.veil(state)) }

// What a partial state does not show is not gone, neither for a watcher that has
// seen it nor for one that only finds it in the log; and it is gone when a whole
// state says so.
func TestPartialStateEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
		world.set("a", "a1", "10.0.0.1")
		world.set("a", "a2", "10.0.0.2")
		world.set("b", "b1", "10.0.0.3")
		hidden := map[string]bool{}
		view := func() watcher.Source {
			return &veiled{world.view(0), func(node string) bool { return hidden[node] }}
		}
		first := start(t, log, "w1", view())
		settle()
		before := wantEvents(t, log, 3)

		hidden["a2"] = true
		world.set("a", "a1", "10.0.1.1")
		settle()
		want(t, log, map[string]string{"a1": "10.0.1.1", "a2": "10.0.0.2", "b1": "10.0.0.3"})
		wantEvents(t, log, len(before)+1)

		first.quit()
		start(t, log, "w2", view())
		settle()
		world.set("a", "a1", "10.0.2.1")
		settle()
		want(t, log, map[string]string{"a1": "10.0.2.1", "a2": "10.0.0.2", "b1": "10.0.0.3"})

		delete(hidden, "a2")
		world.set("a", "a2", "")
		settle()
		want(t, log, map[string]string{"a1": "10.0.2.1", "b1": "10.0.0.3"})
	})
}

// A scope that has never been shown whole protects only what it covers.
func TestPartialStateProtectsOnlyWhatItCovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
		world.set("a", "a1", "10.0.0.1")
		world.set("b", "b1", "10.0.0.3")
		start(t, log, "w1", world.view(0)).quitAfter(settle)
		world.set("b", "b1", "")
		start(t, log, "w2", &veiled{world.view(0), func(node string) bool { return node == "a1" }})
		settle()
		want(t, log, map[string]string{"a1": "10.0.0.1"})
	})
}

// After a restore the source's indexes are lower than the recorded ones. A
// consistent reading confirms it, the epoch is raised once, and from then on
// changes are written by their indexes again.
func TestRestoreRaisesTheSourceEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
		world.set("a", "a1", "10.0.0.1")
		world.set("b", "b1", "10.0.0.2")
		start(t, log, "w1", world.view(0))
		start(t, log, "w2", world.view(0))
		settle()
		for range 20 {
			world.set("a", "a1", "10.0.0.9")
			world.set("a", "a1", "10.0.0.8")
		}
		settle()
		world.change(func() {
			world.index = 5
			world.scopes = map[string]map[string]string{"a": {"a1": "10.0.0.1"}}
		})
		settle()
		want(t, log, map[string]string{"a1": "10.0.0.1"})
		restored := len(events(t, log))
		world.set("a", "a2", "10.0.0.7")
		settle()
		want(t, log, map[string]string{"a1": "10.0.0.1", "a2": "10.0.0.7"})
		last := wantEvents(t, log, restored+1)[restored]
		source := record(t, last).GetEnvelope().GetSource()
		if source.GetEpoch() != 1 || source.GetIndexAt() != 7 {
			t.Errorf("after the restore a change has epoch %d and index %d, want 1 and 7", source.GetEpoch(), source.GetIndexAt())
		}
	})
}

// A hot second whose view is from before a restore does not take its higher
// indexes for newer.
func TestRestoreIsNotUndoneByAnOldView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
		world.set("a", "a1", "10.0.0.1")
		first := start(t, log, "w1", world.view(0))
		settle()
		slow := start(t, log, "w2", world.view(time.Minute))
		time.Sleep(2 * time.Minute)
		for range 20 {
			world.set("a", "a1", "10.0.0.9")
		}
		time.Sleep(2 * time.Minute) // Both views show it.
		world.change(func() {
			world.index = 5
			world.scopes = map[string]map[string]string{"a": {"a1": "10.0.0.1"}}
		})
		settle()
		want(t, log, map[string]string{"a1": "10.0.0.1"})
		before := len(events(t, log))
		first.kill()
		settle()
		if !slow.Status().Active {
			t.Fatal("the other watcher did not take over")
		}
		wantEvents(t, log, before)
		want(t, log, map[string]string{"a1": "10.0.0.1"})
	})
}

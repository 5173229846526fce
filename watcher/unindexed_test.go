package watcher_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/watcher"
)

// mixed is a view of which one scope has no indexes, like what Consul cannot be
// waited for.
type mixed struct {
	*view
	unindexed string
}

func (m *mixed) strip(state watcher.State) watcher.State {
	if state.Scope == m.unindexed {
		state.Index, state.After = 0, 0
	}
	return state
}

func (m *mixed) Run(ctx context.Context, sink watcher.Sink) error {
	return m.view.Run(ctx, mixedSink{sink, m})
}

func (m *mixed) Read(ctx context.Context, scope string) (watcher.State, error) {
	state, err := m.view.Read(ctx, scope)
	return m.strip(state), err
}

func (m *mixed) ReadAll(ctx context.Context) ([]watcher.State, error) {
	states, err := m.view.ReadAll(ctx)
	for i := range states {
		states[i] = m.strip(states[i])
	}
	return states, err
}

type mixedSink struct {
	watcher.Sink
	m *mixed
}

func (s mixedSink) Present(state watcher.State) { s.Sink.Present(s.m.strip(state)) }

// A scope without indexes that says again what it said is no reason to read the
// source anew for the others; one that says something new is.
func TestScopeWithoutIndexesCostsOnlyWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
		world.set("a", "a1", "10.0.0.1")
		world.set("b", "b1", "10.0.0.2")
		v := &mixed{world.view(0), "b"}
		start(t, log, "w1", v)
		settle()
		reads := func() int {
			v.mu.Lock()
			defer v.mu.Unlock()
			return v.reads
		}
		before := reads()
		world.set("a", "a1", "10.0.1.1") // All scopes are shown with it.
		settle()
		want(t, log, map[string]string{"a1": "10.0.1.1", "b1": "10.0.0.2"})
		if n := reads() - before; n != 0 {
			t.Errorf("%d readings for a scope that has not changed", n)
		}
		before = reads()
		world.set("b", "b1", "10.0.1.2")
		settle()
		want(t, log, map[string]string{"a1": "10.0.1.1", "b1": "10.0.1.2"})
		if n := reads() - before; n == 0 {
			t.Error("what has no index was written without a reading")
		}
	})
}

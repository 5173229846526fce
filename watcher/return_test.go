package watcher_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher"
)

// unaware is a view that names its scopes only when it sees others than it has named,
// and does not see a scope go that has come back since, like a list that is asked for
// with a pause in between.
type unaware struct{ *view }

func (u unaware) Run(ctx context.Context, sink watcher.Sink) error {
	return u.view.Run(ctx, &unawareSink{Sink: sink})
}

type unawareSink struct {
	watcher.Sink
	told []string
}

func (s *unawareSink) Scopes(names []string) {
	if len(names) > len(s.told) {
		s.told = slices.Clone(names)
		s.Sink.Scopes(names)
	}
}

// A scope that was gone when all was read, and comes back before the source has seen
// it go, is written; and one of which the source only believes so is not.
func TestScopeComesBackUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
		world.set("a", "a1", "10.0.0.1")
		world.set("b", "b1", "10.0.0.2")
		world.set("a", "a1", "10.0.0.1")
		v := unaware{world.view(0)}
		start(t, log, "w1", v)
		settle()
		world.change(func() {
			world.index = 1 // All is read, as after a restore.
			world.scopes = map[string]map[string]string{"a": {"a1": "10.0.0.9"}}
		})
		settle()
		want(t, log, map[string]string{"a1": "10.0.0.9"})
		v.mu.Lock()
		sink := v.sink
		v.mu.Unlock()
		sink.Present(watcher.State{Scope: "b", Index: 1000, Values: []watcher.Value{
			{Key: isthmusv1.NodeKey("", "b1"), Value: &isthmusv1.Node{Name: "b1", Address: "10.9.9.9"}},
		}})
		settle()
		want(t, log, map[string]string{"a1": "10.0.0.9"})
		world.set("b", "b1", "10.0.0.3")
		settle()
		want(t, log, map[string]string{"a1": "10.0.0.9", "b1": "10.0.0.3"})
		world.set("b", "b1", "10.0.0.4")
		settle()
		want(t, log, map[string]string{"a1": "10.0.0.9", "b1": "10.0.0.4"})
	})
}

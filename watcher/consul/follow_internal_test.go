package consul

import (
	"testing"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/watcher"
)

// A reading that was overtaken by newer answers while it was on its way tells of no
// restore; one that is older than what was seen before it began does, once.
func TestARestoreIsToldFromAnOvertakenReading(t *testing.T) {
	client, err := consul.Open(consul.Options{Environment: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	of := func(scope string, index uint64) watcher.State {
		return watcher.State{Scope: scope, Index: index, Values: []watcher.Value{{Key: isthmusv1.NodeKey("", "n")}}}
	}
	see := func(state watcher.State) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen(state)
	}
	see(of("node/a", 10))
	before := s.head("node/b")
	see(of("node/c", 30))
	if s.wentBack(of("node/b", 20), before) {
		t.Error("it began at 10 and ended at 20, while 30 was seen: that is no restore")
	}
	before = s.head("node/b")
	if s.wentBack(of("config/mesh", 20), s.head("config/mesh")) {
		t.Error("config entries have indexes of their own")
	}
	if s.wentBack(watcher.State{Scope: "node/b", Index: 20}, before) {
		t.Error("a node that is gone tells nothing")
	}
	if !s.wentBack(of("node/b", 20), before) {
		t.Error("30 was seen before it began, and it ended at 20")
	}
	if s.wentBack(of("node/b", 20), before) {
		t.Error("the same restore is reported twice")
	}
}

// Small answers are asked for again at once, large ones in proportion to their size.
func TestRespite(t *testing.T) {
	for values, want := range map[int]time.Duration{0: 0, 40: 0, 500: 0, 1000: 100 * time.Millisecond, 10_000: time.Second} {
		if got := respite(values); got < want*9/10 || got > want*11/10 {
			t.Errorf("%d values: %v; want about %v", values, got, want)
		}
	}
}

package watcher_test

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// bothKinds runs a test for a source with indexes and for a directory.
func bothKinds(t *testing.T, test func(t *testing.T, log *memlog.Log, world *truth, view func() *view)) {
	for _, directory := range []bool{false, true} {
		name := "indexed"
		if directory {
			name = "directory"
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := newTruth()
				test(t, memlog.New(memlog.Options{Seed: 1}), world, func() *view {
					v := world.view(0)
					v.directory = directory
					return v
				})
			})
		})
	}
}

func want(t *testing.T, log bus.Log, want map[string]string) {
	t.Helper()
	if got := state(t, log); !maps.Equal(got, want) {
		t.Fatalf("the log holds %v, want %v", got, want)
	}
}

func wantEvents(t *testing.T, log bus.Log, want int) []bus.Message {
	t.Helper()
	got := events(t, log)
	if len(got) != want {
		for _, m := range got {
			t.Logf("%d %s", m.Sequence, m.Key)
		}
		t.Fatalf("the log has %d events, want %d", len(got), want)
	}
	return got
}

func record(t *testing.T, m bus.Message) *isthmusv1.Record {
	t.Helper()
	r := new(isthmusv1.Record)
	if err := proto.Unmarshal(m.Record, r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFirstFillEndsWithComplete(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n1", "10.0.0.1")
		world.set("b", "n2", "10.0.0.2")
		start(t, log, "w1", view())
		settle()
		want(t, log, map[string]string{"n1": "10.0.0.1", "n2": "10.0.0.2"})
		all := wantEvents(t, log, 2)
		for i, m := range all {
			end := record(t, m).GetEnvelope().GetEnd()
			if got, want := end.GetComplete(), i == len(all)-1; got != want {
				t.Errorf("message %d: complete %v, want %v", m.Sequence, got, want)
			}
		}
	})
}

func TestOneChangeIsOneEvent(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n1", "10.0.0.1")
		start(t, log, "w1", view())
		settle()
		for i := range 20 {
			world.set("a", "n1", fmt.Sprintf("10.0.1.%d", i))
			settle()
		}
		wantEvents(t, log, 21)
	})
}

func TestEqualBytesPublishNothing(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n1", "10.0.0.1")
		start(t, log, "w1", view())
		settle()
		for range 10 {
			world.set("a", "n1", "10.0.0.1")
			settle()
		}
		wantEvents(t, log, 1)
	})
}

func TestVanishedKeysBecomeTombstones(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n1", "10.0.0.1")
		world.set("a", "n2", "10.0.0.2")
		world.set("b", "n3", "10.0.0.3")
		start(t, log, "w1", view())
		settle()
		world.set("a", "n1", "")
		settle()
		want(t, log, map[string]string{"n2": "10.0.0.2", "n3": "10.0.0.3"})
		world.change(func() { delete(world.scopes, "b") })
		settle()
		want(t, log, map[string]string{"n2": "10.0.0.2"})
		all := wantEvents(t, log, 5)
		for _, m := range all[3:] {
			if !record(t, m).GetTombstone() {
				t.Errorf("message %d of %s is not a tombstone", m.Sequence, m.Key)
			}
		}
	})
}

func TestKeyMovesBetweenScopes(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n1", "10.0.0.1")
		world.set("b", "n2", "10.0.0.2")
		start(t, log, "w1", view())
		settle()
		world.change(func() {
			world.scopes["b"]["n1"] = "10.0.0.9"
			delete(world.scopes["a"], "n1")
		})
		settle()
		want(t, log, map[string]string{"n1": "10.0.0.9", "n2": "10.0.0.2"})
		wantEvents(t, log, 3)
	})
}

func TestChangesTogetherAreOneTransaction(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n0", "10.0.0.1")
		start(t, log, "w1", view())
		settle()
		world.change(func() {
			for i := range 5 {
				world.scopes["a"][fmt.Sprintf("n%d", i)] = "10.9.9.9"
			}
		})
		settle()
		ids := map[string]int{}
		for _, m := range wantEvents(t, log, 6)[1:] {
			ids[record(t, m).GetEnvelope().GetTransaction()]++
		}
		if len(ids) != 1 {
			t.Errorf("five changes at once were %d transactions: %v", len(ids), ids)
		}
	})
}

func TestRestartPublishesOnlyWhatChanged(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		for i := range 30 {
			world.set("a", fmt.Sprintf("n%d", i), "10.0.0.1")
		}
		first := start(t, log, "w1", view())
		settle()
		first.quit()
		second := start(t, log, "w2", view())
		settle()
		wantEvents(t, log, 30)
		second.quit()

		world.set("a", "n3", "")
		world.set("a", "n4", "10.0.0.4")
		start(t, log, "w3", view())
		settle()
		wantEvents(t, log, 32)
	})
}

// Two watchers, one of them 90 ms behind, with the office passing to and fro
// while the source changes: fifty changes are fifty events.
func TestStaleViewsPublishEachChangeOnce(t *testing.T) {
	for _, late := range []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 90 * time.Millisecond} {
		t.Run(late.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
				world.set("a", "n", "10.0.0.1")
				fast, slow := world.view(0), world.view(late)
				start(t, log, "fast", fast)
				settle()
				start(t, log, "slow", slow)
				settle()
				for i := range 50 {
					world.set("a", fmt.Sprintf("n%d", i), "10.0.0.1")
					time.Sleep(30 * time.Millisecond)
					switch i % 16 {
					case 4:
						fast.setLive(errGone)
					case 8:
						fast.setLive(nil)
					case 12:
						slow.setLive(errGone)
						fast.setLive(nil)
					case 15:
						slow.setLive(nil)
					}
				}
				fast.setLive(nil)
				settle()
				wantEvents(t, log, 51)
				if got := len(state(t, log)); got != 51 {
					t.Errorf("the log holds %d nodes, want 51", got)
				}
			})
		})
	}
}

// A value that goes there and back is not written back by a watcher whose view
// still shows the middle.
func TestStaleViewWritesNothingOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
		world.set("a", "n", "10.0.0.1")
		first := start(t, log, "fast", world.view(0))
		settle()
		slow := start(t, log, "slow", world.view(2*time.Second))
		settle()
		for i := range 9 {
			world.set("a", "n", fmt.Sprintf("10.0.0.%d", i%2))
			time.Sleep(50 * time.Millisecond)
		}
		before := len(events(t, log))
		first.kill()
		settle()
		if !slow.Status().Active {
			t.Fatal("the other watcher did not take over")
		}
		wantEvents(t, log, before)
		want(t, log, map[string]string{"n": "10.0.0.0"})
	})
}

func TestTakeoverWithinASecond(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n1", "10.0.0.1")
		first := start(t, log, "w1", view())
		settle()
		second := start(t, log, "w2", view())
		settle()
		if first.Status().Active == second.Status().Active {
			t.Fatal("not exactly one of two watchers is active")
		}
		if !first.Status().Active {
			first, second = second, first
		}
		first.kill()
		world.set("a", "n1", "10.0.0.2")
		time.Sleep(time.Second)
		synctest.Wait()
		want(t, log, map[string]string{"n1": "10.0.0.2"})
		if got := second.Status(); !got.Active || got.Term != 2 {
			t.Errorf("after the takeover: active %v, term %d, want true, 2", got.Active, got.Term)
		}
	})
}

// A list of queries that is older than the log ends nothing: what is missing in
// it is asked first.
func TestStaleListOfScopesEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
		world.set("a", "n1", "10.0.0.1")
		first := start(t, log, "fast", world.view(0))
		settle()
		slow := start(t, log, "slow", world.view(3*time.Second))
		settle()
		world.set("b", "n2", "10.0.0.2")
		time.Sleep(2 * time.Second)
		world.change(func() { delete(world.scopes, "b") })
		time.Sleep(100 * time.Millisecond)
		world.set("b", "n2", "10.0.0.2")
		first.kill()
		settle()
		if !slow.Status().Active {
			t.Fatal("the other watcher did not take over")
		}
		settle()
		want(t, log, map[string]string{"n1": "10.0.0.1", "n2": "10.0.0.2"})
		for _, m := range events(t, log)[2:] {
			if record(t, m).GetTombstone() && m.Sequence > 4 {
				t.Errorf("message %d ends %s, which is there", m.Sequence, m.Key)
			}
		}
	})
}

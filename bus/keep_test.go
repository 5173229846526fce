package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// One key that flaps pushes nothing out: every live key is repeated before its
// last message leaves, with the message that first said it as origin.
func TestFlappingKeyEvictsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, MaxMessages: 200})
		mustWrite(t, w, difference(many(15, "steady", 1)...))
		for i := range 2000 {
			position := mustWrite(t, w, difference(put("flapping", fmt.Sprint(i), uint64(i+2))))
			checkNewerHalf(t, log, position.GetSequence(), 200)
		}
		state, err := log.State(t.Context(), catalog)
		if err != nil {
			t.Fatal(err)
		}
		if state.First == 1 || state.Messages != 200 || state.MaxMessages != 200 {
			t.Fatalf("nothing was evicted: %+v", state)
		}
		nodes := nodesAt(t, log, catalog, state.Last)
		if len(nodes) != 16 || !slices.Contains(nodes, "n0007=steady") {
			t.Errorf("kept: %v", nodes)
		}
		frames := 0
		for _, m := range history(t, log, catalog) {
			if m.Key == isthmusv1.NodeKey("", "n0007") {
				frames++
				origin := m.GetEnvelope().GetOrigin()
				if origin.GetSequence() != 9 || origin.GetIncarnation() != state.Incarnation {
					t.Errorf("the keyframe at %d cites %v, not the event at 9", m.Sequence, origin)
				}
				if m.GetEnvelope().GetSource().GetIndexAt() != 1 {
					t.Errorf("the keyframe lost its source: %v", m.GetEnvelope().GetSource())
				}
			}
		}
		if frames == 0 {
			t.Error("no keyframe is retained")
		}
		// Keyframes are few: each key about twice in W.
		keyframes := state.Last - 2000 - 16
		if keyframes > 17*(2000/60) {
			t.Errorf("%d keyframes for 2000 changes", keyframes)
		}
	})
}

// checkNewerHalf holds the rule itself: no live key's last message in the older
// half of W.
func checkNewerHalf(t *testing.T, log bus.Log, last uint64, limit int64) {
	t.Helper()
	latest := make(map[isthmusv1.Key]uint64)
	for _, m := range history(t, log, catalog) {
		latest[m.Key] = m.Sequence
		if m.GetTombstone() {
			delete(latest, m.Key)
		}
	}
	for key, sequence := range latest {
		if int64(sequence) <= int64(last)-limit/2 {
			t.Fatalf("at %d the last message of %s is %d, in the older half of %d", last, key, sequence, limit)
		}
	}
}

// History is exact from the first sequence + W/2, wherever the log stands.
func TestPastStatesStayExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, MaxMessages: 160})
		truth := make(map[uint64][]string)
		state := make(map[string]string)
		remember := func(p *isthmusv1.Position) {
			var nodes []string
			for name, address := range state {
				nodes = append(nodes, name+"="+address)
			}
			slices.Sort(nodes)
			truth[p.GetSequence()] = nodes
		}
		for i := range 600 {
			name := fmt.Sprintf("k%02d", i*i%13)
			if i%5 == 4 {
				delete(state, name)
				remember(mustWrite(t, w, difference(gone(name, uint64(i+1)))))
				continue
			}
			state[name] = fmt.Sprint(i)
			remember(mustWrite(t, w, difference(put(name, fmt.Sprint(i), uint64(i+1)))))
		}
		now, err := log.State(t.Context(), catalog)
		if err != nil {
			t.Fatal(err)
		}
		checked := 0
		for sequence, want := range truth {
			if sequence < now.First+uint64(now.MaxMessages)/2 {
				if _, err := bus.StateAt(t.Context(), log, catalog, sequence); !errors.Is(err, bus.ErrNotRetained) {
					t.Errorf("at %d: %v, want ErrNotRetained", sequence, err)
				}
				continue
			}
			checked++
			equal(t, fmt.Sprintf("state at %d", sequence), nodesAt(t, log, catalog, sequence), want)
		}
		if checked < 40 {
			t.Errorf("only %d states were checked", checked)
		}
	})
}

func TestQuietWriterEvictsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(many(100, "1", 1)...))
		before, err := log.State(t.Context(), catalog)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		after, err := log.State(t.Context(), catalog)
		if err != nil {
			t.Fatal(err)
		}
		if after != before {
			t.Errorf("before %+v\nafter %+v", before, after)
		}
		if n := len(nodesAt(t, log, catalog, after.Last)); n != 100 {
			t.Errorf("%d keys", n)
		}
	})
}

func TestNoAgeLimitOnTruth(t *testing.T) {
	log := memlog.New(memlog.Options{})
	for _, stream := range []string{catalog, routes} {
		if _, err := log.Create(t.Context(), bus.StreamConfig{Name: stream, MaxAge: time.Hour}); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%s: %v", stream, err)
		}
	}
	if _, err := log.Create(t.Context(), bus.StreamConfig{Name: "STATUS_dc1", MaxAge: time.Hour}); err != nil {
		t.Error(err)
	}
}

// raises is a log that notes, and can refuse, the raising of a limit.
type raises struct {
	bus.Log
	name   string
	order  *[]string
	refuse error
}

func (r *raises) Create(ctx context.Context, config bus.StreamConfig) (bus.StreamState, error) {
	before, err := r.Log.State(ctx, config.Name)
	if err == nil && config.MaxMessages > before.MaxMessages {
		if r.refuse != nil {
			return bus.StreamState{}, r.refuse
		}
		*r.order = append(*r.order, fmt.Sprintf("%s to %d", r.name, config.MaxMessages))
	}
	return r.Log.Create(ctx, config)
}

func TestTheLimitIsRaisedMirrorsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		dc1 := memlog.New(memlog.Options{Domain: "dc1"})
		dc2 := dc1.Domain("dc2")
		without := dc1.Domain("dc3")
		w := activeWriter(t, bus.WriterConfig{
			Log: &raises{Log: dc1, name: "dc1", order: &order}, MaxMessages: 200,
			Mirrors: []bus.Log{without, &raises{Log: dc2, name: "dc2", order: &order}},
		})
		mirror, err := dc2.Create(t.Context(), bus.StreamConfig{Name: catalog, MaxMessages: 100, Mirror: &bus.Mirror{Domain: "dc1"}})
		if err != nil || mirror.MaxMessages != 200 {
			t.Fatalf("a mirror's limit is at least its origin's: %+v %v", mirror, err)
		}
		mustWrite(t, w, difference(many(19, "1", 1)...)) // 20 live, `writer` too: a tenth
		equal(t, "a tenth", order, nil)
		mustWrite(t, w, difference(many(20, "1", 2)...))
		equal(t, "above", order, []string{"dc2 to 400", "dc1 to 400"})
		if state, err := without.Streams(t.Context()); err != nil || len(state) != 0 {
			t.Errorf("a log without the mirror got one: %v %v", state, err)
		}
	})
}

func TestPastAQuarterOnlyNewKeysAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		var said logLines
		broken := &raises{Log: log, refuse: errors.New("no disk")}
		w := activeWriter(t, bus.WriterConfig{Log: broken, MaxMessages: 200, Logger: said.logger()})
		// 40 live are above a tenth: it cannot be raised, and goes on all the same.
		mustWrite(t, w, difference(many(39, "1", 1)...))
		if !said.contains("cannot be raised") {
			t.Error("nothing was said")
		}
		position, err := w.Write(t.Context(), difference(many(60, "2", 2)...))
		if !errors.Is(err, bus.ErrFull) {
			t.Fatalf("got %v", err)
		}
		nodes := nodesAt(t, log, catalog, position.GetSequence())
		if len(nodes) != 49 || !slices.Contains(nodes, "n0038=2") || slices.Contains(nodes, "n0038=1") {
			t.Errorf("%d nodes: %v", len(nodes), nodes)
		}
		if !said.contains("new keys are refused") {
			t.Error("it was not said loudly")
		}
		for i := range 500 { // Nothing of the old is lost.
			mustWrite(t, w, difference(put("n0001", fmt.Sprint(i), uint64(i+3))))
		}
		state, err := log.State(t.Context(), catalog)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(nodesAt(t, log, catalog, state.Last)); n != 49 {
			t.Errorf("%d nodes are left", n)
		}
		// Deleting makes room again.
		mustWrite(t, w, difference(gone("n0002", 900), gone("n0003", 900)))
		mustWrite(t, w, difference(put("new", "1", 901)))
	})
}

func TestBasesAloneEvictNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, Stream: routes, MaxMessages: 100})
		d := bus.Difference{Basis: basis(catalog, "i", 1), Puts: []bus.Put{{Key: isthmusv1.NodeKey("", "x"), Value: &isthmusv1.Node{Name: "x"}}}}
		for i := range 500 {
			d.Basis = basis(catalog, "i", uint64(i+1))
			mustWrite(t, w, d)
			time.Sleep(time.Second)
		}
		state, err := log.State(t.Context(), routes)
		if err != nil {
			t.Fatal(err)
		}
		if nodes := nodesAt(t, log, routes, state.Last); len(nodes) != 1 || state.First == 1 {
			t.Errorf("%v, %+v", nodes, state)
		}
	})
}

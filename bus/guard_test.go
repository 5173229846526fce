package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// A writer that was deposed without noticing meets the fence.
func TestStaleWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		a := activeWriter(t, bus.WriterConfig{Log: log.Connect("a"), Owner: "a"})
		connectionOf(t, a).Delay(time.Hour) // It sees nothing of what the log becomes.
		connectionOf(t, a).Cut(true)
		b := activeWriter(t, bus.WriterConfig{Log: log.Connect("b"), Owner: "b"})
		connectionOf(t, a).Cut(false)
		if !a.Active() {
			t.Fatal("the stale writer knows already")
		}
		if _, err := a.Write(t.Context(), difference(put("x", "stale", 1))); !errors.Is(err, bus.ErrNotActive) {
			t.Errorf("got %v", err)
		}
		if a.Active() || !b.Active() {
			t.Errorf("a %v, b %v", a.Active(), b.Active())
		}
		equal(t, "log", lines(history(t, log, catalog)), []string{"1 writer .", "2 writer ."})
	})
}

// The watcher's rule: fencing guards the tail, not the freshness of the input.
func TestStaleViewOfASource(t *testing.T) {
	ofQuery := func(query string, index uint64) bus.Put {
		p := put("x", "old", index)
		p.Source.Query = query
		return p
	}
	head := func(query string, index uint64) []*isthmusv1.SourceHead {
		return []*isthmusv1.SourceHead{{Query: query, Index: index}}
	}
	x := isthmusv1.NodeKey("", "x")
	for _, test := range []struct {
		name string
		d    bus.Difference
		want error
	}{
		{"an index below the recorded one", difference(ofQuery("nodes", 19)), bus.ErrStaleView},
		{"the recorded index", difference(ofQuery("nodes", 20)), bus.ErrStaleView},
		{"an index above it", difference(ofQuery("nodes", 21)), nil},
		{"another query's index", difference(ofQuery("services", 3)), nil},
		{"a deletion from below", difference(gone("x", 20)), bus.ErrStaleView},
		{"a deletion from above", difference(gone("x", 21)), nil},
		{"a bare deletion with no head", bus.Difference{Deletes: []isthmusv1.Key{x}}, bus.ErrStaleView},
		{"a bare deletion with an old head", bus.Difference{Deletes: []isthmusv1.Key{x}, SourceHeads: head("nodes", 20)}, bus.ErrStaleView},
		{"a bare deletion with a new head", bus.Difference{Deletes: []isthmusv1.Key{x}, SourceHeads: head("nodes", 21)}, nil},
		{"no index at all", difference(ofQuery("", 0)), bus.ErrStaleView},
		{"a key that was deleted since", difference(put("y", "back", 14)), bus.ErrStaleView},
		{"what is so already, from below", difference(put("x", "1", 3)), nil},
		{"a lower epoch", bus.Difference{Puts: []bus.Put{ofQuery("nodes", 99)}, SourceEpoch: 1}, bus.ErrStaleView},
		{"a raised epoch", bus.Difference{Puts: []bus.Put{ofQuery("nodes", 2)}, SourceEpoch: 3}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := memlog.New(memlog.Options{})
				w := activeWriter(t, bus.WriterConfig{Log: log})
				mustWrite(t, w, bus.Difference{Puts: []bus.Put{put("x", "1", 10), put("y", "1", 10)}, SourceEpoch: 2})
				mustWrite(t, w, difference(gone("y", 15)))
				mustWrite(t, w, difference(put("z", "1", 20)))
				// The same must hold for a writer that read the records back.
				next := startWriter(t, bus.WriterConfig{Log: log, Owner: "next"})
				synctest.Wait()
				w.kill()
				synctest.Wait()
				before := len(history(t, log, catalog))
				_, err := next.Write(t.Context(), test.d)
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				if wrote := len(history(t, log, catalog)) > before; test.want != nil && wrote {
					t.Error("something was written")
				}
			})
		})
	}
}

// Two watchers, one of which sees every change 20 ms late, turn 50 changes into
// 50 events (without the rule, measured: 3,054).
func TestTwoWatchersOneOfThemLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("x", "0", 1)))
		refused := 0
		for i := range 50 {
			now, late := difference(put("x", fmt.Sprint(i+1), uint64(i+2))), difference(put("x", fmt.Sprint(i), uint64(i+1)))
			mustWrite(t, w, now)
			// The late view finds a difference, and reads the tail: it is still late.
			if _, err := w.Write(t.Context(), late); errors.Is(err, bus.ErrStaleView) {
				refused++
			}
		}
		if got := len(history(t, log, catalog)) - 2; got != 50 || refused != 50 {
			t.Errorf("%d events, %d refused", got, refused)
		}
	})
}

func TestAfterARestoreOldIndexesMeanNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, Owner: "a"})
		mustWrite(t, w, difference(put("x", "1", 900), put("y", "1", 900)))
		d := difference(put("x", "2", 5))
		d.SourceEpoch = 1
		mustWrite(t, w, d)
		next := startWriter(t, bus.WriterConfig{Log: log, Owner: "b"})
		synctest.Wait()
		w.kill()
		synctest.Wait()
		// y still stands in the log with index 900, of the old epoch.
		mustWrite(t, next, difference(put("x", "3", 6)))
		if _, err := next.Write(t.Context(), difference(put("y", "2", 6))); !errors.Is(err, bus.ErrStaleView) {
			t.Errorf("the new epoch's index is not recorded: %v", err)
		}
		mustWrite(t, next, difference(put("y", "2", 7)))
	})
}

// What a transaction recorded of its source does not depend on what is written
// after it: the next writer finds it beside the keys that it was recorded with.
func TestHeadsOfEarlierTransactionsAreFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, Owner: "a"})
		mustWrite(t, w, difference(put("x", "1", 10)))
		mustWrite(t, w, bus.Difference{
			Deletes:     []isthmusv1.Key{isthmusv1.NodeKey("", "x")},
			SourceHeads: []*isthmusv1.SourceHead{{Query: "nodes", Index: 30}},
		})
		other := put("z", "1", 5)
		other.Source.Query = "services"
		mustWrite(t, w, difference(other))
		w.kill()
		next := activeWriter(t, bus.WriterConfig{Log: log, Owner: "b"})
		if _, err := next.Write(t.Context(), difference(put("x", "1", 20))); !errors.Is(err, bus.ErrStaleView) {
			t.Errorf("a view of before the deletion: %v", err)
		}
		mustWrite(t, next, difference(put("x", "2", 31)))
	})
}

func TestASourceWithoutIndexesIsReadAfterTheTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		file := bus.Put{
			Key: isthmusv1.NodeKey("", "x"), Value: &isthmusv1.Node{Name: "x", Address: "1"},
			Source: &isthmusv1.Source{File: "x.hcl", Line: 3},
		}
		reads := 0
		_, err := w.WriteFrom(t.Context(), func(context.Context) (bus.Difference, error) {
			reads++
			if reads == 1 {
				// The log moves between the tail and the read.
				mustWrite(t, w, difference(put("other", "1", 1)))
			}
			return difference(file), nil
		})
		if err != nil || reads != 2 {
			t.Fatalf("%d reads, %v", reads, err)
		}
		equal(t, "log", lines(history(t, log, catalog)), []string{"1 writer .", "2 node/other .", "3 node/x ."})
		if s := history(t, log, catalog)[2].GetEnvelope().GetSource(); s.GetFile() != "x.hcl" || s.GetLine() != 3 {
			t.Errorf("source %v", s)
		}
	})
}

func TestATailIsGoodForAWholeDifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{Seed: 1, Faults: memlog.Faults{LostAnswer: .5}})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		tail, err := w.Tail(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		d := difference(many(3100, "1", 0)...)
		for i := range d.Puts {
			d.Puts[i].Source = &isthmusv1.Source{File: "f"}
		}
		d.Tail = &tail
		mustWrite(t, w, d)
		if _, err := w.Write(t.Context(), bus.Difference{Puts: []bus.Put{put("late", "1", 0)}, Tail: &tail}); !errors.Is(err, bus.ErrStaleView) {
			t.Errorf("an old tail was taken: %v", err)
		}
	})
}

// The resolver's rule: only at a basis at or above the recorded one.
func TestStaleBasis(t *testing.T) {
	at := func(positions ...*isthmusv1.Position) *isthmusv1.Basis {
		b := new(isthmusv1.Basis)
		for _, p := range positions {
			b = b.With(p)
		}
		return b
	}
	dc := func(n int, incarnation string, sequence uint64) *isthmusv1.Position {
		return &isthmusv1.Position{Stream: fmt.Sprintf("CATALOG_dc%d", n), Incarnation: incarnation, Sequence: sequence}
	}
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		present := make(map[int]string)
		for _, n := range []int{1, 2} {
			state, err := log.Create(t.Context(), bus.StreamConfig{Name: fmt.Sprintf("CATALOG_dc%d", n)})
			if err != nil {
				t.Fatal(err)
			}
			present[n] = state.Incarnation
		}
		w := activeWriter(t, bus.WriterConfig{Log: log, Stream: routes, RulesVersion: 2})
		write := func(address string, b *isthmusv1.Basis) error {
			_, err := w.Write(t.Context(), bus.Difference{Basis: b, Puts: []bus.Put{{
				Key: isthmusv1.NodeKey("", "x"), Value: &isthmusv1.Node{Address: address},
			}}})
			return err
		}
		// Recorded: dc1 and dc2 as they are, dc3 which is about to depart, and dc2
		// in an incarnation that has passed.
		if err := write("0", at(dc(1, present[1], 10), dc(2, "passed", 70), dc(3, "departed", 7))); err != nil {
			t.Fatal(err)
		}
		for i, test := range []struct {
			name string
			b    *isthmusv1.Basis
			want error
		}{
			{"one component back", at(dc(1, present[1], 9), dc(2, present[2], 5)), bus.ErrStaleView},
			{"a stream that is there left out", at(dc(1, present[1], 11)), bus.ErrStaleView},
			{"an incarnation that is not the present one", at(dc(1, "wrong", 12), dc(2, present[2], 5)), bus.ErrStaleView},
			{"the present incarnation, whatever its sequence; the departed dropped", at(dc(1, present[1], 12), dc(2, present[2], 5)), nil},
			{"the recorded basis", at(dc(1, present[1], 12), dc(2, present[2], 5)), nil},
			{"one component forward, one back", at(dc(1, present[1], 99), dc(2, present[2], 4)), bus.ErrStaleView},
			{"forward", at(dc(1, present[1], 13), dc(2, present[2], 5)), nil},
		} {
			if err := write(fmt.Sprint(i+1), test.b); !errors.Is(err, test.want) {
				t.Errorf("%s: got %v, want %v", test.name, err, test.want)
			}
		}
		if _, err := w.Write(t.Context(), bus.Difference{}); err == nil {
			t.Error("routes were written without a basis")
		}
	})
}

func TestOldRulesDoNotWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		b := basis("CATALOG_dc1", "i", 1)
		a := activeWriter(t, bus.WriterConfig{Log: log, Stream: routes, Owner: "old", RulesVersion: 1})
		route := func(address string) bus.Difference {
			return bus.Difference{Basis: b, Puts: []bus.Put{{Key: isthmusv1.NodeKey("", "x"), Value: &isthmusv1.Node{Address: address}}}}
		}
		mustWrite(t, a, route("1"))
		next := startWriter(t, bus.WriterConfig{Log: log, Stream: routes, Owner: "new", RulesVersion: 2})
		synctest.Wait()
		a.kill()
		synctest.Wait()
		mustWrite(t, next, route("2"))
		old := startWriter(t, bus.WriterConfig{Log: log, Stream: routes, Owner: "old", RulesVersion: 1})
		next.kill()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if old.Active() {
			t.Error("older rules took over from newer ones")
		}
		// Newer rules write at the same basis.
		newest := activeWriter(t, bus.WriterConfig{Log: log, Stream: routes, Owner: "newest", RulesVersion: 3})
		mustWrite(t, newest, route("3"))
	})
}

func TestABasisThatChangedNothingIsRecordedOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, Stream: routes})
		route := bus.Put{Key: isthmusv1.NodeKey("", "x"), Value: &isthmusv1.Node{Address: "1"}}
		for i := range 50 { // 50 bases in 500 ms
			mustWrite(t, w, bus.Difference{Puts: []bus.Put{route}, Basis: basis(catalog, "i", uint64(i+1))})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(bus.DefaultBasisInterval)
		synctest.Wait()
		messages := history(t, log, routes)
		last := messages[len(messages)-1]
		if n := len(messages) - 2; n < 4 || n > 7 {
			t.Errorf("%d records of 50 bases: %v", n, lines(messages))
		}
		value := new(isthmusv1.Basis)
		if err := proto.Unmarshal(last.GetValue(), value); err != nil {
			t.Fatal(err)
		}
		if last.Key != isthmusv1.BasisKey() || value.Text() != "CATALOG_dc1@50" || !proto.Equal(value, last.GetEnvelope().GetEnd().GetBasis()) {
			t.Errorf("last: %s %v", last.Key, last.Record)
		}
		if w.Basis().Text() != "CATALOG_dc1@50" {
			t.Errorf("recorded %s", w.Basis().Text())
		}
		// A basis that is recorded is not recorded again.
		mustWrite(t, w, bus.Difference{Puts: []bus.Put{route}, Basis: basis(catalog, "i", 50)})
		time.Sleep(time.Second)
		if after := history(t, log, routes); len(after) != len(messages) {
			t.Errorf("%v", lines(after[len(messages):]))
		}
	})
}

// A resolver that died between the transactions of one difference leaves a state
// that no basis gives, and the next one is told so.
func TestTheNextWriterKnowsWhatIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, Stream: routes, Owner: "a", RulesVersion: 4})
		mustWrite(t, w, bus.Difference{Basis: basis(catalog, "i", 5), Puts: []bus.Put{{Key: isthmusv1.NodeKey("", "x"), Value: &isthmusv1.Node{}}}})
		// The longer difference's last transaction never arrives.
		d := bus.Difference{Basis: basis(catalog, "i", 6)}
		for _, p := range many(1500, "1", 0) {
			d.Puts = append(d.Puts, bus.Put{Key: p.Key, Value: p.Value})
		}
		ctx, cancel := context.WithCancel(t.Context())
		dying := &dyingLog{Log: log, appends: 1, die: cancel}
		w.kill()
		half := activeWriter(t, bus.WriterConfig{Log: dying, Stream: routes, Owner: "b", RulesVersion: 4})
		dying.armed = true
		if _, err := half.Write(ctx, d); err == nil {
			t.Fatal("the write did not die")
		}
		half.kill()
		next := activeWriter(t, bus.WriterConfig{Log: log, Stream: routes, Owner: "c", RulesVersion: 4})
		snapshot, err := next.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if snapshot.Basis.Text() != "CATALOG_dc1@5" || snapshot.RulesVersion != 4 || snapshot.Whole || !snapshot.Complete {
			t.Errorf("recorded: %s rules %d whole %v complete %v", snapshot.Basis.Text(), snapshot.RulesVersion, snapshot.Whole, snapshot.Complete)
		}
		if len(snapshot.Values) != 1002 { // writer, x, and a thousand
			t.Errorf("%d keys", len(snapshot.Values))
		}
		mustWrite(t, next, d)
		if snapshot, err = next.Snapshot(); err != nil || !snapshot.Whole || snapshot.Basis.Text() != "CATALOG_dc1@6" {
			t.Errorf("afterwards: %v %v", snapshot.Basis.Text(), err)
		}
	})
}

// dyingLog lets a number of appends through when armed, and then the process
// dies.
type dyingLog struct {
	bus.Log
	armed   bool
	appends int
	die     func()
}

func (l *dyingLog) Append(ctx context.Context, stream string, last uint64, messages []bus.Message) (uint64, error) {
	if l.armed {
		if l.appends == 0 {
			l.die()
			<-ctx.Done()
			return 0, fmt.Errorf("%w: %w", bus.ErrUnanswered, context.Cause(ctx))
		}
		l.appends--
	}
	return l.Log.Append(ctx, stream, last, messages)
}

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

// append puts a hand-made message of one transaction onto the end of a stream.
func appendByHand(t *testing.T, log bus.Log, stream string, envelope *isthmusv1.Envelope) {
	t.Helper()
	state, err := log.State(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if envelope.Incarnation == "" {
		envelope.Incarnation = state.Incarnation
	}
	envelope.Transaction, envelope.Position = "by hand", 1
	m := bus.Message{Key: isthmusv1.NodeKey("", "by-hand"), Record: marshal(t, &isthmusv1.Record{Envelope: envelope})}
	if _, err := log.Append(t.Context(), stream, state.Last, []bus.Message{m}); err != nil {
		t.Fatal(err)
	}
}

func routeOf(address string, b *isthmusv1.Basis) bus.Difference {
	return bus.Difference{Basis: b, Puts: []bus.Put{{Key: isthmusv1.NodeKey("", "x"), Value: &isthmusv1.Node{Name: "x", Address: address}}}}
}

func TestRecordedRulesThatAreNewerStopAnActiveWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, Stream: routes, RulesVersion: 2})
		mustWrite(t, w, routeOf("1", basis(catalog, "i", 1)))
		appendByHand(t, log, routes, &isthmusv1.Envelope{Term: 1, End: &isthmusv1.TransactionEnd{
			Basis: basis(catalog, "i", 1), RulesVersion: 3, Complete: true,
		}})
		synctest.Wait()
		if _, err := w.Write(t.Context(), routeOf("2", basis(catalog, "i", 2))); !errors.Is(err, bus.ErrOldRules) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAMessageOfAnotherIncarnationStopsTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "1", 1)))
		appendByHand(t, log, catalog, &isthmusv1.Envelope{Incarnation: "another", Term: 1})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if _, err := w.Write(t.Context(), difference(put("a", "2", 2))); !errors.Is(err, bus.ErrNotActive) {
			t.Errorf("got %v", err)
		}
		if n := len(history(t, log, catalog)); n != 3 {
			t.Errorf("%d messages", n)
		}
	})
}

func TestMessagesAreSignsOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{Faults: memlog.Faults{LostHeartbeat: 1}})
		a := activeWriter(t, bus.WriterConfig{Log: log.Connect("a"), Owner: "a"})
		b := startWriter(t, bus.WriterConfig{Log: log.Connect("b"), Owner: "b"})
		for i := range 50 {
			mustWrite(t, a, difference(put("x", fmt.Sprint(i), uint64(i+1))))
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if b.Active() {
			t.Error("the follower took over from a writer that writes")
		}
	})
}

// A follower that sees everything late reads the tail before it takes over: what
// it finds there is a sign of life too.
func TestTheTailIsReadBeforeATakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{Faults: memlog.Faults{LostHeartbeat: 1}})
		a := activeWriter(t, bus.WriterConfig{Log: log.Connect("a"), Owner: "a"})
		late := log.Connect("late")
		late.Delay(time.Hour)
		b := startWriter(t, bus.WriterConfig{Log: late, Owner: "b"})
		synctest.Wait()
		time.Sleep(time.Hour) // It has the bootstrap now.
		for i := range 50 {
			mustWrite(t, a, difference(put("x", fmt.Sprint(i), uint64(i+1))))
			time.Sleep(100 * time.Millisecond)
		}
		if b.Active() || a.Term() != 1 {
			t.Errorf("the late follower took over: a in term %d, b in term %d", a.Term(), b.Term())
		}
	})
}

// Only the tail tells whose a term is when the answer to a takeover is lost.
func TestATakeoverWhoseAnswerIsLost(t *testing.T) {
	for _, test := range []struct {
		name string
		lose func(*memlog.Log, string)
		want string
	}{
		{"it is in the log", (*memlog.Log).LoseAnswer, "a"},
		{"it is not, and another's of the same term is", (*memlog.Log).LoseRequest, "b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := memlog.New(memlog.Options{})
				if _, err := log.Create(t.Context(), bus.StreamConfig{Name: catalog}); err != nil {
					t.Fatal(err)
				}
				test.lose(log, catalog)
				a := startWriter(t, bus.WriterConfig{Log: log.Connect("a"), Owner: "a"})
				synctest.Wait() // It waits for its answer.
				b := startWriter(t, bus.WriterConfig{Log: log.Connect("b"), Owner: "b", TakeoverAfter: time.Hour})
				time.Sleep(5 * time.Second)
				synctest.Wait()
				for name, w := range map[string]writerProcess{"a": a, "b": b} {
					if w.Active() != (name == test.want) {
						t.Errorf("%s is active: %v", name, w.Active())
					}
				}
				equal(t, "log", lines(history(t, log, catalog)), []string{"1 writer ."})
			})
		})
	}
}

func TestHeartbeatsOfAPassedTermMeanNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		a := activeWriter(t, bus.WriterConfig{Log: log.Connect("a"), Owner: "a"})
		connectionOf(t, a).Delay(time.Hour)
		connectionOf(t, a).Cut(true)
		b := activeWriter(t, bus.WriterConfig{Log: log.Connect("b"), Owner: "b"})
		connectionOf(t, a).Cut(false) // It still beats, in term 1.
		c := startWriter(t, bus.WriterConfig{Log: log.Connect("c"), Owner: "c"})
		synctest.Wait()
		connectionOf(t, b).Cut(true)
		time.Sleep(bus.DefaultTakeoverAfter + bus.DefaultHeartbeatInterval)
		synctest.Wait()
		if !a.Active() || !c.Active() {
			t.Errorf("a believes in its term: %v; c has taken over: %v", a.Active(), c.Active())
		}
	})
}

func TestManyTakeoversEvictNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, MaxMessages: 80})
		mustWrite(t, w, difference(many(7, "1", 1)...))
		for i := range 200 {
			w.kill()
			w = activeWriter(t, bus.WriterConfig{Log: log, MaxMessages: 80, Owner: fmt.Sprint(i)})
			state, err := log.State(t.Context(), catalog)
			if err != nil {
				t.Fatal(err)
			}
			checkNewerHalf(t, log, state.Last, 80)
		}
		state, err := log.State(t.Context(), catalog)
		if err != nil || state.First == 1 {
			t.Fatalf("nothing was evicted: %+v %v", state, err)
		}
		if n := len(nodesAt(t, log, catalog, state.Last)); n != 7 {
			t.Errorf("%d nodes", n)
		}
	})
}

func TestBatchesKeepTheRuleToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		// At no moment, not only between two writes.
		checked := &afterAppend{Log: log, check: func(last uint64) { checkNewerHalf(t, log, last, 240) }}
		w := activeWriter(t, bus.WriterConfig{Log: checked, MaxMessages: 240})
		mustWrite(t, w, difference(many(10, "steady", 1)...))
		for i := range 100 {
			var puts []bus.Put
			for k := range 11 {
				puts = append(puts, put(fmt.Sprint("flapping", k), fmt.Sprint(i), uint64(i+2)))
			}
			mustWrite(t, w, difference(puts...))
		}
	})
}

// afterAppend looks at the log after each append.
type afterAppend struct {
	bus.Log
	check func(last uint64)
}

func (l *afterAppend) Append(ctx context.Context, stream string, expectedLast uint64, messages []bus.Message) (uint64, error) {
	last, err := l.Log.Append(ctx, stream, expectedLast, messages)
	if err == nil {
		l.check(last)
	}
	return last, err
}

func TestKeyframesSayTheBasisAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, Stream: routes, MaxMessages: 100, RulesVersion: 5})
		d := routeOf("0", basis(catalog, "i", 1))
		for k := range 4 {
			d.Puts = append(d.Puts, bus.Put{Key: isthmusv1.NodeKey("", fmt.Sprint(k)), Value: &isthmusv1.Node{}})
		}
		mustWrite(t, w, d)
		for i := range 300 {
			mustWrite(t, w, routeOf(fmt.Sprint(i+1), basis(catalog, "i", uint64(i+2))))
		}
		last, frames := new(isthmusv1.TransactionEnd), 0
		for _, m := range history(t, log, routes) {
			end := m.GetEnvelope().GetEnd()
			if end == nil {
				continue
			}
			if m.GetEnvelope().GetOrigin() != nil {
				frames++
				if last.GetBasis() != nil && (!proto.Equal(end.GetBasis(), last.GetBasis()) || end.GetRulesVersion() != 5) {
					t.Errorf("keyframes end at %d with %v after %v", m.Sequence, end.GetBasis().Text(), last.GetBasis().Text())
				}
			}
			last = end
		}
		if frames == 0 {
			t.Error("there are no keyframes")
		}
	})
}

func TestABasisIsNotRecordedWhenKeysWereRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: &raises{Log: log, refuse: errors.New("no")}, Stream: routes, MaxMessages: 40})
		mustWrite(t, w, routeOf("1", basis(catalog, "i", 1)))
		d := routeOf("2", basis(catalog, "i", 2))
		for k := range 20 {
			d.Puts = append(d.Puts, bus.Put{Key: isthmusv1.NodeKey("", fmt.Sprint(k)), Value: &isthmusv1.Node{}})
		}
		if _, err := w.Write(t.Context(), d); !errors.Is(err, bus.ErrFull) {
			t.Fatalf("got %v", err)
		}
		snapshot, err := w.Snapshot()
		if err != nil || snapshot.Basis.Text() != "CATALOG_dc1@1" || snapshot.Whole {
			t.Errorf("recorded %s, whole %v, %v", snapshot.Basis.Text(), snapshot.Whole, err)
		}
	})
}

func TestTheHeadsOfANewEpochAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("x", "1", 900)))
		d := bus.Difference{SourceEpoch: 1, SourceHeads: []*isthmusv1.SourceHead{{Query: "nodes", Index: 50}}}
		mustWrite(t, w, d)
		if _, err := w.Write(t.Context(), difference(put("x", "2", 50))); !errors.Is(err, bus.ErrStaleView) {
			t.Errorf("got %v", err)
		}
		mustWrite(t, w, difference(put("x", "2", 51)))
		snapshot, err := w.Snapshot()
		if err != nil || len(snapshot.SourceHeads) != 1 || snapshot.SourceHeads[0].GetIndex() != 51 || snapshot.SourceEpoch != 1 {
			t.Errorf("%+v %v", snapshot, err)
		}
	})
}

func TestTheFirstFillStaysComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "1", 1)))
		mustWrite(t, w, bus.Difference{Puts: []bus.Put{put("a", "2", 2)}})
		d := newDriver(log, catalog).run(t)
		synctest.Wait()
		equal(t, "state", d.machine.nodes(catalog), []string{"a=2"})
	})
}

func TestAnEmptyFirstFillIsCompleteToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		d := newDriver(log, catalog).run(t)
		mustWrite(t, w, difference())
		mustWrite(t, w, difference()) // once is enough
		synctest.Wait()
		equal(t, "bases", d.emitted(), []string{"CATALOG_dc1@2"})
	})
}

// A writer whose stream was made again behind its back is no longer the active
// one, and says that, not what became of the stream.
func TestAWriterOfAReplacedStreamIsNotActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log.Connect("w"), Owner: "w"})
		mustWrite(t, w, difference(put("x", "1", 1)))
		log.Delete(catalog)
		if _, err := log.Create(t.Context(), bus.StreamConfig{Name: catalog}); err != nil {
			t.Fatal(err)
		}
		// It has not looked yet: nothing ran since.
		if _, err := w.Write(t.Context(), difference(put("x", "2", 2))); !errors.Is(err, bus.ErrNotActive) {
			t.Errorf("got %v, want %v", err, bus.ErrNotActive)
		}
	})
}

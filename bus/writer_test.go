package bus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestWriterTakesAnEmptyStreamAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		began := time.Now()
		w := startWriter(t, bus.WriterConfig{Log: log})
		synctest.Wait()
		if !w.Active() || w.Term() != 1 || time.Since(began) != 0 {
			t.Fatalf("active %v in term %d after %v", w.Active(), w.Term(), time.Since(began))
		}
		equal(t, "log", lines(history(t, log, catalog)), []string{"1 writer ."})
	})
}

func TestOneDifferenceIsOneTransactionInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("c", "1", 1), put("a", "1", 1), put("b", "1", 1)))
		mustWrite(t, w, difference(gone("b", 2), put("d", "2", 2), gone("a", 2), put("c", "2", 2)))
		equal(t, "log", lines(history(t, log, catalog)), []string{
			"1 writer .",
			"2 node/a", "3 node/b", "4 node/c .",
			"5 node/c", "6 node/d", "7 node/a gone", "8 node/b gone .",
		})
		equal(t, "state", nodesAt(t, log, catalog, 8), []string{"c=2", "d=2"})
	})
}

func TestEnvelopeSaysWhatItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, Instance: "i"})
		d := difference(put("a", "1", 7), put("b", "1", 7))
		d.SourceHeads = []*isthmusv1.SourceHead{{Query: "z", Index: 3}, {Query: "nodes", Index: 7}}
		mustWrite(t, w, d)
		state, err := log.State(t.Context(), catalog)
		if err != nil {
			t.Fatal(err)
		}
		messages := history(t, log, catalog)[1:]
		var sum bus.StateSum
		for _, m := range history(t, log, catalog) {
			sum.Add(m.Key, m.GetValue())
		}
		for i, m := range messages {
			e := m.GetEnvelope()
			if e.GetIncarnation() != state.Incarnation || e.GetTerm() != 1 || e.GetTransaction() != "i-1-2" ||
				e.GetPosition() != uint32(i+1) || !e.GetTime().AsTime().Equal(time.Now()) || e.GetOrigin() != nil {
				t.Errorf("message %d: %v", i, e)
			}
			if s := e.GetSource(); s.GetQuery() != "nodes" || s.GetIndexAt() != 7 {
				t.Errorf("message %d: source %v", i, s)
			}
		}
		if messages[0].GetEnvelope().GetEnd() != nil {
			t.Error("the first message has a last mark")
		}
		end := messages[1].GetEnvelope().GetEnd()
		if end.GetLiveKeys() != 3 || end.GetMessages() != 2 || !end.GetComplete() || !sum.Matches(end.GetStateHash()) ||
			end.GetStateHash().GetAlgorithm() != bus.StateHashAlgorithm {
			t.Errorf("end: %v", end)
		}
		if h := end.GetSourceHeads(); len(h) != 2 || h[0].GetQuery() != "nodes" || h[1].GetIndex() != 3 {
			t.Errorf("heads: %v", h)
		}
	})
}

func TestWhatIsAlreadySoIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "1", 1), put("b", "1", 1)))
		// Source and indexes are never compared.
		position := mustWrite(t, w, difference(put("a", "1", 9), put("b", "1", 9), gone("never", 9)))
		if position.GetSequence() != 3 {
			t.Errorf("position %v", position)
		}
		// Of three, the one that differs.
		mustWrite(t, w, difference(put("a", "1", 10), put("b", "2", 10)))
		equal(t, "log", lines(history(t, log, catalog))[3:], []string{"4 node/b ."})
	})
}

func TestBatchLongerThanOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, Stream: routes, RulesVersion: 3})
		d := bus.Difference{Basis: basis("CATALOG_dc1", "x", 5)}
		for i := range 2500 {
			d.Puts = append(d.Puts, bus.Put{Key: isthmusv1.NodeKey("", fmt.Sprintf("n%04d", i)), Value: &isthmusv1.Node{}})
		}
		mustWrite(t, w, d)
		var ends []string
		for _, m := range history(t, log, routes)[1:] {
			if end := m.GetEnvelope().GetEnd(); end != nil {
				ends = append(ends, fmt.Sprintf("%d: %d messages, %d live, basis %q rules %d complete %v",
					m.Sequence, end.GetMessages(), end.GetLiveKeys(), end.GetBasis().Text(), end.GetRulesVersion(), end.GetComplete()))
			}
		}
		equal(t, "transactions", ends, []string{
			`1001: 1000 messages, 1001 live, basis "" rules 0 complete false`,
			`2001: 1000 messages, 2001 live, basis "" rules 0 complete false`,
			`2501: 500 messages, 2501 live, basis "CATALOG_dc1@5" rules 3 complete true`,
		})
	})
}

// A server holds a whole batch in memory, so large values are fewer to a batch.
func TestABatchHasFewLargeValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(many(40, strings.Repeat("x", 900<<10), 1)...))
		size, ends := 0, 0
		for _, m := range history(t, log, catalog) {
			size += len(m.Message.Record)
			if m.GetEnvelope().GetEnd() == nil {
				continue
			}
			if ends++; size > 9<<20 {
				t.Errorf("a transaction of %d bytes", size)
			}
			size = 0
		}
		if ends != 6 { // The writer's, and of 40 values nine each.
			t.Errorf("%d transactions", ends)
		}
	})
}

func TestLostAnswerToAnAcceptedPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		log.LoseAnswer(catalog)
		mustWrite(t, w, difference(put("a", "1", 1)))
		log.LoseAnswer(catalog)
		mustWrite(t, w, difference(put("a", "2", 2), gone("b", 2), put("c", "2", 2)))
		log.LoseRequest(catalog)
		mustWrite(t, w, difference(gone("a", 3)))
		equal(t, "log: each change once", lines(history(t, log, catalog)), []string{
			"1 writer .", "2 node/a .", "3 node/a", "4 node/c .", "5 node/a gone .",
		})
		if w.Term() != 1 {
			t.Errorf("term %d", w.Term())
		}
	})
}

func TestLostAnswerInTheMiddleOfALongDifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{Seed: 3, Faults: memlog.Faults{LostAnswer: .4, LostRequest: .3}})
		w := activeWriter(t, bus.WriterConfig{Log: log.Connect("writer")})
		mustWrite(t, w, difference(many(5200, "1", 1)...))
		tx, err := bus.StateAt(t.Context(), log, catalog, 5201)
		if err != nil {
			t.Fatal(err)
		}
		if len(tx.Changes) != 5201 || !tx.End.GetComplete() {
			t.Errorf("%d keys, end %v", len(tx.Changes), tx.End)
		}
	})
}

func TestTwoWritersAndADeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		a := activeWriter(t, bus.WriterConfig{Log: log.Connect("a"), Owner: "a"})
		connection := log.Connect("b")
		b := startWriter(t, bus.WriterConfig{Log: connection, Owner: "b"})
		mustWrite(t, a, difference(put("x", "1", 1)))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !a.Active() || b.Active() {
			t.Fatal("the follower took over from a live writer")
		}
		if _, err := b.Write(t.Context(), difference(put("x", "9", 9))); !errors.Is(err, bus.ErrNotActive) {
			t.Fatalf("a follower wrote: %v", err)
		}
		if snapshot, err := b.Snapshot(); err != nil || len(snapshot.Values) != 2 {
			t.Fatalf("the follower is not hot: %v %v", snapshot, err)
		}
		connectionOf(t, a).Cut(true) // It is dead to everybody else.
		died := time.Now()
		changed := b.Notify()
		<-changed
		for !b.Active() {
			<-changed
		}
		if took := time.Since(died); took > bus.DefaultTakeoverAfter+bus.DefaultHeartbeatInterval {
			t.Errorf("took over after %v", took)
		}
		mustWrite(t, b, difference(put("x", "2", 2)))
		// The dead one comes back and still believes in its term.
		connectionOf(t, a).Cut(false)
		if _, err := a.Write(t.Context(), difference(put("x", "3", 3))); !errors.Is(err, bus.ErrNotActive) {
			t.Errorf("the deposed writer wrote: %v", err)
		}
		synctest.Wait()
		if a.Active() || !b.Active() || b.Term() != 2 {
			t.Errorf("a %v, b %v in term %d", a.Active(), b.Active(), b.Term())
		}
		equal(t, "log", lines(history(t, log, catalog)), []string{"1 writer .", "2 node/x .", "3 writer .", "4 node/x ."})
	})
}

func TestOfTwoFollowersOneTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		a := activeWriter(t, bus.WriterConfig{Log: log, Owner: "a"})
		b := startWriter(t, bus.WriterConfig{Log: log, Owner: "b"})
		c := startWriter(t, bus.WriterConfig{Log: log, Owner: "c"})
		synctest.Wait()
		a.kill()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if b.Active() == c.Active() {
			t.Errorf("b %v, c %v", b.Active(), c.Active())
		}
		equal(t, "log: one new term", lines(history(t, log, catalog)), []string{"1 writer .", "2 writer ."})
	})
}

func TestAWriterThatStopsHandsOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		a := activeWriter(t, bus.WriterConfig{Log: log, Owner: "a"})
		b := startWriter(t, bus.WriterConfig{Log: log, Owner: "b"})
		synctest.Wait()
		stopped := time.Now()
		a.kill()
		synctest.Wait()
		if !b.Active() || time.Since(stopped) != 0 {
			t.Errorf("active %v after %v", b.Active(), time.Since(stopped))
		}
	})
}

func TestTheSourceDecidesWhoWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		var aLive, bLive atomicBool
		aLive.set(true)
		a := activeWriter(t, bus.WriterConfig{Log: log, Owner: "a", SourceLive: aLive.get})
		b := startWriter(t, bus.WriterConfig{Log: log, Owner: "b", SourceLive: bLive.get})
		aLive.set(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !a.Active() || b.Active() {
			t.Fatal("a writer without a source took over")
		}
		bLive.set(true)
		time.Sleep(bus.DefaultTakeoverAfter)
		synctest.Wait()
		if a.Active() || !b.Active() {
			t.Error("the writer that sees its source did not take over from the one that has lost it")
		}
	})
}

func TestRecreatedStreamIsFilledAgainByItsWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "1", 5)))
		before, err := log.State(t.Context(), catalog)
		if err != nil {
			t.Fatal(err)
		}
		log.Delete(catalog)
		time.Sleep(time.Second)
		synctest.Wait()
		if !w.Active() || w.Term() != 1 {
			t.Fatalf("active %v, term %d", w.Active(), w.Term())
		}
		// Nothing is recorded in the new incarnation, so any index is new.
		mustWrite(t, w, difference(put("a", "1", 5)))
		after, err := log.State(t.Context(), catalog)
		if err != nil {
			t.Fatal(err)
		}
		if after.Incarnation == before.Incarnation {
			t.Error("the incarnation is the old one")
		}
		equal(t, "log", lines(history(t, log, catalog)), []string{"1 writer .", "2 node/a ."})
	})
}

func TestNewWriterRefusesWhatCannotWork(t *testing.T) {
	log := memlog.New(memlog.Options{})
	for name, cfg := range map[string]bus.WriterConfig{
		"no log":    {Stream: catalog, Owner: "x"},
		"no owner":  {Stream: catalog, Log: log},
		"status":    {Stream: "STATUS_dc1", Log: log, Owner: "x"},
		"no stream": {Log: log, Owner: "x"},
		"limit":     {Stream: catalog, Log: log, Owner: "x", MaxMessages: -1},
	} {
		if _, err := bus.NewWriter(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDifferenceMustMakeSense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		for name, d := range map[string]bus.Difference{
			"a key twice":        difference(put("a", "1", 1), put("a", "2", 1)),
			"put and deleted":    {Puts: []bus.Put{put("a", "1", 1)}, Deletes: []isthmusv1.Key{isthmusv1.NodeKey("", "a")}},
			"the writer's key":   {Deletes: []isthmusv1.Key{isthmusv1.WriterKey()}},
			"a key of no kind":   {Deletes: []isthmusv1.Key{{}}},
			"the record of kind": {Deletes: []isthmusv1.Key{isthmusv1.BasisKey()}},
		} {
			if _, err := w.Write(t.Context(), d); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	})
}

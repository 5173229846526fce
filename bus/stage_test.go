package bus_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// script makes the messages of a stream from words: one transaction per
// argument, one key per word, `-x` for a tombstone, a trailing `…` for a
// transaction that stays open. The first transaction completes the first fill.
type script struct {
	incarnation string
	messages    []bus.Message
	live        map[isthmusv1.Key][]byte
	incomplete  bool
}

func (s *script) add(t testing.TB, transactions ...string) *script {
	t.Helper()
	if s.live == nil {
		s.live = make(map[isthmusv1.Key][]byte)
	}
	for _, words := range transactions {
		open := strings.HasSuffix(words, "…")
		words = strings.TrimSuffix(words, "…")
		keys := strings.Fields(words)
		id := fmt.Sprintf("t%d", len(s.messages)+1)
		for i, word := range keys {
			name, tombstone := strings.CutPrefix(word, "-")
			name, address, _ := strings.Cut(name, "=")
			key := isthmusv1.NodeKey("", name)
			r := &isthmusv1.Record{Tombstone: tombstone, Envelope: &isthmusv1.Envelope{
				Incarnation: s.incarnation, Term: 1, Transaction: id, Position: uint32(i + 1),
			}}
			if tombstone {
				delete(s.live, key)
			} else {
				r.Value = marshal(t, &isthmusv1.Node{Name: name, Address: address})
				s.live[key] = r.GetValue()
			}
			if i == len(keys)-1 && !open {
				var sum bus.StateSum
				for k, v := range s.live {
					sum.Add(k, v)
				}
				r.Envelope.End = &isthmusv1.TransactionEnd{
					LiveKeys: uint64(len(s.live)), StateHash: sum.Hash(), Complete: !s.incomplete, Messages: uint32(len(keys)),
				}
			}
			s.messages = append(s.messages, bus.Message{
				Key: key, Record: marshal(t, r), Sequence: uint64(len(s.messages) + 1),
			})
		}
	}
	return s
}

// bootstrap is what a consumer shows of the messages up to S: the last of each
// key, those from first on.
func (s *script) bootstrap(first, upTo uint64) (bus.StreamState, []bus.Message) {
	last := make(map[isthmusv1.Key]bus.Message)
	for _, m := range s.messages[first-1 : upTo] {
		last[m.Key] = m
	}
	var out []bus.Message
	for _, m := range s.messages[first-1 : upTo] {
		if last[m.Key].Sequence == m.Sequence {
			out = append(out, m)
		}
	}
	return bus.StreamState{Stream: catalog, Incarnation: s.incarnation, First: first, Last: upTo, Messages: upTo + 1 - first}, out
}

// show prints a transaction: its sequence, Reset, and its changes.
func show(tx *isthmusv1.Transaction) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", tx.Sequence)
	if tx.Reset {
		b.WriteString(" reset")
	}
	for _, c := range tx.Changes {
		if c.Tombstone {
			fmt.Fprintf(&b, " -%s", c.Key.Parts()[0])
		} else {
			fmt.Fprintf(&b, " %s=%s", c.Key.Parts()[0], c.Value.(*isthmusv1.Node).GetAddress())
		}
	}
	return b.String()
}

// feed gives a stage messages and answers its needs out of the script.
func (s *script) feed(t *testing.T, stage *bus.Stage, messages ...bus.Message) ([]string, error) {
	t.Helper()
	var out []string
	note := func(tx *isthmusv1.Transaction, err error) error {
		if tx != nil {
			out = append(out, show(tx))
		}
		return err
	}
	for _, m := range messages {
		if err := note(stage.Add(m)); err != nil {
			return out, err
		}
		need := stage.Need()
		if need == nil {
			continue
		}
		if need.UpTo == 0 {
			if err := note(stage.Fill(nil, nil)); err != nil {
				return out, err
			}
			continue
		}
		var earlier []bus.Message
		for _, m := range slices.Backward(s.messages[:need.UpTo]) {
			if i := slices.Index(need.Keys, m.Key); i >= 0 {
				earlier = append(earlier, m)
				need.Keys = slices.Delete(slices.Clone(need.Keys), i, i+1)
			}
		}
		if err := note(stage.Fill(earlier, &s.messages[need.UpTo-1])); err != nil {
			return out, err
		}
	}
	return out, nil
}

func TestStageBootstrapsAndFollows(t *testing.T) {
	for _, test := range []struct {
		name         string
		transactions []string
		upTo         uint64 // S
		want         []string
	}{
		{"a whole transaction at the end", []string{"a=1 b=1", "b=2"}, 3, []string{"3 reset a=1 b=2"}},
		{"tombstones are not state", []string{"a=1 b=1", "-a c=3"}, 4, []string{"4 reset b=1 c=3"}},
		{"then transactions, whole", []string{"a=1", "b=2 c=2", "-a d=3", "d=4"}, 1, []string{"1 reset a=1", "3 b=2 c=2", "5 -a d=3", "6 d=4"}},
		{"half an old transaction in the bootstrap is fine", []string{"a=1 b=1 c=1", "b=2"}, 4, []string{"4 reset a=1 c=1 b=2"}},
		{
			"a transaction open across S is held back whole, its keys at their earlier values",
			[]string{"a=1 b=1 c=1", "x=1", "a=2 -b d=2"}, 6,
			[]string{"4 reset a=1 b=1 c=1 x=1", "7 a=2 -b d=2"},
		},
		{"open since the very first message", []string{"a=1 b=1 c=1"}, 2, []string{"3 reset a=1 b=1 c=1"}},
		{"one message of it before S", []string{"a=1", "a=2 b=2"}, 2, []string{"1 reset a=1", "3 a=2 b=2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := (&script{incarnation: "i"}).add(t, test.transactions...)
			start, boot := s.bootstrap(1, test.upTo)
			stage := bus.NewStage(start)
			got, err := s.feed(t, stage, slices.Concat(boot, s.messages[test.upTo:])...)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "transactions", got, test.want)
			if !stage.CaughtUp() {
				t.Error("it is not caught up")
			}
		})
	}
}

// Wherever the bootstrap ends, and whatever a replaced consumer shows a second
// time, a reader comes to the same state by the same transactions.
func TestStageAtEveryBoundary(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := &script{incarnation: "i"}
		word := rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"", "", "-"}).Draw(t, "tombstone") + rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "key") +
				"=" + rapid.StringMatching(`[1-9]`).Draw(t, "value")
		})
		for range rapid.IntRange(1, 12).Draw(rt, "transactions") {
			words := rapid.SliceOfNDistinct(word, 1, 4, func(w string) string {
				name, _, _ := strings.Cut(strings.TrimPrefix(w, "-"), "=")
				return name
			}).Draw(rt, "transaction")
			s.add(t, strings.Join(words, " "))
		}
		upTo := rapid.Uint64Range(1, uint64(len(s.messages))).Draw(rt, "S")
		start, boot := s.bootstrap(1, upTo)
		if n := rapid.IntRange(0, len(boot)).Draw(rt, "reset after"); n > 0 && rapid.Bool().Draw(rt, "reset") {
			// The new consumer shows all from there on, superseded ones too.
			boot = append(slices.Clone(boot[:n]), s.messages[boot[n-1].Sequence:upTo]...)
		}
		messages := slices.Concat(boot, s.messages[upTo:])
		for range rapid.IntRange(0, 3).Draw(rt, "duplicates") {
			i := rapid.IntRange(0, len(messages)-1).Draw(rt, "duplicate")
			messages = slices.Insert(messages, i+1, messages[i])
		}
		machine := newStateMachine()
		stage := bus.NewStage(start)
		for _, m := range messages {
			tx, err := stage.Add(m)
			if err != nil {
				rt.Fatal(err)
			}
			if stage.Need() != nil {
				tx = answer(rt, s, stage)
			}
			if tx == nil {
				continue
			}
			machine.Apply(tx)
			if got, want := machine.nodes(catalog), s.at(tx.Sequence); !slices.Equal(got, want) {
				rt.Fatalf("at %d: %v, want %v", tx.Sequence, got, want)
			}
		}
		if last := machine.transactions[len(machine.transactions)-1]; last.Sequence != uint64(len(s.messages)) {
			rt.Fatalf("it ends at %d of %d", last.Sequence, len(s.messages))
		}
	})
}

// at is the true state at a sequence.
func (s *script) at(sequence uint64) []string {
	state := make(map[isthmusv1.Key]string)
	for _, m := range s.messages[:sequence] {
		r := read(m)
		if r.GetTombstone() {
			delete(state, m.Key)
		} else {
			state[m.Key] = string(r.GetValue())
		}
	}
	return nodesOf(state)
}

func answer(t *rapid.T, s *script, stage *bus.Stage) *isthmusv1.Transaction {
	need := stage.Need()
	var earlier []bus.Message
	for _, m := range s.messages[:need.UpTo] {
		earlier = slices.DeleteFunc(earlier, func(old bus.Message) bool { return old.Key == m.Key })
		if slices.Contains(need.Keys, m.Key) {
			earlier = append(earlier, m)
		}
	}
	var closed *bus.Message
	if need.UpTo > 0 {
		closed = &s.messages[need.UpTo-1]
	}
	tx, err := stage.Fill(earlier, closed)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// A promoted mirror may begin with half a transaction that nobody will close.
func TestWhatAWriterLeftOpenBelongsToTheNextTransaction(t *testing.T) {
	s := (&script{incarnation: "i"}).add(t, "z=1", "a=1 b=2…", "a=3 c=1", "d=1")
	start, boot := s.bootstrap(1, 1)
	got, err := s.feed(t, bus.NewStage(start), slices.Concat(boot, s.messages[1:])...)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "transactions", got, []string{"1 reset z=1", "5 b=2 a=3 c=1", "6 d=1"})
}

func TestStageKeepsBackAnIncompleteFirstFill(t *testing.T) {
	s := &script{incarnation: "i", incomplete: true}
	s.add(t, "a=1", "b=1", "a=2 c=2")
	s.incomplete = false
	s.add(t, "d=3", "a=4")
	for upTo := range uint64(6) {
		start, boot := s.bootstrap(1, upTo)
		stage := bus.NewStage(start)
		tx, err := stage.Begin()
		if err != nil || tx != nil {
			t.Fatalf("an unfilled stream gave %v, %v", tx, err)
		}
		got, err := s.feed(t, stage, slices.Concat(boot, s.messages[upTo:])...)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"5 reset b=1 a=2 c=2 d=3", "6 a=4"}
		equal(t, fmt.Sprintf("S = %d", upTo), got, want)
	}
}

func TestStageWaitsWhereEarlierValuesHaveLeft(t *testing.T) {
	s := (&script{incarnation: "i"}).add(t, "a=1 b=1", "a=2 b=2 c=2", "c=3")
	start, boot := s.bootstrap(3, 4)
	stage := bus.NewStage(start)
	for _, m := range boot {
		if tx, err := stage.Add(m); err != nil || tx != nil {
			t.Fatalf("%v %v", tx, err)
		}
	}
	stage.Wait()
	got, err := s.feed(t, stage, s.messages[4:]...)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "transactions", got, []string{"5 reset a=2 b=2 c=2", "6 c=3"})
}

func TestStageSaysWhatIsWrong(t *testing.T) {
	whole := (&script{incarnation: "i"}).add(t, "a=1", "b=1", "c=1", "d=1")
	other := (&script{incarnation: "other"}).add(t, "a=1", "b=1", "c=1", "d=1")
	broken := slices.Clone(whole.messages)
	broken[1].Record = []byte("\xff")
	badValue := slices.Clone(whole.messages)
	badValue[1].Record = marshal(t, &isthmusv1.Record{Value: []byte("\xff"), Envelope: read(badValue[1]).GetEnvelope()})
	wrongHash := slices.Clone(whole.messages)
	wrongHash[0].Record = marshal(t, &isthmusv1.Record{Value: []byte{}, Envelope: read(wrongHash[0]).GetEnvelope()})
	for _, test := range []struct {
		name     string
		s        uint64
		messages []bus.Message
		want     error
	}{
		{"a jump while following", 1, []bus.Message{whole.messages[0], whole.messages[2]}, bus.ErrGap},
		{"the bootstrap's last message is missing", 3, []bus.Message{whole.messages[0], whole.messages[3]}, bus.ErrGap},
		{"another incarnation while following", 2, slices.Concat(whole.messages[:2], other.messages[2:]), bus.ErrIncarnation},
		{"a mirror whose origin was made again", 4, slices.Concat(whole.messages[:2], other.messages[2:]), bus.ErrIncarnation},
		{"an unreadable record", 1, broken, bus.ErrMalformed},
		{"an unreadable value", 1, badValue, bus.ErrMalformed},
		{"a state that is not what its writer recorded", 3, wrongHash, bus.ErrStateHash},
	} {
		t.Run(test.name, func(t *testing.T) {
			stage := bus.NewStage(bus.StreamState{Stream: catalog, First: 1, Last: test.s, Messages: test.s})
			var err error
			for _, m := range test.messages {
				if _, err = stage.Add(m); err != nil {
					break
				}
			}
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestStageOfKindsOfTheFuture(t *testing.T) {
	record := marshal(t, &isthmusv1.Record{Value: []byte("\xff\xfe"), Envelope: &isthmusv1.Envelope{
		Incarnation: "i", Position: 1, End: &isthmusv1.TransactionEnd{Complete: true},
	}})
	stage := bus.NewStage(bus.StreamState{Stream: catalog, First: 1, Last: 1, Messages: 1})
	tx, err := stage.Add(bus.Message{Key: isthmusv1.NewKey("of-the-future", "x"), Record: record, Sequence: 1})
	if err != nil || len(tx.Changes) != 1 || tx.Changes[0].Value != nil || string(tx.Changes[0].Bytes) != "\xff\xfe" {
		t.Errorf("%+v %v", tx, err)
	}
}

func TestResumeStage(t *testing.T) {
	s := (&script{incarnation: "i"}).add(t, "a=1", "b=1 c=1", "d=1")
	stage := bus.ResumeStage(&isthmusv1.Position{Stream: catalog, Incarnation: "i", Sequence: 1})
	got, err := s.feed(t, stage, s.messages...)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "transactions", got, []string{"3 b=1 c=1", "4 d=1"})
}

func TestStateAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		if _, err := bus.StateAt(t.Context(), log, catalog, 1); !errors.Is(err, bus.ErrNoStream) {
			t.Errorf("no stream: %v", err)
		}
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "1", 1), put("b", "1", 1)))
		mustWrite(t, w, difference(put("a", "2", 2), gone("b", 2), put("c", "2", 2)))
		for sequence, want := range []struct {
			at    uint64
			nodes []string
		}{
			{0, nil}, {1, nil}, {1, nil}, {3, []string{"a=1", "b=1"}},
			{3, []string{"a=1", "b=1"}}, // 4 and 5 are half a transaction
			{3, []string{"a=1", "b=1"}},
			{6, []string{"a=2", "c=2"}},
		} {
			tx, err := bus.StateAt(t.Context(), log, catalog, uint64(sequence))
			if err != nil {
				t.Fatal(err)
			}
			if tx.Sequence != want.at || !tx.Reset {
				t.Errorf("at %d: %d", sequence, tx.Sequence)
			}
			equal(t, fmt.Sprint("at ", sequence), nodesAt(t, log, catalog, uint64(sequence)), want.nodes)
		}
		if _, err := bus.StateAt(t.Context(), log, catalog, 7); !errors.Is(err, bus.ErrNotYet) {
			t.Errorf("beyond the end: %v", err)
		}
	})
}

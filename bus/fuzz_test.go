package bus_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// hostileKeys are the keys that a hostile stream's messages choose from: one of
// every kind, a second node, and a kind that this version does not know.
var hostileKeys = []isthmusv1.Key{
	isthmusv1.NodeKey("", "a"), isthmusv1.NodeKey("", "b"), isthmusv1.WriterKey(), isthmusv1.BasisKey(),
	isthmusv1.RootsKey(), isthmusv1.MeshFactsKey(), isthmusv1.InstanceKey("", "a", "", "i"),
	isthmusv1.ConfigKey("service-intentions", "", "", "*"), isthmusv1.PreparedQueryKey("q"), isthmusv1.MeshKey(),
	isthmusv1.NewKey(isthmusv1.KindEndpoint, "dc1", "service", "lan", "a", "-", "0"),
	isthmusv1.NewKey(isthmusv1.KindInbound, "a"), isthmusv1.NewKey(isthmusv1.KindRouteSet, "a", "0"),
	isthmusv1.ProxyKey("", "a", "", "p"), isthmusv1.NewKey(isthmusv1.KindName, "a"), isthmusv1.WildcardKey("dc2"),
	isthmusv1.ReportKey("gateway", "g"), isthmusv1.NewKey("of-the-future", "x"),
}

// packMessages is how a fuzz target holds a stream: each message as its key's
// place in hostileKeys, two bytes of length, and the record.
func packMessages(messages []bus.Message) []byte {
	var out []byte
	for _, m := range messages {
		out = append(out, byte(slices.Index(hostileKeys, m.Key)))
		out = binary.BigEndian.AppendUint16(out, uint16(len(m.Record)))
		out = append(out, m.Record...)
	}
	return out
}

func unpackMessages(packed []byte) []bus.Message {
	var out []bus.Message
	for len(packed) >= 3 {
		key := hostileKeys[int(packed[0])%len(hostileKeys)]
		length := min(int(binary.BigEndian.Uint16(packed[1:])), len(packed)-3)
		out = append(out, bus.Message{Key: key, Record: packed[3 : 3+length], Sequence: uint64(len(out) + 1)})
		packed = packed[3+length:]
	}
	return out
}

// FuzzEvents: whatever the records of a stream hold, a reader either comes to
// the state that they say, or refuses one of them and says which.
func FuzzEvents(f *testing.F) {
	seedEvents(f)
	f.Fuzz(func(t *testing.T, class, upTo byte, packed []byte) {
		stream := []string{catalog, routes, "STATUS_dc1"}[class%3]
		h := hostile{stream: stream, messages: unpackMessages(packed)}
		if len(h.messages) == 0 {
			return
		}
		h.upTo = uint64(upTo) % uint64(len(h.messages)+1)
		got, err := h.read(t)
		h.refusal(t, err)

		// A writer's library may lay the same record out in another way.
		for i := range h.messages {
			record := new(isthmusv1.Record)
			if proto.Unmarshal(h.messages[i].Record, record) == nil {
				h.messages[i].Record = marshal(t, record)
			}
		}
		again, errAgain := h.read(t)
		if fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Errorf("read with %v, and laid out anew with %v", err, errAgain)
		}
		if !slices.EqualFunc(got, again, sameTransaction) {
			t.Errorf("read as\n%+v\nand laid out anew as\n%+v", got, again)
		}
	})
}

func seedEvents(f *testing.F) {
	f.Helper()
	scripts := []*script{
		(&script{incarnation: "i"}).add(f, "a=1 b=1", "b=2", "-a", "a=3 -b"),
		(&script{incarnation: "i"}).add(f, "a=1", "a=2 b=2…", "b=3 a=4", "b=5"),
		(&script{incarnation: "i", incomplete: true}).add(f, "a=1", "b=1"),
	}
	scripts[2].incomplete = false
	scripts[2].add(f, "a=2 b=2", "-a")
	for _, s := range scripts {
		for upTo := range len(s.messages) + 1 {
			for class := range byte(3) {
				f.Add(class, byte(upTo), packMessages(s.messages))
			}
		}
	}
	// One message of each kind, with all that an envelope can say.
	var all []bus.Message
	for i, key := range hostileKeys {
		r := &isthmusv1.Record{Value: []byte{}, Envelope: &isthmusv1.Envelope{
			Incarnation: "i", Term: 2, Transaction: "t", Position: 1,
			Origin: &isthmusv1.Origin{Incarnation: "h", Sequence: 9}, Source: &isthmusv1.Source{File: "f", Line: 3},
			End: &isthmusv1.TransactionEnd{Complete: true, Messages: 1, Basis: &isthmusv1.Basis{
				Positions: []*isthmusv1.Position{{Stream: catalog, Incarnation: "c", Sequence: 4}},
			}},
		}}
		all = append(all, bus.Message{Key: key, Record: marshal(f, r), Sequence: uint64(i + 1)})
	}
	f.Add(byte(0), byte(len(all)), packMessages(all))
	f.Add(byte(1), byte(1), packMessages(all))
	f.Add(byte(0), byte(1), []byte{0, 0, 1, 0xff})
}

// TestATransactionThatBeganBeforeTheStream: a message can be no further into its
// transaction than there are messages; FuzzEvents found a reader that asked for
// what was before the first one.
func TestATransactionThatBeganBeforeTheStream(t *testing.T) {
	for position, refused := range []bool{1: false, 2: false, 3: true} {
		record := marshal(t, &isthmusv1.Record{Envelope: &isthmusv1.Envelope{Incarnation: "i", Position: uint32(position)}})
		stage := bus.NewStage(bus.StreamState{Stream: catalog, First: 1, Last: 2, Messages: 2})
		_, err := stage.Add(bus.Message{Key: hostileKeys[0], Record: record, Sequence: 2})
		if errors.Is(err, bus.ErrMalformed) != refused || (err != nil) != refused {
			t.Errorf("position %d of the second message: %v", position, err)
		}
	}
}

// hostile is a stream that anybody may have written.
type hostile struct {
	stream   string
	messages []bus.Message
	// upTo is S, where the bootstrap ends.
	upTo uint64
}

// bootstrap is what a consumer shows: of the messages up to S the last of each
// key, and all after it.
func (h *hostile) bootstrap() (bus.StreamState, []bus.Message) {
	var shown []bus.Message
	for _, m := range h.messages {
		if m.Sequence <= h.upTo {
			shown = slices.DeleteFunc(shown, func(old bus.Message) bool { return old.Key == m.Key })
		}
		shown = append(shown, m)
	}
	state := bus.StreamState{Stream: h.stream, Last: h.upTo, Messages: h.upTo}
	if h.upTo > 0 {
		state.First = 1
	}
	return state, shown
}

// read feeds a stage, and checks each transaction against the messages.
func (h *hostile) read(t *testing.T) ([]*isthmusv1.Transaction, error) {
	t.Helper()
	start, shown := h.bootstrap()
	stage := bus.NewStage(start)
	state := map[isthmusv1.Key][]byte{}
	var out []*isthmusv1.Transaction
	take := func(tx *isthmusv1.Transaction, err error) error {
		if err != nil || tx == nil {
			return err
		}
		h.wellFormed(t, tx, out)
		apply(state, tx)
		h.holds(t, state, tx.Sequence)
		out = append(out, tx)
		return nil
	}
	if err := take(stage.Begin()); err != nil {
		return out, err
	}
	for _, m := range shown {
		if err := take(stage.Add(m)); err != nil {
			return out, err
		}
		if need := stage.Need(); need != nil {
			if need.UpTo >= m.Sequence {
				t.Fatalf("after %d it needs what is after %d", m.Sequence, need.UpTo)
			}
			if err := take(stage.Fill(h.answer(need))); err != nil {
				return out, err
			}
		}
		if tx, err := stage.Add(m); tx != nil || err != nil {
			t.Fatalf("message %d the second time gave %v, %v", m.Sequence, tx, err)
		}
	}
	return out, nil
}

// answer is what a log would answer to a need.
func (h *hostile) answer(need *bus.Need) (earlier []bus.Message, closed *bus.Message) {
	for _, m := range h.messages[:need.UpTo] {
		earlier = slices.DeleteFunc(earlier, func(old bus.Message) bool { return old.Key == m.Key })
		if slices.Contains(need.Keys, m.Key) {
			earlier = append(earlier, m)
		}
		closed = &h.messages[m.Sequence-1]
	}
	return earlier, closed
}

// wellFormed checks what is promised of every transaction.
func (h *hostile) wellFormed(t *testing.T, tx *isthmusv1.Transaction, before []*isthmusv1.Transaction) {
	t.Helper()
	if tx.Stream != h.stream || tx.Reset != (len(before) == 0) {
		t.Fatalf("transaction %d is of %s, reset %v", len(before), tx.Stream, tx.Reset)
	}
	if len(before) > 0 && tx.Sequence <= before[len(before)-1].Sequence {
		t.Fatalf("at %d after %d", tx.Sequence, before[len(before)-1].Sequence)
	}
	last, seen := uint64(0), map[isthmusv1.Key]bool{}
	for _, c := range tx.Changes {
		if c.Sequence <= last || c.Sequence > tx.Sequence || seen[c.Key] {
			t.Fatalf("at %d: %s of %d after %d, seen %v", tx.Sequence, c.Key, c.Sequence, last, seen[c.Key])
		}
		last, seen[c.Key] = c.Sequence, true
		if c.Tombstone && (tx.Reset || c.Value != nil || c.Bytes != nil) {
			t.Fatalf("at %d: a tombstone of %s with a value, or in a reset", tx.Sequence, c.Key)
		}
		if c.Tombstone {
			continue
		}
		if known := isthmusv1.NewValue(c.Key.Kind) != nil; c.Bytes == nil || known != (c.Value != nil) {
			t.Fatalf("at %d: %s: value %v of bytes %x", tx.Sequence, c.Key, c.Value, c.Bytes)
		}
		if published := read(h.messages[c.Sequence-1]).GetValue(); !bytes.Equal(c.Bytes, published) {
			t.Fatalf("at %d: %s: bytes %x, published %x", tx.Sequence, c.Key, c.Bytes, published)
		}
		if c.Value == nil {
			continue
		}
		back := isthmusv1.NewValue(c.Key.Kind)
		if err := proto.Unmarshal(marshal(t, c.Value), back); err != nil || !proto.Equal(back, c.Value) {
			t.Fatalf("at %d: %s comes back as %v, %v", tx.Sequence, c.Value, back, err)
		}
	}
}

func apply(state map[isthmusv1.Key][]byte, tx *isthmusv1.Transaction) {
	if tx.Reset {
		clear(state)
	}
	for _, c := range tx.Changes {
		if c.Tombstone {
			delete(state, c.Key)
		} else {
			state[c.Key] = c.Bytes
		}
	}
}

// holds checks that a state is what the messages up to a sequence say, one after
// the other.
func (h *hostile) holds(t *testing.T, state map[isthmusv1.Key][]byte, sequence uint64) {
	t.Helper()
	want, unreadable := map[isthmusv1.Key][]byte{}, map[isthmusv1.Key]bool{}
	for _, m := range h.messages[:sequence] {
		r := new(isthmusv1.Record)
		// What a later message replaces need not be readable: it is never shown.
		unreadable[m.Key] = proto.Unmarshal(m.Record, r) != nil
		if r.GetTombstone() {
			delete(want, m.Key)
		} else {
			want[m.Key] = r.GetValue()
		}
	}
	for key, value := range want {
		if unreadable[key] {
			t.Fatalf("at %d: the last message of %s cannot be read, and was taken", sequence, key)
		}
		if got, ok := state[key]; !ok || !bytes.Equal(got, value) {
			t.Fatalf("at %d: %s is %x, %v; want %x", sequence, key, got, ok, value)
		}
	}
	if len(state) != len(want) {
		t.Fatalf("at %d: %d keys, want %d", sequence, len(state), len(want))
	}
}

var refusedAt = regexp.MustCompile(`^([A-Z]+_dc1) at ([0-9]+): `)

// refusal checks that an error is one that ends a stage, and names the message.
func (h *hostile) refusal(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if !slices.ContainsFunc([]error{bus.ErrGap, bus.ErrIncarnation, bus.ErrStateHash, bus.ErrMalformed},
		func(sentinel error) bool { return errors.Is(err, sentinel) }) {
		t.Errorf("refused with %v", err)
	}
	found := refusedAt.FindStringSubmatch(err.Error())
	if found == nil || found[1] != h.stream {
		t.Fatalf("no message is named: %v", err)
	}
	if n, _ := strconv.Atoi(found[2]); n < 1 || n > len(h.messages) {
		t.Errorf("message %d of %d is named: %v", n, len(h.messages), err)
	}
}

// sameTransaction compares what can differ when a record is laid out anew; the
// values' bytes are compared by wellFormed.
func sameTransaction(a, b *isthmusv1.Transaction) bool {
	return a.Sequence == b.Sequence && a.Incarnation == b.Incarnation && a.Reset == b.Reset && proto.Equal(a.End, b.End) &&
		slices.EqualFunc(a.Changes, b.Changes, func(a, b isthmusv1.Change) bool {
			return a.Key == b.Key && a.Tombstone == b.Tombstone && a.Sequence == b.Sequence && a.Origin == b.Origin &&
				a.Time.Equal(b.Time) && bytes.Equal(a.Bytes, b.Bytes) && proto.Equal(a.Source, b.Source)
		})
}

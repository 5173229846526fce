package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func testCreate(t *testing.T, log bus.Log) {
	name := stream()
	first := create(t, log, bus.StreamConfig{Name: name, MaxMessages: 100})
	if first.Incarnation == "" || first.Stream != name || first.MaxMessages != 100 || first.Last != 0 || first.Mirror != nil {
		t.Errorf("new stream: %+v", first)
	}
	put(t, log, name, 0, "a=1")
	for _, step := range []struct{ ask, want int64 }{{50, 100}, {200, 200}, {0, bus.DefaultMaxMessages}} {
		again := create(t, log, bus.StreamConfig{Name: name, MaxMessages: step.ask})
		if again.MaxMessages != step.want || again.Incarnation != first.Incarnation || again.Last != 1 {
			t.Errorf("created again with %d: %+v, want the limit %d and all else kept", step.ask, again, step.want)
		}
	}
	other := create(t, log, bus.StreamConfig{Name: stream()})
	if other.Incarnation == first.Incarnation {
		t.Errorf("two streams have the incarnation %q", other.Incarnation)
	}
	names, err := log.Streams(t.Context())
	if err != nil || !slices.Contains(names, name) || !slices.Contains(names, other.Stream) || !slices.IsSorted(names) {
		t.Errorf("streams: %q, %v", names, err)
	}
}

func testCreateRefuses(t *testing.T, log bus.Log) {
	for what, config := range map[string]bus.StreamConfig{
		"a name of no class":        {Name: "OTHER_dc1"},
		"an age limit on a catalog": {Name: stream(), MaxAge: 1},
		"a negative limit":          {Name: stream(), MaxMessages: -1},
		"a mirror of nowhere":       {Name: stream(), Mirror: &bus.Mirror{}},
	} {
		_, err := log.Create(t.Context(), config)
		wantError(t, what, err, bus.ErrMalformed)
	}
}

func testNoStream(t *testing.T, log bus.Log) {
	name := stream()
	_, err := log.State(t.Context(), name)
	wantError(t, "state", err, bus.ErrNoStream)
	_, err = log.Append(t.Context(), name, 0, []bus.Message{message("a", "1")})
	wantError(t, "append", err, bus.ErrNoStream)
	_, err = history(t.Context(), log, name, 0, 0)
	wantError(t, "history", err, bus.ErrNoStream)
	_, err = log.Latest(t.Context(), name, []isthmusv1.Key{key("a")}, 0)
	wantError(t, "latest", err, bus.ErrNoStream)
	err = log.Follow(t.Context(), name, func(bus.Delivery) error { return nil })
	wantError(t, "follow", err, bus.ErrNoStream)
}

func testAppend(t *testing.T, log bus.Log) {
	name := stream()
	create(t, log, bus.StreamConfig{Name: name})
	if last := put(t, log, name, 0, "a=1"); last != 1 {
		t.Errorf("first message has sequence %d", last)
	}
	for _, stale := range []uint64{0, 2, 7} {
		_, err := log.Append(t.Context(), name, stale, []bus.Message{message("a", "stale")})
		wantError(t, fmt.Sprintf("append after %d", stale), err, bus.ErrWrongSequence)
	}
	if last := put(t, log, name, 1, "a=2"); last != 2 {
		t.Errorf("second message has sequence %d", last)
	}
	wantHistory(t, log, name, 0, 0, "1:a=1", "2:a=2")
	state, err := log.State(t.Context(), name)
	if err != nil || state.First != 1 || state.Last != 2 || state.Messages != 2 || state.Deleted != 0 {
		t.Errorf("state %+v, %v", state, err)
	}
}

func testBatch(t *testing.T, log bus.Log) {
	name := stream()
	create(t, log, bus.StreamConfig{Name: name})
	put(t, log, name, 0, "a=1")
	_, err := log.Append(t.Context(), name, 0, []bus.Message{message("a", "x"), message("b", "x")})
	wantError(t, "batch with a stale view", err, bus.ErrWrongSequence)
	if last := put(t, log, name, 1, "b=2", "c=2", "b=3"); last != 4 {
		t.Errorf("batch ends at %d", last)
	}
	wantHistory(t, log, name, 0, 0, "1:a=1", "2:b=2", "3:c=2", "4:b=3")
}

func testBatchLimit(t *testing.T, log bus.Log) {
	name := stream()
	create(t, log, bus.StreamConfig{Name: name})
	batch := make([]bus.Message, bus.MaxBatch+1)
	for i := range batch {
		batch[i] = message(fmt.Sprintf("k%d", i), "1")
	}
	_, err := log.Append(t.Context(), name, 0, batch)
	wantError(t, "one too many", err, bus.ErrTooLarge)
	last, err := log.Append(t.Context(), name, 0, batch[:bus.MaxBatch])
	if err != nil || last != bus.MaxBatch {
		t.Errorf("a whole batch: %d, %v", last, err)
	}
	_, err = log.Append(t.Context(), name, last, nil)
	wantError(t, "no message", err, bus.ErrTooLarge)
	_, err = log.Append(t.Context(), name, last, []bus.Message{{Key: key("a"), Record: make([]byte, bus.MaxRecord+1)}})
	wantError(t, "a record that is too large", err, bus.ErrTooLarge)
	if _, err = log.Append(t.Context(), name, last, []bus.Message{{Key: key("a"), Record: make([]byte, bus.MaxRecord)}}); err != nil {
		t.Errorf("the largest record: %v", err)
	}
}

func testFollow(t *testing.T, log bus.Log) {
	name := stream()
	made := create(t, log, bus.StreamConfig{Name: name})
	put(t, log, name, 0, "a=1", "b=1", "a=2", "c=1")
	f := follow(t, log, name)
	if start := <-f.start; start.Last != 4 || start.Messages != 4 || start.Incarnation != made.Incarnation {
		t.Errorf("start %+v", start)
	}
	wantTexts(t, "bootstrap", f.next(t, 3), "2:b=1", "3:a=2", "4:c=1")
	put(t, log, name, 4, "a=3")
	put(t, log, name, 5, "a=4", "b=2")
	wantTexts(t, "tail", f.next(t, 3), "5:a=3", "6:a=4", "7:b=2")
}

func testFollowEmpty(t *testing.T, log bus.Log) {
	name := stream()
	create(t, log, bus.StreamConfig{Name: name})
	f := follow(t, log, name)
	if start := <-f.start; start.Last != 0 || start.Messages != 0 {
		t.Errorf("start %+v", start)
	}
	put(t, log, name, 0, "a=1")
	wantTexts(t, "first message", f.next(t, 1), "1:a=1")
}

func testFollowHandler(t *testing.T, log bus.Log) {
	name := stream()
	create(t, log, bus.StreamConfig{Name: name})
	put(t, log, name, 0, "a=1")
	stop := errors.New("enough")
	err := log.Follow(t.Context(), name, func(d bus.Delivery) error {
		if d.Start != nil {
			return nil
		}
		return stop
	})
	wantError(t, "a handler's error", err, stop)
	ctx, cancel := context.WithCancelCause(t.Context())
	err = log.Follow(ctx, name, func(bus.Delivery) error { cancel(stop); return nil })
	wantError(t, "a context's cause", err, stop)
}

func testFollowSlow(t *testing.T, log bus.Log) {
	name := stream()
	create(t, log, bus.StreamConfig{Name: name})
	slow, quick := follow(t, log, name), follow(t, log, name)
	<-slow.start
	<-quick.start
	const n = 300
	for i := range n {
		put(t, log, name, uint64(i), fmt.Sprintf("k=%d", i))
	}
	if got := quick.next(t, n); got[n-1] != fmt.Sprintf("%d:k=%d", n, n-1) {
		t.Errorf("the quick reader ends with %q", got[n-1])
	}
	if got := slow.next(t, n); got[0] != "1:k=0" || got[n-1] != fmt.Sprintf("%d:k=%d", n, n-1) {
		t.Errorf("the slow reader has %q to %q", got[0], got[n-1])
	}
}

func testHistory(t *testing.T, log bus.Log) {
	name := stream()
	create(t, log, bus.StreamConfig{Name: name})
	wantHistory(t, log, name, 0, 0)
	put(t, log, name, 0, "a=1", "b=1", "a=2", "b=2")
	wantHistory(t, log, name, 2, 3, "2:b=1", "3:a=2")
	wantHistory(t, log, name, 3, 3, "3:a=2")
	wantHistory(t, log, name, 3, 99, "3:a=2", "4:b=2")
	wantHistory(t, log, name, 5, 0)
}

func testLimit(t *testing.T, log bus.Log) {
	name := stream()
	create(t, log, bus.StreamConfig{Name: name, MaxMessages: 3})
	for i := range 5 {
		put(t, log, name, uint64(i), fmt.Sprintf("k=%d", i))
	}
	state, err := log.State(t.Context(), name)
	if err != nil || state.First != 3 || state.Last != 5 || state.Messages != 3 {
		t.Errorf("state %+v, %v", state, err)
	}
	_, err = history(t.Context(), log, name, 2, 0)
	wantError(t, "history that has left", err, bus.ErrNotRetained)
	wantHistory(t, log, name, 0, 0, "3:k=2", "4:k=3", "5:k=4")
}

func testLatest(t *testing.T, log bus.Log) {
	name := stream()
	create(t, log, bus.StreamConfig{Name: name})
	keys := []isthmusv1.Key{key("a"), key("b"), key("never")}
	if got, err := log.Latest(t.Context(), name, keys, 0); err != nil || len(got) != 0 {
		t.Errorf("latest of an empty stream: %q, %v", texts(got), err)
	}
	put(t, log, name, 0, "a=1", "b=1", "a=2", "c=1", "b=2")
	for upTo, want := range map[uint64][]string{
		0: {"3:a=2", "5:b=2"},
		1: {"1:a=1"},
		2: {"1:a=1", "2:b=1"},
		4: {"2:b=1", "3:a=2"},
		5: {"3:a=2", "5:b=2"},
	} {
		got, err := log.Latest(t.Context(), name, keys, upTo)
		if err != nil {
			t.Fatalf("latest up to %d: %v", upTo, err)
		}
		wantTexts(t, fmt.Sprintf("latest up to %d", upTo), texts(got), want...)
	}
}

func testLatestMany(t *testing.T, log bus.Log) {
	name := stream()
	create(t, log, bus.StreamConfig{Name: name})
	const n = 2500
	var keys []isthmusv1.Key
	var batch []bus.Message
	last := uint64(0)
	for i := range n {
		m := message(fmt.Sprintf("k%d", i), "1")
		keys, batch = append(keys, m.Key), append(batch, m)
		if len(batch) == bus.MaxBatch || i == n-1 {
			var err error
			if last, err = log.Append(t.Context(), name, last, batch); err != nil {
				t.Fatal(err)
			}
			batch = nil
		}
	}
	got, err := log.Latest(t.Context(), name, keys, last)
	if err != nil || len(got) != n {
		t.Fatalf("%d of %d keys, %v", len(got), n, err)
	}
	if !slices.IsSortedFunc(got, func(a, b bus.Message) int { return int(a.Sequence) - int(b.Sequence) }) {
		t.Error("not in the order of the sequences")
	}
}

func testKeys(t *testing.T, log bus.Log) {
	name := stream()
	create(t, log, bus.StreamConfig{Name: name})
	keys := []isthmusv1.Key{
		isthmusv1.NewKey(isthmusv1.KindNode, "with.dots and blanks"),
		isthmusv1.NewKey(isthmusv1.KindNode, "*", ">", ""),
		isthmusv1.NewKey(isthmusv1.KindNode, "Ünïcode", "\xff\xfe", "%2E"),
		isthmusv1.RootsKey(),
	}
	var batch []bus.Message
	for i, k := range keys {
		batch = append(batch, bus.Message{Key: k, Record: []byte{byte(i)}})
	}
	if _, err := log.Append(t.Context(), name, 0, batch); err != nil {
		t.Fatal(err)
	}
	got, err := log.Latest(t.Context(), name, keys, 0)
	if err != nil || len(got) != len(keys) {
		t.Fatalf("%d of %d keys, %v", len(got), len(keys), err)
	}
	for i, m := range got {
		if m.Key != keys[i] || !bytes.Equal(m.Record, []byte{byte(i)}) || m.Time.IsZero() {
			t.Errorf("message %d: %q %x at %s, want key %q", i, m.Key, m.Record, m.Time, keys[i])
		}
	}
}

func testPublish(t *testing.T, log bus.Log) {
	name := isthmusv1.StreamName(isthmusv1.ClassStatus, fmt.Sprintf("conformance-%d", streams.Add(1)))
	create(t, log, bus.StreamConfig{Name: name, MaxAge: 1 << 40})
	for i := range 3 {
		m := bus.Message{Key: isthmusv1.ReportKey("gateway", "gw-1"), Record: []byte{byte('0' + i)}}
		if err := log.Publish(t.Context(), name, m); err != nil {
			t.Fatal(err)
		}
	}
	wantHistory(t, log, name, 0, 0, "1:gw-1=0", "2:gw-1=1", "3:gw-1=2")
	m := bus.Message{Key: isthmusv1.ReportKey("gateway", "gw-1")}
	wantError(t, "publish nowhere", log.Publish(t.Context(), isthmusv1.StreamName(isthmusv1.ClassStatus, "nowhere"), m), bus.ErrNoStream)
}

func testHeartbeats(t *testing.T, log bus.Log) {
	name, other := stream(), stream()
	create(t, log, bus.StreamConfig{Name: name})
	ctx, stop := context.WithCancel(t.Context())
	heard := make(chan bus.Heartbeat, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- log.Heartbeats(ctx, name, func(b bus.Heartbeat) {
			select {
			case heard <- b:
			default:
			}
		})
	}()
	want := bus.Heartbeat{Term: 7, Owner: "me", SourceLost: true}
	// Those sent before anybody listens are lost, so they are sent until heard, no
	// faster than the log answers.
	for got := (bus.Heartbeat{}); got != want; {
		if err := log.Beat(t.Context(), other, bus.Heartbeat{Term: 8}); err != nil {
			t.Fatal(err)
		}
		if err := log.Beat(t.Context(), name, want); err != nil {
			t.Fatal(err)
		}
		if _, err := log.State(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		select {
		case got = <-heard:
			if got != want {
				t.Fatalf("heard %+v, want %+v", got, want)
			}
		default:
		}
	}
	stop()
	wantError(t, "listening", <-ended, context.Canceled)
}

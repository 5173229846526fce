package bus_test

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// output is a machine's output, set by hand: addresses of nodes.
type output struct {
	idle    bool
	all     map[isthmusv1.Key]proto.Message
	changes []bus.Put

	mu     sync.Mutex
	failed []error
}

func newOutput() *output { return &output{all: make(map[isthmusv1.Key]proto.Message)} }

func (o *output) set(name, address string) {
	p := put(name, address, 0)
	o.all[p.Key] = p.Value
	o.changes = append(o.changes, bus.Put{Key: p.Key, Value: p.Value})
}

func (o *output) end(name string) {
	key := gone(name, 0).Key
	delete(o.all, key)
	o.changes = append(o.changes, bus.Put{Key: key})
}

func (o *output) ready() ([]bus.Put, bool) {
	changes := o.changes
	o.changes = nil
	return changes, !o.idle
}

func (o *output) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = append(o.failed, err)
}

func (o *output) emitter(w *bus.Writer) *bus.Emitter {
	return bus.NewEmitter(bus.EmitterConfig{
		Writer: w, Ready: o.ready, Failed: o.fail,
		All: func() iter.Seq2[isthmusv1.Key, proto.Message] { return maps.All(o.all) },
	})
}

func emit(t *testing.T, e *bus.Emitter, sequence uint64) {
	t.Helper()
	if err := e.Emit(t.Context(), basis(catalog, "c", sequence)); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// written shows the nodes that the routes hold at their end.
func written(t *testing.T, log *memlog.Log) []string {
	t.Helper()
	state, err := log.State(t.Context(), routes)
	if err != nil {
		t.Fatal(err)
	}
	return nodesAt(t, log, routes, state.Last)
}

func routesWriter(log bus.Log, owner string) bus.WriterConfig {
	return bus.WriterConfig{Log: log, Stream: routes, Owner: owner, RulesVersion: 1}
}

// A new turn begins with the whole difference, tombstones of what the machine
// does not have included; after it only changes are written.
func TestEmitterWritesTheWholeDifferenceOncePerTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		first := activeWriter(t, routesWriter(log, "first"))
		d := difference(bus.Put{Key: put("old", "", 0).Key, Value: put("old", "1", 0).Value})
		d.Basis = basis(catalog, "c", 1)
		mustWrite(t, first, d)
		first.kill()

		second := activeWriter(t, routesWriter(log, "second"))
		o := newOutput()
		e := o.emitter(second.Writer)
		o.set("a", "1")
		o.set("b", "1")
		o.ready() // Nobody was told of these.
		emit(t, e, 2)
		equal(t, "the first emission of a turn", written(t, log), []string{"a=1", "b=1"})

		// What only All knows is not looked at within the turn.
		o.all[put("c", "", 0).Key] = put("c", "1", 0).Value
		o.set("a", "2")
		o.end("b")
		emit(t, e, 3)
		equal(t, "the second", written(t, log), []string{"a=2"})
	})
}

// What changed while another writes is let go of, and made up for later.
func TestEmitterLetsGoWhileNotActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		first := activeWriter(t, routesWriter(log, "first"))
		second := startWriter(t, routesWriter(log, "second"))
		o := newOutput()
		e := o.emitter(second.Writer)
		o.set("a", "1")
		emit(t, e, 1)
		equal(t, "while not active", written(t, log), nil)
		first.kill()
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		o.idle = true
		emit(t, e, 1)
		equal(t, "while the machine is not ready", written(t, log), nil)
		o.idle = false
		emit(t, e, 1)
		equal(t, "when active", written(t, log), []string{"a=1"})
		if len(o.failed) > 0 {
			t.Errorf("not being active was told as a failure: %v", o.failed)
		}
	})
}

// A write that failed is told, wakes the drive, and is made up for by the whole
// difference.
func TestEmitterTriesAgainAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, routesWriter(log, "first"))
		o := newOutput()
		e := o.emitter(w.Writer)
		start(t, e.Run)
		o.set("a", "1")
		emit(t, e, 5)
		o.set("b", "1")
		emit(t, e, 4) // Behind the recorded one.
		if len(o.failed) != 1 || !errors.Is(o.failed[0], bus.ErrStaleView) {
			t.Fatalf("failures %v, want one of %v", o.failed, bus.ErrStaleView)
		}
		equal(t, "after a stale view", written(t, log), []string{"a=1"})
		select {
		case <-e.Wake(): // From becoming active.
		default:
		}
		<-e.Wake() // By the retry; the bubble ends in a deadlock without it.
		emit(t, e, 6)
		equal(t, "after the retry", written(t, log), []string{"a=1", "b=1"})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		select {
		case <-e.Wake():
			t.Error("woken without a failure")
		default:
		}
	})
}

func TestEmitterEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, routesWriter(log, "first"))
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errStop)
		o := newOutput()
		o.set("a", "1")
		if err := o.emitter(w.Writer).Emit(ctx, basis(catalog, "c", 1)); !errors.Is(err, errStop) {
			t.Errorf("error %v, want %v", err, errStop)
		}
		equal(t, "after the end", slices.Clip(written(t, log)), nil)
	})
}

package bus_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// driver is a Drive whose machine and emissions a test looks at.
type driver struct {
	*bus.Drive
	*process
	machine *stateMachine
	said    *logLines

	mu    sync.Mutex
	bases []string
}

func newDriver(log bus.Log, streams ...string) *driver {
	d := &driver{machine: newStateMachine(), said: new(logLines)}
	d.Drive = &bus.Drive{
		Log: log, Streams: streams, Machine: d.machine, Logger: d.said.logger(),
		Emit: func(_ context.Context, basis *isthmusv1.Basis) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.bases = append(d.bases, basis.Text())
			return nil
		},
	}
	return d
}

func (d *driver) run(t *testing.T) *driver {
	t.Helper()
	d.process = start(t, d.Run)
	return d
}

func (d *driver) emitted() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.bases)
}

// progressOf is how far a drive is with one stream.
func (d *driver) progressOf(t *testing.T, stream string) bus.StreamProgress {
	t.Helper()
	for _, p := range d.Progress() {
		if p.Stream == stream {
			return p
		}
	}
	t.Fatalf("%s is not followed", stream)
	return bus.StreamProgress{}
}

func TestDriveEmitsOnlyWhenEverythingIsCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		one := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, one, difference(put("a", "1", 1)))
		d := newDriver(log, catalog, "CATALOG_dc2").run(t)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := d.emitted(); got != nil {
			t.Fatalf("emitted %v before CATALOG_dc2 was there", got)
		}
		if err := d.Ready(); err == nil || !strings.Contains(err.Error(), "CATALOG_dc2") {
			t.Errorf("ready: %v", err)
		}
		two := activeWriter(t, bus.WriterConfig{Log: log, Stream: "CATALOG_dc2"})
		mustWrite(t, two, bus.Difference{Puts: []bus.Put{put("b", "1", 1)}})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := d.emitted(); got != nil {
			t.Fatalf("emitted %v before the first fill of CATALOG_dc2 was complete", got)
		}
		mustWrite(t, two, difference(put("c", "1", 2)))
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "bases", d.emitted(), []string{"CATALOG_dc1@2 CATALOG_dc2@3"})
		equal(t, "dc2", d.machine.nodes("CATALOG_dc2"), []string{"b=1", "c=1"})
		if err := d.Ready(); err != nil {
			t.Error(err)
		}
		mustWrite(t, one, difference(put("a", "2", 2), put("d", "2", 2)))
		synctest.Wait()
		equal(t, "bases: one transaction, one emission, no time passed", d.emitted()[1:], []string{"CATALOG_dc1@4 CATALOG_dc2@3"})
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(d.emitted()); n != 2 {
			t.Errorf("%d emissions: a quiet log makes none", n)
		}
	})
}

func TestDriveTakesAllThatHasArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "0", 1)))
		d := newDriver(log, catalog)
		hold := make(chan struct{})
		emit := d.Emit
		d.Emit = func(ctx context.Context, basis *isthmusv1.Basis) error {
			<-hold
			return emit(ctx, basis)
		}
		d.run(t)
		synctest.Wait() // It emits, and that takes long.
		for i := range 100 {
			mustWrite(t, w, difference(put("a", fmt.Sprint(i+1), uint64(i+2))))
		}
		synctest.Wait()
		close(hold)
		synctest.Wait()
		equal(t, "bases", d.emitted(), []string{"CATALOG_dc1@2", "CATALOG_dc1@102"})
		if n := len(d.machine.transactions); n != 101 {
			t.Errorf("%d transactions: each is handed over on its own", n)
		}
	})
}

func TestHalfATransactionAtABootstrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "1", 1), put("b", "1", 1), put("c", "1", 1)))
		mustWrite(t, w, difference(put("a", "2", 2), gone("b", 2), put("d", "2", 2)))
		log.Hold(catalog, 6) // a=2, d=2 are seen, the end of b is not.
		d := newDriver(log, catalog).run(t)
		synctest.Wait()
		equal(t, "state", d.machine.nodes(catalog), []string{"a=1", "b=1", "c=1"})
		equal(t, "bases", d.emitted(), []string{"CATALOG_dc1@4"})
		log.Hold(catalog, 0)
		synctest.Wait()
		equal(t, "state", d.machine.nodes(catalog), []string{"a=2", "c=1", "d=2"})
		equal(t, "bases", d.emitted()[1:], []string{"CATALOG_dc1@7"})
	})
}

// Where the values before an open transaction have left the log, its end is
// waited for.
func TestHalfATransactionWhoseEarlierValuesHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		state, err := log.Create(t.Context(), bus.StreamConfig{Name: catalog, MaxMessages: 3})
		if err != nil {
			t.Fatal(err)
		}
		s := (&script{incarnation: state.Incarnation}).add(t, "a=1", "a=2 b=2 c=2")
		log.Hold(catalog, 3)
		for after, batch := range [][]bus.Message{s.messages[:1], s.messages[1:]} {
			if _, err := log.Append(t.Context(), catalog, uint64(after), batch); err != nil {
				t.Fatal(err)
			}
		}
		d := newDriver(log, catalog).run(t)
		time.Sleep(time.Minute)
		synctest.Wait()
		if p := d.progressOf(t, catalog); d.emitted() != nil || p.Last != 3 || p.Trouble != nil {
			t.Errorf("it does not wait: emitted %v, %+v", d.emitted(), p)
		}
		log.Hold(catalog, 0)
		synctest.Wait()
		equal(t, "bases", d.emitted(), []string{"CATALOG_dc1@4"})
		equal(t, "state", d.machine.nodes(catalog), []string{"a=2", "b=2", "c=2"})
		if tx := d.machine.transactions[0]; !tx.Reset {
			t.Errorf("it begins with %s", show(tx))
		}
	})
}

func TestResetBeforeTheFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "1", 1), put("b", "1", 1)))
		// The consumer is lost between the question for the end and the first
		// message, and meanwhile all that the end spoke of is superseded.
		interfering := &interferingLog{Log: log, once: func() {
			mustWrite(t, w, difference(put("a", "2", 2), put("b", "2", 2)))
			log.ResetConsumers(catalog)
		}}
		d := newDriver(interfering, catalog).run(t)
		time.Sleep(time.Second)
		synctest.Wait()
		equal(t, "state", d.machine.nodes(catalog), []string{"a=2", "b=2"})
		equal(t, "bases", d.emitted(), []string{"CATALOG_dc1@5"})
		if !d.said.contains("reset before its first message") {
			t.Error("it was not said")
		}
	})
}

// interferingLog does something once between the start of a following and its
// first message.
type interferingLog struct {
	bus.Log
	once func()
}

func (l *interferingLog) Follow(ctx context.Context, stream string, handle func(bus.Delivery) error) error {
	return l.Log.Follow(ctx, stream, func(d bus.Delivery) error {
		err := handle(d)
		if l.once != nil {
			once := l.once
			l.once = nil
			once()
		}
		return err
	})
}

func TestRecreatedStreamKeepsWhatReadersHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "1", 1), put("b", "1", 1)))
		d := newDriver(log, catalog).run(t)
		synctest.Wait()
		old := d.machine.transactions[0].Incarnation
		log.Delete(catalog)
		time.Sleep(10 * time.Second)
		mustWrite(t, w, bus.Difference{Puts: []bus.Put{put("a", "2", 1)}}) // not complete
		time.Sleep(10 * time.Second)
		synctest.Wait()
		equal(t, "state while it is filled again", d.machine.nodes(catalog), []string{"a=1", "b=1"})
		if p := d.progressOf(t, catalog); !p.Unfilled || !p.CaughtUp || p.Applied.GetIncarnation() != old {
			t.Errorf("progress %+v", p)
		}
		if err := d.Ready(); err != nil {
			t.Errorf("what it has is whole: %v", err)
		}
		mustWrite(t, w, difference(put("c", "2", 2)))
		synctest.Wait()
		equal(t, "state", d.machine.nodes(catalog), []string{"a=2", "c=2"})
		last := d.machine.transactions[len(d.machine.transactions)-1]
		if !last.Reset || last.Incarnation == old || last.Sequence != 3 {
			t.Errorf("last: %s of %s", show(last), last.Incarnation)
		}
	})
}

// A mirror that is made again from the same origin goes through old states; what
// was applied stays meanwhile.
// What was evicted unseen may have been a tombstone: the state is read anew.
func TestAReaderThatFellBehindStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log, MaxMessages: 100})
		mustWrite(t, w, difference(put("a", "1", 1), put("b", "1", 1)))
		slow := log.Connect("slow")
		d := newDriver(slow, catalog).run(t)
		synctest.Wait()
		slow.Cut(true)
		mustWrite(t, w, difference(gone("b", 2)))
		for i := range 200 {
			mustWrite(t, w, difference(put("a", fmt.Sprint(i), uint64(i+3))))
		}
		slow.Cut(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "state", d.machine.nodes(catalog), []string{"a=199"})
		if !d.said.contains("sequences are missing") {
			t.Error("it was not said")
		}
		if p := d.progressOf(t, catalog); p.Restarts != 1 || p.Trouble != nil {
			t.Errorf("progress %+v", p)
		}
	})
}

// Whatever the network does, the machine is only ever given true states.
func TestDriveUnderFaults(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			log := memlog.New(memlog.Options{Seed: seed, Faults: memlog.Faults{
				ResetConsumer: .05, Duplicate: .1, HalfTransaction: .5, LostAnswer: .05, LostRequest: .05, StaleRead: .3,
			}})
			w := activeWriter(t, bus.WriterConfig{Log: log.Connect("writer"), MaxMessages: 400})
			mustWrite(t, w, difference(many(10, "0", 1)...))
			var readers []*driver
			for i := range 3 {
				readers = append(readers, newDriver(log.Connect(fmt.Sprint("reader", i)), catalog).run(t))
			}
			for i := range 60 {
				puts := []bus.Put{put(fmt.Sprintf("n%04d", i%10), fmt.Sprint(i), uint64(i+2)), put("x", fmt.Sprint(i), uint64(i+2))}
				if i%7 == 3 {
					puts = append(puts, gone("y", uint64(i+2)))
				} else {
					puts = append(puts, put("y", fmt.Sprint(i), uint64(i+2)))
				}
				mustWrite(t, w, difference(puts...))
				if i%20 == 10 {
					readers = append(readers, newDriver(log.Connect(fmt.Sprint("late", i)), catalog).run(t))
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			for i, reader := range readers {
				if err := reader.Ready(); err != nil {
					t.Errorf("seed %d, reader %d: %v", seed, i, err)
				}
				at := newStateMachine()
				for _, tx := range reader.machine.transactions {
					at.Apply(tx)
					if got, want := at.nodes(catalog), nodesAt(t, log, catalog, tx.Sequence); !slices.Equal(got, want) {
						t.Fatalf("seed %d, reader %d at %d: %v, want %v", seed, i, tx.Sequence, got, want)
					}
				}
			}
		})
	}
}

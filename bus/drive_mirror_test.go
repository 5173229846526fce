package bus_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
)

func TestHalfATransactionOnAMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dc1 := memlog.New(memlog.Options{Domain: "dc1"})
		dc2 := dc1.Domain("dc2")
		near := activeWriter(t, bus.WriterConfig{Log: dc1})
		far := activeWriter(t, bus.WriterConfig{Log: dc2, Stream: "CATALOG_dc2"})
		mustWrite(t, near, difference(put("near", "1", 1)))
		mustWrite(t, far, difference(put("a", "1", 1), put("b", "1", 1)))
		if _, err := dc1.Create(t.Context(), bus.StreamConfig{Name: "CATALOG_dc2", Mirror: &bus.Mirror{Domain: "dc2"}}); err != nil {
			t.Fatal(err)
		}
		d := newDriver(dc1, catalog, "CATALOG_dc2").run(t)
		synctest.Wait()
		dc1.Hold("CATALOG_dc2", 4)
		mustWrite(t, far, difference(put("a", "2", 2), put("b", "2", 2)))
		dc1.Link("dc2", false) // Cut in the middle of it, for hours.
		dc1.Hold("CATALOG_dc2", 0)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		equal(t, "the far datacenter", d.machine.nodes("CATALOG_dc2"), []string{"a=1", "b=1"})
		// A reader that starts now comes to the same, and the near one goes on.
		late := newDriver(dc1, catalog, "CATALOG_dc2").run(t)
		mustWrite(t, near, difference(put("near", "2", 2)))
		synctest.Wait()
		equal(t, "a late reader", late.machine.nodes("CATALOG_dc2"), []string{"a=1", "b=1"})
		equal(t, "the near datacenter goes on", d.machine.nodes(catalog), []string{"near=2"})
		equal(t, "bases", d.emitted()[1:], []string{"CATALOG_dc1@3 CATALOG_dc2@3"})
		dc1.Link("dc2", true)
		synctest.Wait()
		for _, reader := range []*driver{d, late} {
			equal(t, "whole again", reader.machine.nodes("CATALOG_dc2"), []string{"a=2", "b=2"})
		}
	})
}

func TestRecreatedOriginBehindAMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dc1 := memlog.New(memlog.Options{Domain: "dc1"})
		dc2 := dc1.Domain("dc2")
		mirror := bus.StreamConfig{Name: "CATALOG_dc2", Mirror: &bus.Mirror{Domain: "dc2"}}
		w := activeWriter(t, bus.WriterConfig{Log: dc2, Stream: "CATALOG_dc2"})
		mustWrite(t, w, difference(many(9, "1", 1)...)) // to 10
		if _, err := dc1.Create(t.Context(), mirror); err != nil {
			t.Fatal(err)
		}
		d := newDriver(dc1, "CATALOG_dc2").run(t)
		synctest.Wait()
		dc2.Delete("CATALOG_dc2")
		time.Sleep(time.Second)
		mustWrite(t, w, difference(many(15, "2", 1)...)) // the mirror takes 11 to 16
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if p := d.progressOf(t, "CATALOG_dc2"); !errors.Is(p.Trouble, bus.ErrIncarnation) || p.Age(time.Now()) == 0 {
			t.Errorf("progress %+v", p)
		}
		if n := len(d.machine.nodes("CATALOG_dc2")); n != 9 {
			t.Errorf("%d nodes: what it had was not kept", n)
		}
		late := newDriver(dc1, "CATALOG_dc2").run(t)
		time.Sleep(10 * time.Second)
		if err := late.Ready(); !errors.Is(err, bus.ErrIncarnation) || late.emitted() != nil {
			t.Errorf("a mirror of two incarnations was taken: %v", err)
		}
		if _, err := dc1.Create(t.Context(), mirror); err != nil { // It is made again.
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, reader := range []*driver{d, late} {
			if n := len(reader.machine.nodes("CATALOG_dc2")); n != 15 || reader.Ready() != nil {
				t.Errorf("%d nodes, %v", n, reader.Ready())
			}
		}
	})
}

func TestAMirrorWithHolesIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dc1 := memlog.New(memlog.Options{Domain: "dc1"})
		dc2 := dc1.Domain("dc2")
		w := activeWriter(t, bus.WriterConfig{Log: dc2, Stream: "CATALOG_dc2"})
		mustWrite(t, w, difference(many(5, "1", 1)...))
		if _, err := dc1.Create(t.Context(), bus.StreamConfig{Name: "CATALOG_dc2", Mirror: &bus.Mirror{Domain: "dc2"}}); err != nil {
			t.Fatal(err)
		}
		dc1.Remove("CATALOG_dc2", 3)
		d := newDriver(dc1, "CATALOG_dc2").run(t)
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := d.Ready(); !errors.Is(err, bus.ErrMirrorHoles) || d.emitted() != nil {
			t.Errorf("ready: %v, emitted %v", err, d.emitted())
		}
	})
}

func TestAMirrorThatIsFilledAgainTakesNobodyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dc1 := memlog.New(memlog.Options{Domain: "dc1"})
		dc2 := dc1.Domain("dc2")
		mirror := bus.StreamConfig{Name: "CATALOG_dc2", Mirror: &bus.Mirror{Domain: "dc2"}}
		w := activeWriter(t, bus.WriterConfig{Log: dc2, Stream: "CATALOG_dc2"})
		mustWrite(t, w, difference(put("a", "1", 1)))
		mustWrite(t, w, difference(put("a", "2", 2)))
		if _, err := dc1.Create(t.Context(), mirror); err != nil {
			t.Fatal(err)
		}
		d := newDriver(dc1, "CATALOG_dc2").run(t)
		synctest.Wait()
		dc1.Delete("CATALOG_dc2")
		dc1.HoldNext("CATALOG_dc2", 2)
		if _, err := dc1.Create(t.Context(), mirror); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "state", d.machine.nodes("CATALOG_dc2"), []string{"a=2"})
		if p := d.progressOf(t, "CATALOG_dc2"); !errors.Is(p.Trouble, bus.ErrReplaced) {
			t.Errorf("progress %+v", p)
		}
		dc1.Hold("CATALOG_dc2", 0)
		mustWrite(t, w, difference(put("a", "3", 3)))
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "state", d.machine.nodes("CATALOG_dc2"), []string{"a=3"})
		for i, tx := range d.machine.transactions[1:] {
			if tx.Sequence < d.machine.transactions[i].Sequence {
				t.Errorf("%d after %d", tx.Sequence, d.machine.transactions[i].Sequence)
			}
		}
	})
}

func TestASilentMirrorIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dc1 := memlog.New(memlog.Options{Domain: "dc1"})
		w := activeWriter(t, bus.WriterConfig{Log: dc1.Domain("dc2"), Stream: "CATALOG_dc2"})
		mustWrite(t, w, difference(put("a", "1", 1)))
		if _, err := dc1.Create(t.Context(), bus.StreamConfig{Name: "CATALOG_dc2", Mirror: &bus.Mirror{Domain: "dc2"}}); err != nil {
			t.Fatal(err)
		}
		d := newDriver(dc1, "CATALOG_dc2").run(t)
		synctest.Wait()
		dc1.Link("dc2", false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if m := d.progressOf(t, "CATALOG_dc2").Mirror; m == nil || m.Active < 50*time.Second || m.Domain != "dc2" {
			t.Errorf("mirror %+v", m)
		}
	})
}

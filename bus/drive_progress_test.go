package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestDriveDiscovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		one := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, one, difference(put("a", "1", 1)))
		// One that nobody fills holds nothing back, and other classes are left alone.
		if _, err := log.Create(t.Context(), bus.StreamConfig{Name: "CATALOG_empty"}); err != nil {
			t.Fatal(err)
		}
		if _, err := log.Create(t.Context(), bus.StreamConfig{Name: "STATUS_dc1"}); err != nil {
			t.Fatal(err)
		}
		d := newDriver(log)
		d.Discover = isthmusv1.ClassCatalog
		d.run(t)
		synctest.Wait()
		equal(t, "bases", d.emitted(), []string{"CATALOG_dc1@2"})
		if err := d.Ready(); err != nil {
			t.Error(err)
		}
		two := activeWriter(t, bus.WriterConfig{Log: log, Stream: "CATALOG_dc2"})
		mustWrite(t, two, difference(put("b", "1", 1)))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		equal(t, "a new datacenter", d.emitted()[1:], []string{"CATALOG_dc1@2 CATALOG_dc2@2"})

		two.kill()
		log.Delete("CATALOG_dc2")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		equal(t, "gone for half a minute", d.machine.nodes("CATALOG_dc2"), []string{"b=1"})
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "departed", d.machine.nodes("CATALOG_dc2"), nil)
		equal(t, "bases", d.emitted()[2:], []string{"CATALOG_dc1@2"})
	})
}

func TestAStreamThatComesBackSoonHasNotDeparted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "1", 1)))
		d := newDriver(log)
		d.Discover = isthmusv1.ClassCatalog
		d.run(t)
		synctest.Wait()
		for range 10 {
			log.Delete(catalog)
			time.Sleep(10 * time.Second)
			mustWrite(t, w, difference(put("a", "1", 1)))
			time.Sleep(10 * time.Second)
		}
		synctest.Wait()
		for _, tx := range d.machine.transactions {
			if len(tx.Changes) == 0 {
				t.Errorf("the machine was emptied: %s", show(tx))
			}
		}
	})
}

func TestDriveWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		wake := make(chan struct{}, 1)
		d := newDriver(log, catalog)
		d.Wake = wake
		d.run(t)
		wake <- struct{}{}
		synctest.Wait()
		if d.emitted() != nil {
			t.Error("a wake-up made it emit before it was caught up")
		}
		mustWrite(t, w, difference(put("a", "1", 1)))
		synctest.Wait()
		wake <- struct{}{}
		synctest.Wait()
		equal(t, "bases", d.emitted(), []string{"CATALOG_dc1@2", "CATALOG_dc1@2"})
	})
}

func TestDriveEndsWithTheErrorOfEmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "1", 1)))
		broken := errors.New("broken")
		d := &bus.Drive{
			Log: log, Streams: []string{catalog}, Machine: bus.MachineFunc(func(*isthmusv1.Transaction) {}),
			Emit: func(context.Context, *isthmusv1.Basis) error { return broken },
		}
		if err := d.Run(t.Context()); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDriveShowsItsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		mustWrite(t, w, difference(put("a", "1", 1)))
		registry := prometheus.NewPedanticRegistry()
		var changes []string
		connection := log.Connect("reader")
		d := newDriver(connection, catalog)
		d.Registerer = registry
		d.OnProgress = func(p bus.StreamProgress) {
			changes = append(changes, fmt.Sprintf("caught up %v, trouble %v", p.CaughtUp, p.Trouble))
		}
		d.run(t)
		synctest.Wait()
		mustWrite(t, w, difference(put("a", "2", 2)))
		synctest.Wait()
		p := d.progressOf(t, catalog)
		if p.Applied.GetSequence() != 3 || p.Last != 3 || !p.CaughtUp || p.Trouble != nil || !p.EventTime.Equal(time.Now()) || p.Transactions != 2 {
			t.Errorf("progress %+v", p)
		}
		log.Delete(catalog)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if p := d.progressOf(t, catalog); !errors.Is(p.Trouble, bus.ErrNoStream) || p.Age(time.Now()) != 10*time.Millisecond {
			t.Errorf("progress %+v, age %v", p, p.Age(time.Now()))
		}
		want := `
# HELP isthmus_bus_stream_caught_up 1 when the stream's state was applied whole.
# TYPE isthmus_bus_stream_caught_up gauge
isthmus_bus_stream_caught_up{stream="CATALOG_dc1"} 1
# HELP isthmus_bus_stream_restarts_total Times that following was started over.
# TYPE isthmus_bus_stream_restarts_total counter
isthmus_bus_stream_restarts_total{stream="CATALOG_dc1"} 1
# HELP isthmus_bus_stream_sequence Sequence of the last transaction applied.
# TYPE isthmus_bus_stream_sequence gauge
isthmus_bus_stream_sequence{stream="CATALOG_dc1"} 3
`
		names := []string{"isthmus_bus_stream_caught_up", "isthmus_bus_stream_restarts_total", "isthmus_bus_stream_sequence"}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), names...); err != nil {
			t.Error(err)
		}
		d.kill()
		equal(t, "changes", changes, []string{
			"caught up false, trouble <nil>", "caught up true, trouble <nil>", "caught up true, trouble CATALOG_dc1: no such stream",
		})
		if left, err := registry.Gather(); err != nil || len(left) != 0 {
			t.Errorf("metrics after the end: %v %v", left, err)
		}
	})
}

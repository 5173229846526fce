package watcher_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/watcher"
)

func TestTakeoverOnlyWhenOwnSourceIsLive(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n1", "10.0.0.1")
		first := start(t, log, "w1", view())
		settle()
		blind := view()
		blind.bad = errGone
		second := start(t, log, "w2", blind)
		settle()
		first.kill()
		settle()
		if second.Status().Active {
			t.Fatal("a watcher without a source took over")
		}
		want(t, log, map[string]string{"n1": "10.0.0.1"})
		blind.setLive(nil)
		world.set("a", "n1", "10.0.0.2")
		settle()
		want(t, log, map[string]string{"n1": "10.0.0.2"})
	})
}

// A watcher that loses its source hands over at once to one that has not.
func TestLostSourceHandsOver(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n1", "10.0.0.1")
		mine := view()
		first := start(t, log, "w1", mine)
		settle()
		second := start(t, log, "w2", view())
		settle()
		mine.setLive(errGone)
		settle()
		if first.Status().Active || !second.Status().Active {
			t.Fatal("the office did not pass to the watcher that sees its source")
		}
		wantEvents(t, log, 1)
	})
}

func TestUnusableSourceKeepsLastGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
		world.set("a", "n1", "10.0.0.1")
		v := world.view(0)
		v.directory = true
		w := start(t, log, "w1", v)
		settle()
		v.mu.Lock()
		v.bad = fmt.Errorf("two files: %w", watcher.ErrUnusable)
		v.mu.Unlock()
		world.set("a", "n1", "10.0.0.2")
		world.set("a", "n2", "10.0.0.3")
		settle()
		want(t, log, map[string]string{"n1": "10.0.0.1"})
		if err := w.Status().Trouble; !errors.Is(err, watcher.ErrUnusable) {
			t.Errorf("trouble is %v, want %v", err, watcher.ErrUnusable)
		}
		if err := w.Ready(); err != nil {
			t.Errorf("a watcher with a last good state is not ready: %v", err)
		}
		v.mu.Lock()
		v.bad = nil
		v.mu.Unlock()
		world.set("a", "n2", "10.0.0.4")
		settle()
		want(t, log, map[string]string{"n1": "10.0.0.2", "n2": "10.0.0.4"})
		if err := w.Status().Trouble; err != nil {
			t.Errorf("trouble is left: %v", err)
		}
	})
}

// A source that fails to answer is asked again without being told to.
func TestFailedReadingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
		world.set("a", "n1", "10.0.0.1")
		v := world.view(0)
		v.directory = true
		start(t, log, "w1", v)
		settle()
		v.mu.Lock()
		v.bad = errGone // Without a word to the sink.
		v.mu.Unlock()
		world.set("a", "n1", "10.0.0.2")
		settle()
		want(t, log, map[string]string{"n1": "10.0.0.1"})
		v.mu.Lock()
		v.bad = nil
		v.mu.Unlock()
		settle()
		want(t, log, map[string]string{"n1": "10.0.0.2"})
	})
}

func TestRecreatedStreamIsFilledAgain(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n1", "10.0.0.1")
		world.set("a", "n2", "10.0.0.2")
		start(t, log, "w1", view())
		settle()
		log.Delete(stream)
		settle()
		want(t, log, map[string]string{"n1": "10.0.0.1", "n2": "10.0.0.2"})
		all := wantEvents(t, log, 2)
		if !record(t, all[1]).GetEnvelope().GetEnd().GetComplete() {
			t.Error("the new stream's first fill has no complete mark")
		}
		world.set("a", "n1", "10.0.0.9")
		settle()
		want(t, log, map[string]string{"n1": "10.0.0.9", "n2": "10.0.0.2"})
	})
}

func TestLostAnswerWritesNothingTwice(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n1", "10.0.0.1")
		start(t, log, "w1", view())
		settle()
		log.LoseAnswer(stream)
		world.set("a", "n1", "10.0.0.2")
		settle()
		log.LoseRequest(stream)
		world.set("a", "n1", "10.0.0.3")
		settle()
		wantEvents(t, log, 3)
		want(t, log, map[string]string{"n1": "10.0.0.3"})
	})
}

// Nothing is written before every scope is known: what is missing would look
// as if it were gone.
func TestNothingIsWrittenBeforeTheSourceIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{Seed: 1})
		world := newTruth()
		world.set("a", "n1", "10.0.0.1")
		world.set("b", "n2", "10.0.0.2")
		first := start(t, log, "w1", world.view(0))
		settle()
		first.quit()

		half := &manual{ready: make(chan watcher.Sink, 1), world: world}
		w := start(t, log, "w2", half)
		sink := <-half.ready
		sink.Live(nil)
		sink.Scopes([]string{"a", "b"})
		sink.Present(world.snapshot()[0])
		settle()
		want(t, log, map[string]string{"n1": "10.0.0.1", "n2": "10.0.0.2"})
		if err := w.Ready(); err == nil {
			t.Error("a watcher with half a source says that it is ready")
		}
		sink.Present(world.snapshot()[1])
		settle()
		wantEvents(t, log, 2)
		if err := w.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
	})
}

// manual is a source that the test speaks for.
type manual struct {
	ready chan watcher.Sink
	world *truth
	err   error
}

func (m *manual) Run(ctx context.Context, sink watcher.Sink) error {
	if m.err != nil {
		return m.err
	}
	m.ready <- sink
	<-ctx.Done()
	return context.Cause(ctx)
}

func (m *manual) Read(ctx context.Context, scope string) (watcher.State, error) {
	return m.world.view(0).Read(ctx, scope)
}

func (m *manual) ReadAll(ctx context.Context) ([]watcher.State, error) {
	return m.world.view(0).ReadAll(ctx)
}

func TestSourceErrorEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, memlog.New(memlog.Options{}), "w1", &manual{err: errGone})
		if err := <-p.done; !errors.Is(err, errGone) || !strings.Contains(err.Error(), "dc1") {
			t.Errorf("Run returned %v, want the source's error with the datacenter", err)
		}
		p.done = nil
	})
}

func TestHotSecondIsReady(t *testing.T) {
	bothKinds(t, func(t *testing.T, log *memlog.Log, world *truth, view func() *view) {
		world.set("a", "n1", "10.0.0.1")
		start(t, log, "w1", view())
		settle()
		second := start(t, log, "w2", view())
		settle()
		if s := second.Status(); s.Active || s.Scopes != 1 || s.Missing != 0 {
			t.Errorf("the second's status is %+v", s)
		}
		if err := second.Ready(); err != nil {
			t.Errorf("the second is not ready: %v", err)
		}
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	log, source := memlog.New(memlog.Options{}), newTruth().view(0)
	for name, c := range map[string]struct {
		config watcher.Config
		want   string
	}{
		"no source":     {watcher.Config{Datacenter: "dc1", Writer: bus.WriterConfig{Log: log, Owner: "w"}}, "needs a source"},
		"no log":        {watcher.Config{Datacenter: "dc1", Source: source, Writer: bus.WriterConfig{Owner: "w"}}, "needs a log"},
		"no owner":      {watcher.Config{Datacenter: "dc1", Source: source, Writer: bus.WriterConfig{Log: log}}, "needs an owner"},
		"no datacenter": {watcher.Config{Source: source, Writer: bus.WriterConfig{Log: log, Owner: "w"}}, "CATALOG_"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := watcher.New(c.config)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		world := newTruth()
		world.set("a", "n1", "10.0.0.1")
		w, err := watcher.New(watcher.Config{
			Datacenter: "dc1", Source: world.view(0), Registerer: registry,
			Writer: bus.WriterConfig{Log: memlog.New(memlog.Options{}), Owner: "w1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		settle()
		got := gather(t, registry)
		for name, want := range map[string]float64{
			"isthmus_watcher_active":       1,
			"isthmus_watcher_source_live":  1,
			"isthmus_watcher_scopes":       1,
			"isthmus_watcher_sequence":     float64(w.Status().Position.GetSequence()),
			"isthmus_watcher_writes_total": 1,
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
		stop()
		<-done
		if left := gather(t, registry); len(left) > 0 {
			t.Errorf("metrics are left behind: %v", left)
		}
	})
}

func gather(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			out[f.GetName()] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

// A source that was never seen leaves no stream behind, for which readers of all
// datacenters would wait.
func TestUnseenSourceMakesNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, log := newTruth(), memlog.New(memlog.Options{Seed: 1})
		world.set("a", "a1", "10.0.0.1")
		v := world.view(0)
		v.bad = errGone
		start(t, log, "w1", v)
		settle()
		if streams, err := log.Streams(t.Context()); err != nil || len(streams) > 0 {
			t.Errorf("streams %v, %v", streams, err)
		}
		v.setLive(nil)
		settle()
		want(t, log, map[string]string{"a1": "10.0.0.1"})
	})
}

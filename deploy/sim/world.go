package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// Options of a run.
type Options struct {
	// Machine makes the resolvers' machines. Nil: the resolver's.
	Machine func() Machine
	// Logger is told what all processes log. Nil: nobody is.
	Logger *slog.Logger
}

// Result is what a run that kept every promise came to.
type Result struct {
	// Changes of the sources, and the events that the catalogs show of them.
	Changes, Events int
	// Transactions were audited, Bases resolved from nothing, and Readings of a
	// reader compared.
	Transactions, Bases, Readings int
	// Replayed is the number of bases that a replay compared.
	Replayed int
}

// world is a run on its way.
type world struct {
	options   Options
	log       *memlog.Log
	limit     int64
	truths    map[string]*truth
	processes map[string]*process
	clients   int
	late      map[string]time.Duration
	lost      map[string]bool
	reader    *reader
	auditor   *auditor
}

// unkind are the log's own faults.
var unkind = memlog.Faults{
	ResetConsumer: 0.01, Duplicate: 0.05, HalfTransaction: 0.25, LostAnswer: 0.03,
	LostRequest: 0.02, LostHeartbeat: 0.05, StaleRead: 0.1,
}

// Run runs a script; call it in a bubble of testing/synctest. The error is the
// first promise that was broken, with the step after which it was seen.
func Run(ctx context.Context, script Script, options Options) (Result, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	w := newWorld(script, options)
	defer w.end()
	if err := w.populate(ctx); err != nil {
		return Result{}, err
	}
	for i, step := range script.Steps {
		if err := verbs[step.Verb](ctx, w, step.Args); err != nil {
			return w.auditor.result, fmt.Errorf("step %d, %s: %w", i+1, step, err)
		}
		synctest.Wait()
		if err := w.audit(ctx); err != nil {
			return w.auditor.result, fmt.Errorf("after step %d, %s: %w", i+1, step, err)
		}
	}
	if err := w.settle(ctx); err != nil {
		return w.auditor.result, fmt.Errorf("after all was healed: %w", err)
	}
	return w.auditor.result, nil
}

func newWorld(script Script, options Options) *world {
	faults := memlog.Faults{}
	if script.Unkind {
		faults = unkind
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	if options.Machine == nil {
		options.Machine = func() Machine { return resolver.New("dc1") }
	}
	w := &world{
		options: options, log: memlog.New(memlog.Options{Seed: script.Seed, Faults: faults}),
		processes: map[string]*process{}, late: map[string]time.Duration{}, lost: map[string]bool{},
		truths: map[string]*truth{"dc1": newTruth("dc1", false), "dc2": newTruth("dc2", true)},
	}
	if script.Seed%3 == 0 {
		w.limit = 400 // So that messages leave, and keyframes are needed.
	}
	w.auditor = newAuditor(w.log, w.truths)
	return w
}

// populate starts everybody on a first catalog.
func (w *world) populate(ctx context.Context) error {
	r := rand.New(rand.NewPCG(1, 1))
	for _, dc := range datacenters {
		for range 20 {
			w.set(dc, []int{r.IntN(400)}, nil)
		}
	}
	for _, name := range processes {
		if err := w.start(ctx, name); err != nil {
			return err
		}
	}
	var p *process
	p, w.reader = startReader(ctx, w.connect("reader"), w.options.Logger)
	w.processes["reader"] = p
	return nil
}

// end kills everybody.
func (w *world) end() {
	for _, p := range w.processes {
		_ = p.kill() // What it died of was reported, or the run failed before.
	}
}

// connect gives a process a connection of its own: a new one after each start.
func (w *world) connect(name string) *memlog.Client {
	w.clients++
	return w.log.Connect(name + "#" + strconv.Itoa(w.clients))
}

func (w *world) start(ctx context.Context, name string) error {
	if w.processes[name] != nil {
		return nil
	}
	client, logger := w.connect(name), w.options.Logger.With("process", name)
	var p *process
	var err error
	if strings.HasPrefix(name, "resolver.") {
		p, err = startResolver(ctx, name, w.options.Machine(), client, logger, w.limit)
	} else {
		p, err = startWatcher(ctx, name, w.truths[strings.Split(name, ".")[1]], client, logger, w.limit)
	}
	if err != nil {
		return err
	}
	w.processes[name] = p
	if p.view != nil {
		p.view.setLate(w.late[name])
		p.view.setLost(w.lost[name])
	}
	return nil
}

func (w *world) kill(name string) error {
	p := w.processes[name]
	if p == nil {
		return nil
	}
	delete(w.processes, name)
	return p.kill()
}

// set makes values of the universe so, and others gone, at once.
func (w *world) set(dc string, put, gone []int) {
	values := map[isthmusv1.Key]proto.Message{}
	for _, n := range put {
		key, m := value(dc, n)
		values[key] = m
	}
	t := w.truths[dc]
	for _, n := range gone {
		key, _ := value(dc, n)
		if _, ok := values[key]; !ok && t.values[key] != nil {
			values[key] = nil
		}
	}
	w.auditor.result.Changes += len(values)
	t.change(values)
}

// errDied: a process has ended by itself.
var errDied = errors.New("a process died")

// audit checks the log and the reader.
func (w *world) audit(ctx context.Context) error {
	for name, p := range w.processes {
		select {
		case <-p.done:
			return fmt.Errorf("%s: %w: %w", name, errDied, p.err)
		default:
		}
	}
	if err := w.auditor.readAll(ctx); err != nil {
		return err
	}
	return w.auditor.checkReadings(w.reader.take())
}

// verbs are what a step can do.
var verbs = map[string]func(ctx context.Context, w *world, args []string) error{
	"change": func(_ context.Context, w *world, args []string) error {
		var put, gone []int
		for _, a := range args[1:] {
			n, err := strconv.Atoi(strings.TrimLeft(a, "+-"))
			if err != nil {
				return err
			}
			if strings.HasPrefix(a, "-") {
				gone = append(gone, n)
			} else {
				put = append(put, n)
			}
		}
		w.set(args[0], put, gone)
		return nil
	},
	"wait": func(ctx context.Context, _ *world, args []string) error {
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		return pass(ctx, d)
	},
	"kill":  func(_ context.Context, w *world, args []string) error { return w.kill(args[0]) },
	"start": func(ctx context.Context, w *world, args []string) error { return w.start(ctx, args[0]) },
	"late": func(_ context.Context, w *world, args []string) error {
		d, err := time.ParseDuration(args[1])
		w.late[args[0]] = d
		if p := w.processes[args[0]]; p != nil {
			p.view.setLate(d)
		}
		return err
	},
	"delay": func(_ context.Context, w *world, args []string) error {
		d, err := time.ParseDuration(args[1])
		if p := w.processes[args[0]]; p != nil {
			p.client.Delay(d)
		}
		return err
	},
	"lose-source": func(_ context.Context, w *world, args []string) error { return w.setLost(args[0], true) },
	"find-source": func(_ context.Context, w *world, args []string) error { return w.setLost(args[0], false) },
	"cut":         func(_ context.Context, w *world, args []string) error { return w.cut(args[0], true) },
	"heal":        func(_ context.Context, w *world, args []string) error { return w.cut(args[0], false) },
	"reset-consumers": func(ctx context.Context, w *world, args []string) error {
		return w.onStream(ctx, args[0], func(bus.StreamState) { w.log.ResetConsumers(args[0]) })
	},
	"lose-answer": func(ctx context.Context, w *world, args []string) error {
		return w.onStream(ctx, args[0], func(bus.StreamState) { w.log.LoseAnswer(args[0]) })
	},
	"lose-request": func(ctx context.Context, w *world, args []string) error {
		return w.onStream(ctx, args[0], func(bus.StreamState) { w.log.LoseRequest(args[0]) })
	},
	"hold": func(ctx context.Context, w *world, args []string) error {
		back, err := strconv.ParseUint(args[1], 10, 64)
		if err != nil {
			return err
		}
		return w.onStream(ctx, args[0], func(s bus.StreamState) {
			if s.Last > back {
				w.log.Hold(args[0], s.Last-back)
			}
		})
	},
	"release": func(ctx context.Context, w *world, args []string) error {
		return w.onStream(ctx, args[0], func(bus.StreamState) { w.log.Hold(args[0], 0) })
	},
	"recreate": func(ctx context.Context, w *world, args []string) error {
		return w.onStream(ctx, args[0], func(bus.StreamState) { w.log.Delete(args[0]) })
	},
}

func (w *world) setLost(name string, lost bool) error {
	w.lost[name] = lost
	if p := w.processes[name]; p != nil {
		p.view.setLost(lost)
	}
	return nil
}

func (w *world) cut(name string, cut bool) error {
	if p := w.processes[name]; p != nil {
		p.client.Cut(cut)
	}
	return nil
}

// onStream does something to a stream that is there.
func (w *world) onStream(ctx context.Context, stream string, do func(bus.StreamState)) error {
	state, err := w.log.State(ctx, stream)
	if errors.Is(err, bus.ErrNoStream) {
		return nil
	}
	if err == nil {
		do(state)
	}
	return err
}

// pass lets time go by.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

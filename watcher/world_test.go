package watcher_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/deploy/onethread"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher"
)

func TestMain(m *testing.M) {
	onethread.UnderRace()
	goleak.VerifyTestMain(m)
}

const stream = "CATALOG_dc1"

// truth is what a source shows: a registry with one index, cut into scopes.
type truth struct {
	mu     sync.Mutex
	index  uint64
	scopes map[string]map[string]string // scope → node → address
	views  map[*view]bool
}

func newTruth() *truth {
	return &truth{scopes: map[string]map[string]string{}, views: map[*view]bool{}, index: 10}
}

// set changes one node's address in a scope; empty removes it.
func (w *truth) set(scope, node, address string) {
	w.change(func() {
		if w.scopes[scope] == nil {
			w.scopes[scope] = map[string]string{}
		}
		w.scopes[scope][node] = address
		if address == "" {
			delete(w.scopes[scope], node)
		}
	})
}

func (w *truth) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	w.index++
	for v := range w.views {
		v.announce(w.snapshot())
	}
}

// snapshot is every scope's state at the present index. With mu held.
func (w *truth) snapshot() []watcher.State {
	var out []watcher.State
	for _, scope := range slices.Sorted(maps.Keys(w.scopes)) {
		state := watcher.State{Scope: scope, Index: w.index, After: w.index - 1}
		for node, address := range w.scopes[scope] {
			state.Values = append(state.Values, watcher.Value{
				Key: isthmusv1.NodeKey("", node), Value: &isthmusv1.Node{Name: node, Address: address},
			})
		}
		out = append(out, state)
	}
	return out
}

// view is the truth as one watcher sees it: late, or not at all.
type view struct {
	truth *truth
	// late is how long after a change the view shows it.
	late time.Duration
	// directory: the view has no indexes and only says that something changed.
	directory bool

	mu    sync.Mutex
	sink  watcher.Sink
	bad   error
	reads int
	shown chan []watcher.State
}

func (w *truth) view(late time.Duration) *view {
	return &view{truth: w, late: late, shown: make(chan []watcher.State, 1024)}
}

func (v *view) announce(states []watcher.State) { v.shown <- states }

func (v *view) Run(ctx context.Context, sink watcher.Sink) error {
	v.mu.Lock()
	v.sink = sink
	sink.Live(v.bad)
	v.mu.Unlock()
	v.truth.mu.Lock()
	v.truth.views[v] = true
	v.show(v.truth.snapshot())
	v.truth.mu.Unlock()
	defer func() {
		v.truth.mu.Lock()
		delete(v.truth.views, v)
		v.truth.mu.Unlock()
	}()
	for {
		select {
		case states := <-v.shown:
			shown := time.Now().Add(v.late)
			select {
			case <-time.After(time.Until(shown)):
				v.show(states)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (v *view) show(states []watcher.State) {
	names := make([]string, len(states))
	for i, s := range states {
		names[i] = s.Scope
	}
	v.sink.Scopes(names)
	for _, s := range states {
		if v.directory {
			v.sink.Changed(s.Scope)
		} else {
			v.sink.Present(s)
		}
	}
}

// setLive makes the view lose its source, or find it again.
func (v *view) setLive(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.bad = err
	if v.sink != nil {
		v.sink.Live(err)
	}
}

func (v *view) Read(ctx context.Context, scope string) (watcher.State, error) {
	states, err := v.ReadAll(ctx)
	for _, s := range states {
		if s.Scope == scope {
			return s, err
		}
	}
	gone := watcher.State{Scope: scope}
	if !v.directory {
		v.truth.mu.Lock()
		gone.Index = v.truth.index
		v.truth.mu.Unlock()
	}
	return gone, err
}

func (v *view) ReadAll(context.Context) ([]watcher.State, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reads++
	if v.bad != nil {
		return nil, v.bad
	}
	v.truth.mu.Lock()
	defer v.truth.mu.Unlock()
	states := v.truth.snapshot()
	if v.directory {
		for i := range states {
			states[i].Index, states[i].After = 0, 0
		}
	}
	return states, nil
}

// process is a watcher that runs, and can be killed.
type process struct {
	*watcher.Watcher
	client *memlog.Client
	stop   context.CancelFunc
	done   chan error
}

// start runs a watcher of a view; call it in a bubble.
func start(t *testing.T, log *memlog.Log, name string, v watcher.Source) *process {
	t.Helper()
	client := log.Connect(name)
	w, err := watcher.New(watcher.Config{
		Datacenter: "dc1", Source: v,
		Writer: bus.WriterConfig{Log: client, Owner: name},
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)).With("watcher", name),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	p := &process{Watcher: w, client: client, stop: stop, done: make(chan error, 1)}
	go func() { p.done <- w.Run(ctx) }()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process without a last word: others hear nothing.
func (p *process) kill() {
	p.client.Cut(true)
	p.stop()
	if p.done != nil {
		<-p.done
	}
	p.done = nil
}

// quit ends the process in good order.
func (p *process) quit() {
	p.stop()
	<-p.done
	p.done = nil
}

// quitAfter ends the process in good order once something has come to pass.
func (p *process) quitAfter(await func()) {
	await()
	p.quit()
}

// settle lets time pass until everything that goes on has come to rest.
func settle() {
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

// events are the messages of the stream but those of writers.
func events(t *testing.T, log bus.Log) []bus.Message {
	t.Helper()
	var out []bus.Message
	for m, err := range log.History(t.Context(), stream, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Key != isthmusv1.WriterKey() {
			out = append(out, m)
		}
	}
	return out
}

// state is what readers see of the stream: each node's address.
func state(t *testing.T, log bus.Log) map[string]string {
	t.Helper()
	now, err := log.State(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := bus.StateAt(t.Context(), log, stream, now.Last)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, c := range whole.Changes {
		if node, ok := c.Value.(*isthmusv1.Node); ok {
			out[node.GetName()] = node.GetAddress()
		}
	}
	return out
}

var errGone = errors.New("the source does not answer")

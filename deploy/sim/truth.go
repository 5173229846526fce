package sim

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher"
)

// truth is what is so in one datacenter, with everything that ever was.
type truth struct {
	datacenter string
	// directory: the source has no indexes and one scope; else it has a query per
	// kind of value.
	directory bool

	mu      sync.Mutex
	index   uint64
	values  map[isthmusv1.Key]proto.Message
	history map[isthmusv1.Key][]string // the bytes of each state; "" is absent
	views   map[*view]bool
}

// absent stands in a history for a key that is not there; no value is so.
const absent = "\x00absent"

func newTruth(datacenter string, directory bool) *truth {
	t := &truth{
		datacenter: datacenter, directory: directory, index: 7,
		values: map[isthmusv1.Key]proto.Message{}, history: map[isthmusv1.Key][]string{}, views: map[*view]bool{},
	}
	key, m := facts(datacenter, "allow")
	t.change(map[isthmusv1.Key]proto.Message{key: m})
	return t
}

// change makes several values so at once; nil is absent.
func (t *truth) change(values map[isthmusv1.Key]proto.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, m := range values {
		if m == nil {
			delete(t.values, key)
		} else {
			t.values[key] = m
		}
		t.history[key] = append(t.history[key], stateOf(m))
	}
	t.index++
	for v := range t.views {
		v.shown <- t.snapshot()
	}
}

// stateOf is a value as histories hold it.
func stateOf(m proto.Message) string {
	if m == nil {
		return absent
	}
	b, err := isthmusv1.Marshal(m)
	if err != nil {
		panic(err) // The universe's values can be marshalled.
	}
	return string(b)
}

func (t *truth) scope(key isthmusv1.Key) string {
	if t.directory {
		return "directory"
	}
	return "query/" + string(key.Kind)
}

// snapshot is the present content of every scope. With mu held.
func (t *truth) snapshot() []watcher.State {
	byScope := map[string]*watcher.State{}
	for _, key := range slices.SortedFunc(maps.Keys(t.values), isthmusv1.Key.Compare) {
		name := t.scope(key)
		if byScope[name] == nil {
			byScope[name] = &watcher.State{Scope: name}
			if !t.directory {
				byScope[name].Index, byScope[name].After = t.index, t.index-1
			}
		}
		v := watcher.Value{Key: key, Value: t.values[key]}
		if t.directory {
			v.Source = &isthmusv1.Source{File: strings.ReplaceAll(key.String(), "/", "-") + ".hcl", Line: 1}
		}
		byScope[name].Values = append(byScope[name].Values, v)
	}
	out := make([]watcher.State, 0, len(byScope))
	for _, name := range slices.Sorted(maps.Keys(byScope)) {
		out = append(out, *byScope[name])
	}
	return out
}

var errSourceLost = errors.New("the source does not answer")

// view is a truth as one watcher sees it: late, or not at all.
type view struct {
	truth *truth
	shown chan []watcher.State

	mu   sync.Mutex
	late time.Duration
	lost bool
	sink watcher.Sink
}

var _ watcher.Source = (*view)(nil)

func (t *truth) view() *view { return &view{truth: t, shown: make(chan []watcher.State, 1024)} }

// Run implements [watcher.Source].
func (v *view) Run(ctx context.Context, sink watcher.Sink) error {
	v.mu.Lock()
	v.sink = sink
	v.tellLive()
	v.mu.Unlock()
	v.truth.mu.Lock()
	v.truth.views[v] = true
	first := v.truth.snapshot()
	v.truth.mu.Unlock()
	defer func() {
		v.truth.mu.Lock()
		delete(v.truth.views, v)
		v.truth.mu.Unlock()
	}()
	v.show(first)
	for {
		select {
		case states := <-v.shown:
			select {
			case <-time.After(v.lateness()):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			v.show(states)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (v *view) lateness() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.late
}

func (v *view) show(states []watcher.State) {
	names := make([]string, len(states))
	for i, s := range states {
		names[i] = s.Scope
	}
	v.sink.Scopes(names)
	for _, s := range states {
		if v.truth.directory {
			v.sink.Changed(s.Scope)
		} else {
			v.sink.Present(s)
		}
	}
}

func (v *view) setLate(late time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.late = late
}

func (v *view) setLost(lost bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lost = lost
	v.tellLive()
}

func (v *view) tellLive() {
	if v.sink == nil {
		return
	}
	if v.lost {
		v.sink.Live(errSourceLost)
		return
	}
	v.sink.Live(nil)
}

// Read implements [watcher.Source].
func (v *view) Read(ctx context.Context, scope string) (watcher.State, error) {
	states, err := v.ReadAll(ctx)
	if err != nil {
		return watcher.State{}, err
	}
	for _, s := range states {
		if s.Scope == scope {
			return s, nil
		}
	}
	gone := watcher.State{Scope: scope}
	if !v.truth.directory {
		v.truth.mu.Lock()
		gone.Index = v.truth.index
		v.truth.mu.Unlock()
	}
	return gone, nil
}

// ReadAll implements [watcher.Source].
func (v *view) ReadAll(context.Context) ([]watcher.State, error) {
	v.mu.Lock()
	lost := v.lost
	v.mu.Unlock()
	if lost {
		return nil, errSourceLost
	}
	v.truth.mu.Lock()
	defer v.truth.mu.Unlock()
	return v.truth.snapshot(), nil
}

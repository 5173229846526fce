package watcher

import (
	"context"
	"errors"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// write makes the log equal to the source. What has changed is written from
// the states at hand, at their indexes; when those are not newer than what is
// recorded, or the source has no indexes, the source is read after the log's
// end.
func (w *Watcher) write(ctx context.Context) error {
	if len(w.scopes.toRead) > 0 {
		return w.writeRead(ctx)
	}
	if !w.scopes.whole() {
		return nil
	}
	if !w.whole && len(w.scopes.dirty) == 0 {
		return nil
	}
	d, safe, err := w.difference()
	if err != nil {
		return err
	}
	if !safe {
		return w.writeRead(ctx)
	}
	d.Turn = w.turn
	position, err := w.writer.Write(ctx, d)
	if errors.Is(err, bus.ErrStaleView) {
		w.metrics.writes.WithLabelValues("stale").Inc()
		return w.writeRead(ctx)
	}
	return w.written(position, err)
}

// writeRead reads the source after the log's end, and writes that.
func (w *Watcher) writeRead(ctx context.Context) error {
	position, err := w.writer.WriteFrom(ctx, func(ctx context.Context) (bus.Difference, error) {
		states, err := w.reread(ctx)
		if err != nil {
			return bus.Difference{}, err
		}
		for _, state := range states {
			w.scopes.confirm(state)
		}
		if !w.scopes.whole() {
			return bus.Difference{}, errIncomplete
		}
		d, _, err := w.difference()
		d.Turn = w.turn
		return d, err
	})
	if errors.Is(err, errIncomplete) {
		return nil // The source goes on.
	}
	return w.written(position, err)
}

// errIncomplete: not every scope of the source was handed over yet.
var errIncomplete = errors.New("the source was not handed over whole")

// reread reads what is to be written: all scopes when the whole log is
// compared, else those that have changed.
func (w *Watcher) reread(ctx context.Context) ([]State, error) {
	if w.whole {
		states, err := w.source.ReadAll(ctx)
		if err != nil {
			return nil, err
		}
		names := make([]string, len(states))
		for i, state := range states {
			names[i] = state.Scope
		}
		w.scopes.name(names)
		return states, nil
	}
	names := w.scopes.unread()
	for name := range w.scopes.dirty {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	states := make([]State, 0, len(names))
	for _, name := range names {
		state, err := w.source.Read(ctx, name)
		if err != nil {
			return nil, err
		}
		states = append(states, state)
	}
	return states, nil
}

// written takes the outcome of a write.
func (w *Watcher) written(position *isthmusv1.Position, err error) error {
	if err != nil {
		if !errors.Is(err, bus.ErrNotActive) && !errors.Is(err, ErrUnusable) {
			w.metrics.writes.WithLabelValues("failed").Inc()
		}
		return err
	}
	w.scopes.clean()
	w.whole = false
	last := w.Status().Position
	w.note(func(s *Status) { s.Position = position })
	if !proto.Equal(last, position) {
		w.metrics.writes.WithLabelValues("done").Inc()
		w.log.Info("the catalog is equal to the source", "seq", position.GetSequence())
	}
	return nil
}

// difference is what is to become of the log. It is not safe to write by
// indexes alone when a scope has none, when it ends keys that no scope at hand
// has held, or in a first fill: then the source is read after the log's end.
func (w *Watcher) difference() (d bus.Difference, safe bool, err error) {
	if w.whole {
		return w.wholeDifference()
	}
	safe = true
	for _, name := range slices.Sorted(maps.Keys(w.scopes.dirty)) {
		before, state, values := w.scopes.dirty[name], State{Scope: name}, map[isthmusv1.Key]Value(nil)
		if c := w.scopes.states[name]; c != nil {
			state, values = c.state, c.values
		}
		safe = safe && state.Index > 0
		d.Puts = append(d.Puts, changed(before, state, values)...)
		for key := range before {
			if _, ok := values[key]; !ok && !w.scopes.holds(key, name) {
				d.Puts = append(d.Puts, bus.Put{Key: key, Source: state.source(Value{})})
			}
		}
		d.SourceHeads = append(d.SourceHeads, state.heads()...)
	}
	sortPuts(d.Puts)
	return d, safe, nil
}

// changed returns the values that are not what they were.
func changed(before map[isthmusv1.Key]Value, state State, values map[isthmusv1.Key]Value) []bus.Put {
	var puts []bus.Put
	for key, v := range values {
		if was, ok := before[key]; !ok || !proto.Equal(was.Value, v.Value) {
			puts = append(puts, bus.Put{Key: key, Value: v.Value, Source: state.source(v)})
		}
	}
	return puts
}

// wholeDifference is the difference between the log and all scopes. It also
// completes the stream's first fill.
func (w *Watcher) wholeDifference() (d bus.Difference, safe bool, err error) {
	snapshot, err := w.writer.Snapshot()
	if err != nil {
		return bus.Difference{}, false, err
	}
	// A first fill has no recorded indexes to be held against, and readers may
	// still have what an earlier stream said.
	d.Complete, safe = true, snapshot.Complete
	held := map[isthmusv1.Key]bool{isthmusv1.WriterKey(): true}
	for _, name := range slices.Sorted(maps.Keys(w.scopes.states)) {
		c := w.scopes.states[name]
		safe = safe && c.state.Index > 0
		for key, v := range c.values {
			if !held[key] {
				d.Puts = append(d.Puts, bus.Put{Key: key, Value: v.Value, Source: c.state.source(v)})
			}
			held[key] = true
		}
		d.SourceHeads = append(d.SourceHeads, c.state.heads()...)
	}
	for key := range snapshot.Values {
		if !held[key] {
			d.Deletes = append(d.Deletes, key)
			safe = false
		}
	}
	sortPuts(d.Puts)
	isthmusv1.SortKeys(d.Deletes)
	return d, safe, nil
}

// heads is the state's index as it is recorded.
func (s *State) heads() []*isthmusv1.SourceHead {
	if s.Index == 0 {
		return nil
	}
	return []*isthmusv1.SourceHead{{Query: s.Scope, Index: s.Index}}
}

// sortPuts orders what is written together, so that equal changes give equal
// transactions.
func sortPuts(puts []bus.Put) {
	slices.SortFunc(puts, func(a, b bus.Put) int {
		return a.Key.Compare(b.Key)
	})
}

package watcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// write makes the log equal to the source. What has changed is written from
// the states at hand, at their indexes; when those are not newer than what is
// recorded, or the source has no indexes, the source is read after the log's
// end.
func (w *Watcher) write(ctx context.Context) error {
	w.whole = w.whole || w.scopes.unveiled
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
		states, restored, err := w.reread(ctx)
		if err != nil {
			return bus.Difference{}, err
		}
		for _, state := range states {
			w.scopes.confirm(state)
		}
		if !w.scopes.whole() {
			return bus.Difference{}, errIncomplete
		}
		_, w.epoch = w.writer.SourceHead("")
		if restored {
			w.epoch++
		}
		d, _, err := w.difference()
		d.Turn, d.SourceEpoch = w.turn, w.epoch
		return d, err
	})
	if errors.Is(err, errIncomplete) {
		return nil // The source goes on.
	}
	return w.written(position, err)
}

// errIncomplete: not every scope of the source was handed over yet.
var errIncomplete = errors.New("the source was not handed over whole")

// reread reads what is to be written: all scopes when the whole log is compared,
// else those that have changed. A consistent reading at an index below the
// recorded one of its query confirms that the source was restored: then nothing
// that was recorded before tells what is newer, and all is read.
func (w *Watcher) reread(ctx context.Context) (states []State, restored bool, err error) {
	if !w.whole {
		if states, err = w.rereadChanged(ctx); err != nil {
			return nil, false, err
		}
		if !w.wentBack(states) {
			return states, false, nil
		}
		w.whole = true
	}
	if states, err = w.source.ReadAll(ctx); err != nil {
		return nil, false, err
	}
	names := make([]string, len(states))
	for i, state := range states {
		names[i] = state.Scope
	}
	w.scopes.name(names)
	if restored = w.wentBack(states); restored {
		w.log.Warn("the source was restored: its indexes have gone back, and all of it was read anew")
	}
	return states, restored, nil
}

// rereadChanged reads the scopes that have changed.
func (w *Watcher) rereadChanged(ctx context.Context) ([]State, error) {
	names := w.scopes.unread()
	for name := range w.scopes.dirty {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	states := make([]State, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readAtOnce)
	for i, name := range names {
		group.Go(func() (err error) {
			states[i], err = w.source.Read(ctx, name)
			return err
		})
	}
	return states, group.Wait()
}

// readAtOnce is how many scopes are read side by side.
const readAtOnce = 16

// wentBack reports whether a state was read at an index below the recorded one. A
// scope that is gone tells nothing: it has the index of another query.
func (w *Watcher) wentBack(states []State) bool {
	return slices.ContainsFunc(states, func(s State) bool {
		recorded, _ := w.writer.SourceHead(s.Scope)
		return len(s.Values) > 0 && s.Index > 0 && s.Index < recorded
	})
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
// indexes alone when a scope that changes has none, when it ends keys that no scope at hand
// has held, or in a first fill: then the source is read after the log's end.
func (w *Watcher) difference() (d bus.Difference, safe bool, err error) {
	// What was seen before a restore that another watcher has confirmed is not
	// newer than what it read since, whatever its index.
	_, epoch := w.writer.SourceHead("")
	if w.whole {
		d, safe, err = w.wholeDifference()
		return d, safe && w.epoch == epoch, err
	}
	safe = w.epoch == epoch
	for _, name := range slices.Sorted(maps.Keys(w.scopes.dirty)) {
		before, state, values := w.scopes.dirty[name], State{Scope: name}, map[isthmusv1.Key]Value(nil)
		if c := w.scopes.states[name]; c != nil {
			state, values = c.state, c.values
		}
		unchanged := len(d.Puts)
		d.Puts = append(d.Puts, changed(before, state, values)...)
		for key := range before {
			if _, ok := values[key]; !ok && !w.scopes.holds(key, name) && !w.scopes.veiled(key) {
				d.Puts = append(d.Puts, bus.Put{Key: key, Source: state.source(Value{})})
			}
		}
		safe = safe && (state.Index > 0 || len(d.Puts) == unchanged)
		d.SourceHeads = append(d.SourceHeads, state.heads()...)
	}
	sortPuts(d.Puts)
	return d, safe, nil
}

// changed returns the values that are not what they were.
func changed(before map[isthmusv1.Key]Value, state State, values map[isthmusv1.Key]Value) []bus.Put {
	var puts []bus.Put
	for key, v := range values {
		if was, ok := before[key]; !ok || was.Value != v.Value && !proto.Equal(was.Value, v.Value) {
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
		for key, v := range c.values {
			if held[key] {
				continue
			}
			held[key] = true
			if c.state.Index == 0 {
				// A scope without indexes is safe where it says what the log says.
				value, err := isthmusv1.Marshal(v.Value)
				if err != nil {
					return bus.Difference{}, false, fmt.Errorf("key %s: %w", key, err)
				}
				if recorded, ok := snapshot.Values[key]; ok && bytes.Equal(recorded, value) {
					continue
				}
				safe = false
			}
			d.Puts = append(d.Puts, bus.Put{Key: key, Value: v.Value, Source: c.state.source(v)})
		}
		d.SourceHeads = append(d.SourceHeads, c.state.heads()...)
	}
	for key := range snapshot.Values {
		if !held[key] && !w.scopes.veiled(key) {
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

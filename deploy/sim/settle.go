package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
)

// quiet is how long nothing happens before the end is looked at: longer than
// any waiting of any part, repeated after answers that are lost. On an unkind
// log heartbeats go on to be lost, so that somebody may have taken over just
// now: what is not at rest then is looked at again.
const (
	quiet = 40 * time.Second
	again = 2 * time.Second
	looks = 4
)

// settle heals everything, waits, and checks what must be so then.
func (w *world) settle(ctx context.Context) error {
	for _, stream := range streams {
		if err := verbs["release"](ctx, w, []string{stream}); err != nil {
			return err
		}
	}
	for _, name := range watchers {
		w.late[name], w.lost[name] = 0, false
	}
	for _, p := range w.processes {
		p.client.Cut(false)
		p.client.Delay(0)
		if p.view != nil {
			p.view.setLate(0)
			p.view.setLost(false)
		}
	}
	for _, name := range processes {
		if err := w.start(ctx, name); err != nil {
			return err
		}
	}
	for _, dc := range datacenters {
		key, m := facts(dc, "deny")
		w.truths[dc].change(map[isthmusv1.Key]proto.Message{key: m})
	}
	var unrest error
	for look := range looks {
		if err := pass(ctx, []time.Duration{quiet, again}[min(look, 1)]); err != nil {
			return err
		}
		synctest.Wait()
		if err := w.audit(ctx); err != nil {
			return err
		}
		if unrest = errors.Join(w.checkCatalogs(), w.checkRoutes(), w.checkReader()); unrest == nil {
			return w.checkReplay(ctx)
		}
	}
	return unrest
}

// checkCatalogs: each catalog is its source, with one watcher active.
func (w *world) checkCatalogs() error {
	for _, dc := range datacenters {
		stream, t := isthmusv1.StreamName(isthmusv1.ClassCatalog, dc), w.truths[dc]
		want := map[isthmusv1.Key]string{}
		for key, m := range t.values {
			want[key] = stateOf(m)
		}
		got := w.auditor.present(stream)
		delete(got, isthmusv1.WriterKey())
		if err := compare(want, got); err != nil {
			return fmt.Errorf("%s is not its source: %w", stream, err)
		}
		active := 0
		for _, name := range watchers {
			if p := w.processes[name]; p.view.truth == t && p.watcher.Status().Active {
				active++
			}
		}
		if active != 1 {
			return fmt.Errorf("%s has %d active watchers", stream, active)
		}
	}
	return nil
}

// checkRoutes: both resolvers hold what the log holds, at the catalogs' ends.
func (w *world) checkRoutes() error {
	active, basis := 0, w.auditor.basis()
	for _, name := range resolvers {
		r := w.processes[name].resolver
		if r.writer.Active() {
			active++
		}
		got := map[isthmusv1.Key]string{}
		for key, m := range r.all() {
			got[key] = stateOf(m)
		}
		if err := compare(w.auditor.routes(), got); err != nil {
			return fmt.Errorf("%s does not hold the log's routes: %w", name, err)
		}
	}
	if active != 1 {
		return fmt.Errorf("%d resolvers are active", active)
	}
	for _, dc := range datacenters {
		stream := isthmusv1.StreamName(isthmusv1.ClassCatalog, dc)
		a := w.auditor.streams[stream]
		if p := basis.At(stream); p.GetIncarnation() != a.incarnation || p.GetSequence() != a.closed {
			return fmt.Errorf("the recorded basis is %s, %s has closed at %d of %s", basis.Text(), stream, a.closed, a.incarnation)
		}
	}
	return nil
}

func (w *world) checkReader() error {
	for _, stream := range streams {
		if err := compare(w.auditor.present(stream), w.reader.holds(stream)); err != nil {
			return fmt.Errorf("the reader's %s is not the log's: %w", stream, err)
		}
	}
	return nil
}

// checkReplay: the log, replayed, gives the routes that it records.
func (w *world) checkReplay(ctx context.Context) error {
	result, err := history.Replay(ctx, history.ReplayOptions{Log: w.log, Datacenter: "dc1"})
	switch {
	case errors.Is(err, history.ErrNothingRecorded), errors.Is(err, bus.ErrNotRetained):
		return nil // A stream was made again, or has lost its beginning.
	case err != nil:
		return fmt.Errorf("replay: %w", err)
	case result.Difference != nil:
		return fmt.Errorf("replay: at %d, basis %s, %s differs: %v", result.Difference.Sequence, result.Difference.Basis, result.Difference.Key, result.Difference.Details)
	}
	w.auditor.result.Replayed = result.Bases
	return nil
}

// compare says where two states differ.
func compare(want, got map[isthmusv1.Key]string) error {
	keys := maps.Clone(want)
	maps.Copy(keys, got)
	sorted := make([]isthmusv1.Key, 0, len(keys))
	for key := range keys {
		sorted = append(sorted, key)
	}
	isthmusv1.SortKeys(sorted)
	for _, key := range sorted {
		a, wanted := want[key]
		b, is := got[key]
		switch {
		case !is:
			return fmt.Errorf("%s is missing", key)
		case !wanted:
			return fmt.Errorf("%s should not be there", key)
		case a != b:
			return fmt.Errorf("%s differs: want %s, is %s", key, show(key, a), show(key, b))
		}
	}
	return nil
}

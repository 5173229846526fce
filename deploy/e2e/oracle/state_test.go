package oracle_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// state is the live content of a stream, and where it stands.
type state struct {
	mu       sync.Mutex
	values   map[isthmusv1.Key]proto.Message
	bytes    map[isthmusv1.Key][]byte
	position *isthmusv1.Position
	// basis of the routes.
	basis   *isthmusv1.Basis
	changed chan struct{}
}

// follow keeps a stream's state until the test ends.
func follow(t *testing.T, log bus.Log, stream string) *state {
	t.Helper()
	s := &state{changed: make(chan struct{})}
	drive := &bus.Drive{Log: log, Streams: []string{stream}, Machine: bus.MachineFunc(s.apply)}
	part(t, "the reader of "+stream, drive.Run)
	return s
}

func (s *state) apply(tx *isthmusv1.Transaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tx.Reset || s.values == nil {
		s.values, s.bytes = map[isthmusv1.Key]proto.Message{}, map[isthmusv1.Key][]byte{}
	}
	for _, c := range tx.Changes {
		if c.Tombstone {
			delete(s.values, c.Key)
			delete(s.bytes, c.Key)
			continue
		}
		s.values[c.Key], s.bytes[c.Key] = c.Value, c.Bytes
	}
	s.position = tx.Position()
	if basis := tx.End.GetBasis(); basis != nil {
		s.basis = basis
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// look calls a function with the state, which it must not keep, and returns a
// channel that is closed when the state is another.
func (s *state) look(at func()) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	at()
	return s.changed
}

// await waits until the state meets a condition.
func (s *state) await(ctx context.Context, met func() bool) error {
	for {
		ok := false
		changed := s.look(func() { ok = met() })
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// include waits until the routes of dc1 have all that was written to Consul
// before: the catalog of each datacenter in the log equals a fresh, consistent
// read of it, byte for byte, and the basis of the routes is not before that.
func (w *world) include(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for dc, catalog := range w.catalogs {
		var reached *isthmusv1.Position
		var differs isthmusv1.Key
		err := catalog.await(ctx, func() bool {
			fresh, err := w.read(ctx, dc)
			if err != nil {
				t.Fatalf("%s: %v", dc, err)
			}
			reached = catalog.position
			differs = difference(fresh, catalog.bytes)
			return differs.IsZero() && reached != nil
		})
		if err != nil {
			t.Fatalf("the catalog of %s has not become what Consul has: %v; it differs at %v", dc, err, differs)
		}
		if err := w.routes.await(ctx, func() bool {
			at := w.routes.basis.At(reached.GetStream())
			return at.GetIncarnation() == reached.GetIncarnation() && at.GetSequence() >= reached.GetSequence()
		}); err != nil {
			t.Fatalf("the routes have not come to %v: %v; their basis is %s", reached, err, w.routes.basis.Text())
		}
	}
}

// read reads a datacenter from Consul.
func (w *world) read(ctx context.Context, dc string) (map[isthmusv1.Key][]byte, error) {
	// What agents merge depends on the facts, which a source that runs knows first.
	if _, err := w.fresh[dc].Read(ctx, "facts"); err != nil {
		return nil, err
	}
	states, err := w.fresh[dc].ReadAll(ctx)
	if err != nil {
		return nil, err
	}
	out := map[isthmusv1.Key][]byte{}
	for _, s := range states {
		for _, v := range s.Values {
			if out[v.Key], err = isthmusv1.Marshal(v.Value); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// difference is a key at which a catalog in the log differs from a fresh read.
func difference(fresh, logged map[isthmusv1.Key][]byte) isthmusv1.Key {
	for key, value := range fresh {
		if got, ok := logged[key]; !ok || !bytes.Equal(got, value) {
			return key
		}
	}
	for key := range logged {
		if _, ok := fresh[key]; !ok && key.Kind != isthmusv1.KindWriter {
			return key
		}
	}
	return isthmusv1.Key{}
}

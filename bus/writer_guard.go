package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// judge decides, once for a whole difference, whether its view may be written.
// Fencing guards the tail of the log; this guards the freshness of what is
// written onto it.
func (j *writeJob) judge(ctx context.Context) error {
	w := j.writer
	w.mu.Lock()
	if w.state == nil || w.term == 0 {
		w.mu.Unlock()
		return ErrNotActive
	}
	j.turn = w.turn()
	if asked := j.difference.Turn; asked != (Turn{}) && asked != j.turn {
		w.mu.Unlock()
		return ErrNotActive
	}
	basis, rules := w.state.basis, w.state.rules
	if w.class == isthmusv1.ClassCatalog {
		defer w.mu.Unlock()
		if err := j.held(); err != nil {
			return err
		}
		return j.judgeSource()
	}
	w.mu.Unlock()
	if rules > w.cfg.RulesVersion {
		return fmt.Errorf("version %d, recorded is %d: %w", w.cfg.RulesVersion, rules, ErrOldRules)
	}
	return judgeBasis(ctx, w.cfg.Log, basis, j.difference.Basis)
}

// judgeBasis holds a basis against the recorded one, component by component.
func judgeBasis(ctx context.Context, log Log, recorded, basis *isthmusv1.Basis) error {
	for _, old := range recorded.GetPositions() {
		p := basis.At(old.GetStream())
		if p.GetIncarnation() == old.GetIncarnation() && p != nil {
			if p.GetSequence() < old.GetSequence() {
				return fmt.Errorf("%s at %d, recorded is %d: %w", p.GetStream(), p.GetSequence(), old.GetSequence(), ErrStaleView)
			}
			continue
		}
		state, err := log.State(ctx, old.GetStream())
		switch {
		case errors.Is(err, ErrNoStream) && p == nil:
			continue // The datacenter has departed.
		case err != nil:
			return err
		case p == nil:
			return fmt.Errorf("%s is not in the basis: %w", old.GetStream(), ErrStaleView)
		case p.GetIncarnation() != state.Incarnation:
			return fmt.Errorf("%s: incarnation %q, the stream's is %q: %w", p.GetStream(), p.GetIncarnation(), state.Incarnation, ErrStaleView)
		}
	}
	return nil
}

// judgeSource holds the source's indexes against the recorded ones of the same
// query. With the writer's mu held.
func (j *writeJob) judgeSource() error {
	d, state := j.difference, j.writer.state
	epoch := max(d.SourceEpoch, state.epoch)
	for i := range j.changes {
		if source := j.changes[i].source; source.GetQuery() != "" {
			stamped := proto.CloneOf(source)
			stamped.Epoch = epoch
			j.changes[i].source = stamped
		}
	}
	if d.Tail != nil {
		return nil
	}
	if d.SourceEpoch != 0 && d.SourceEpoch < state.epoch {
		return fmt.Errorf("source epoch %d, recorded is %d: %w", d.SourceEpoch, state.epoch, ErrStaleView)
	}
	if epoch > state.epoch {
		return nil
	}
	newer := false
	for _, head := range d.SourceHeads {
		newer = newer || head.GetIndex() > state.head(head.GetQuery())
	}
	for _, c := range j.changes {
		if !state.differs(c) {
			continue
		}
		query := c.source.GetQuery()
		switch {
		case query != "" && c.source.GetIndexAt() > state.head(query):
		case query != "":
			return fmt.Errorf("%s seen at index %d of %s, recorded is %d: %w", c.key, c.source.GetIndexAt(), query, state.head(query), ErrStaleView)
		case c.tombstone && c.source == nil && newer:
		default:
			return fmt.Errorf("%s has no source index, so its source must be read after the log's end (WriteFrom): %w", c.key, ErrStaleView)
		}
	}
	return nil
}

func sortedHeads(heads []*isthmusv1.SourceHead) []*isthmusv1.SourceHead {
	return slices.SortedFunc(slices.Values(heads), func(a, b *isthmusv1.SourceHead) int {
		return cmp.Compare(a.GetQuery(), b.GetQuery())
	})
}

package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Write makes the stream's state what the difference says, and returns the
// position afterwards. What is already so is left out; when nothing is left,
// nothing is written, but for a basis that has moved, which is recorded at most
// once a BasisInterval.
//
// It waits out a log that does not answer, until the context ends. A write may
// have happened in part when an error is returned; writing on from the state
// then is right.
//
// Possible errors: [ErrNotActive], [ErrStaleView], [ErrOldRules], [ErrFull]
// (everything but new keys was written), [ErrTooLarge], [ErrNoStream].
func (w *Writer) Write(ctx context.Context, d Difference) (*isthmusv1.Position, error) {
	changes, err := d.changes(w.class)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.cfg.Stream, err)
	}
	if err := w.writing.take(ctx); err != nil {
		return nil, err
	}
	defer w.writing.give()
	job := &writeJob{writer: w, difference: d, changes: changes, ids: make(map[string]bool)}
	if err := job.judge(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", w.cfg.Stream, err)
	}
	if err := w.makeRoom(ctx, job); err != nil {
		return nil, fmt.Errorf("%s: %w", w.cfg.Stream, err)
	}
	if err := job.run(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", w.cfg.Stream, err)
	}
	return job.end()
}

// changes marshals the difference, puts in order before tombstones in order.
func (d *Difference) changes(class isthmusv1.Class) ([]change, error) {
	if class == isthmusv1.ClassRoutes && d.Basis == nil {
		return nil, errors.New("routes cannot be written without the basis that they were computed from")
	}
	changes := make([]change, 0, len(d.Puts)+len(d.Deletes))
	seen := make(map[isthmusv1.Key]bool, cap(changes))
	add := func(c change) error {
		if seen[c.key] || c.key.IsZero() || c.key == isthmusv1.WriterKey() || c.key == isthmusv1.BasisKey() {
			return fmt.Errorf("key %q stands twice in a difference, or is not one of its caller's", c.key)
		}
		seen[c.key] = true
		changes = append(changes, c)
		return nil
	}
	for _, p := range d.Puts {
		c := change{key: p.Key, tombstone: p.Value == nil, source: p.Source}
		if p.Value != nil {
			value, err := isthmusv1.Marshal(p.Value)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", p.Key, err)
			}
			c.value = value
		}
		if err := add(c); err != nil {
			return nil, err
		}
	}
	for _, key := range d.Deletes {
		if err := add(change{key: key, tombstone: true}); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int {
		if a.tombstone != b.tombstone {
			if a.tombstone {
				return 1
			}
			return -1
		}
		return a.key.Compare(b.key)
	})
	return changes, nil
}

// writeJob is one difference on its way into the log.
type writeJob struct {
	writer     *Writer
	difference Difference
	// changes that may still be missing in the log.
	changes []change
	// turn is the one that the job is for.
	turn Turn
	// ids are those of the transactions that were sent; one of them at the tail
	// means that the tail is our own.
	ids map[string]bool
	// refused counts new keys that there is no room for.
	refused int
	// flush: a basis that changed nothing is not put off any further.
	flush bool
}

// run sends transaction after transaction until nothing differs. The plan is
// made anew from the state each time: what is in the log already, by whichever
// answer, is no longer a difference.
func (j *writeJob) run(ctx context.Context) error {
	w := j.writer
	for {
		w.mu.Lock()
		if err := j.held(); err != nil {
			w.mu.Unlock()
			return err
		}
		tx, more, err := j.plan()
		w.mu.Unlock()
		if err != nil || !more {
			return err
		}
		j.ids[tx.id] = true
		if err := w.settleAppend(ctx, tx); err != nil {
			return err
		}
	}
}

// held checks that the stream is still this job's to write. With mu held.
func (j *writeJob) held() error {
	w := j.writer
	if w.turn() != j.turn || w.term == 0 {
		return ErrNotActive
	}
	if t := j.difference.Tail; t != nil && !j.ids[w.state.lastTransaction] &&
		(t.Incarnation != w.state.incarnation || t.Sequence != w.state.last) {
		return errMoved
	}
	return nil
}

// plan makes the next transaction, or says that there is none. With mu held.
func (j *writeJob) plan() (tx outgoing, more bool, err error) {
	w, state := j.writer, j.writer.state
	batch := state.batchSize()
	if j.difference.Basis != nil && len(j.changes) <= plainChanges {
		batch = 1
	}
	left, rest := j.left(batch)
	m := mark{}
	if !rest {
		m = j.lastMark()
	}
	if len(left) == 0 {
		left = j.recordOnly(m)
	}
	if frames := state.keyframes(len(left)); len(frames) > 0 {
		left, m = frames, state.wholeMark()
	} else if m.basis != nil && len(left) > 0 {
		w.basisAt, w.pending = now().Add(w.cfg.BasisInterval), nil
	}
	if len(left) == 0 {
		return outgoing{}, false, nil
	}
	tx, err = state.transaction(w.cfg.Instance, w.term, left, m)
	return tx, true, err
}

// left is the first changes that are not in the log yet, and whether there are
// more of them. With mu held.
func (j *writeJob) left(batch int) (left []change, rest bool) {
	state, size := j.writer.state, 0
	for len(j.changes) > 0 && !state.differs(j.changes[0]) {
		j.changes = j.changes[1:]
	}
	for _, c := range j.changes {
		if !state.differs(c) {
			continue
		}
		if size += len(c.value); len(left) == batch || (len(left) > 0 && size > batchBytes) {
			return left, true
		}
		left = append(left, c)
	}
	return left, false
}

// lastMark is what the difference's last transaction records.
func (j *writeJob) lastMark() mark {
	d := j.difference
	m := mark{heads: sortedHeads(d.SourceHeads), epoch: d.SourceEpoch, complete: d.Complete || d.Basis != nil}
	if j.refused > 0 {
		return mark{}
	}
	if d.Basis != nil {
		m.basis, m.rules = d.Basis, j.writer.cfg.RulesVersion
	}
	return m
}

// recordOnly is the message that carries a mark although no value changed: the
// basis that moved, or the writer's own key once more where there is none. With
// mu held.
func (j *writeJob) recordOnly(m mark) []change {
	w, state := j.writer, j.writer.state
	if m.basis != nil {
		if proto.Equal(m.basis, state.basis) && state.rules == m.rules && state.whole {
			return nil
		}
		if !j.flush && state.whole && state.rules == m.rules && now().Before(w.basisAt) {
			w.pending = m.basis
			w.wake()
			return nil
		}
		value, err := isthmusv1.Marshal(m.basis)
		if err != nil {
			w.log.Error("a basis cannot be marshalled", "err", err)
			return nil
		}
		return []change{{key: isthmusv1.BasisKey(), value: value}}
	}
	if (m.complete && !state.complete) || m.epoch > state.epoch {
		value, _ := state.value(isthmusv1.WriterKey())
		return []change{{key: isthmusv1.WriterKey(), value: value}}
	}
	return nil
}

// flushBasis writes the basis that has waited, when its time has come. A write
// that is under way records its own.
func (w *Writer) flushBasis(ctx context.Context) {
	w.mu.Lock()
	basis, due := w.pending, w.pending != nil && !now().Before(w.basisAt)
	if due {
		w.basisAt = now().Add(w.cfg.BasisInterval)
	}
	w.mu.Unlock()
	if !due || !w.writing.try() {
		return
	}
	defer w.writing.give()
	w.mu.Lock()
	superseded, turn := w.pending != basis, w.turn()
	w.mu.Unlock()
	if superseded {
		return
	}
	job := &writeJob{writer: w, difference: Difference{Basis: basis}, turn: turn, ids: make(map[string]bool), flush: true}
	if err := job.run(ctx); err != nil && ctx.Err() == nil {
		w.log.Warn("a basis was not recorded", "err", err)
	}
}

// end says where the stream is after the job.
func (j *writeJob) end() (*isthmusv1.Position, error) {
	w := j.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil {
		return nil, fmt.Errorf("%s: %w", w.cfg.Stream, ErrNotActive)
	}
	position := w.state.position()
	if j.refused > 0 {
		return position, fmt.Errorf("%s: %d new keys refused, %d are live and the limit is %d messages: %w",
			w.cfg.Stream, j.refused, len(w.state.live), w.state.maxMessages, ErrFull)
	}
	return position, nil
}

// settleAppend appends a transaction. When the answer is lost, or somebody was
// faster, it reads the tail, so that the state is the log's again: only that
// tells whether the transaction is in it. In a stream that was made again nobody
// is active yet.
func (w *Writer) settleAppend(ctx context.Context, tx outgoing) (err error) {
	defer func() {
		if errors.Is(err, ErrReplaced) {
			err = fmt.Errorf("%w: %w", ErrNotActive, err)
		}
	}()
	err = w.append(ctx, tx)
	if err == nil || (!errors.Is(err, ErrWrongSequence) && !errors.Is(err, ErrUnanswered)) {
		return err
	}
	w.log.Debug("reading the tail", "err", err)
	for {
		err := w.readTail(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrNotActive) || errors.Is(err, ErrReplaced) || errors.Is(err, ErrNoStream) {
			return err
		}
		w.log.Warn("the tail cannot be read", "err", err)
		select {
		case <-time.After(writerRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// append stores a transaction and takes it into the state.
func (w *Writer) append(ctx context.Context, tx outgoing) error {
	if _, err := w.cfg.Log.Append(ctx, w.cfg.Stream, tx.after, tx.messages); err != nil {
		return err
	}
	for _, e := range tx.entries {
		if err := w.apply(e); err != nil {
			return err
		}
	}
	return nil
}

// readTail brings the state up to what the stream's leader has now.
func (w *Writer) readTail(ctx context.Context) error {
	w.mu.Lock()
	if w.state == nil {
		w.mu.Unlock()
		return ErrNotActive
	}
	incarnation, last := w.state.incarnation, w.state.last
	w.mu.Unlock()
	state, err := w.cfg.Log.State(ctx, w.cfg.Stream)
	if err == nil && (state.Incarnation != incarnation || state.Last < last) {
		err = ErrReplaced
	}
	if errors.Is(err, ErrReplaced) || errors.Is(err, ErrNoStream) {
		w.mu.Lock()
		w.dropState()
		w.refollow(err)
		w.mu.Unlock()
	}
	if err != nil || state.Last == last {
		return err
	}
	for m, err := range w.cfg.Log.History(ctx, w.cfg.Stream, last+1, state.Last) {
		if err != nil {
			return err
		}
		e, err := readRecord(w.cfg.Stream, m)
		if err != nil {
			return err
		}
		if err := w.apply(e); err != nil {
			return err
		}
	}
	return nil
}

// differs reports whether a change would change the state.
func (s *writerState) differs(c change) bool {
	old, ok := s.value(c.key)
	if c.tombstone {
		return ok
	}
	return !ok || !bytes.Equal(old, c.value)
}

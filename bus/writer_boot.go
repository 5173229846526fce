package bus

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// writerBoot is a writer's bootstrap on its way.
type writerBoot struct {
	start StreamState
	last  uint64
	state fold
}

// deliver takes what [Log.Follow] hands over: a bootstrap, then message after
// message. The state of before stays in use until the bootstrap has ended.
func (w *Writer) deliver(ctx context.Context, boot *writerBoot, d Delivery) error {
	if d.Start != nil {
		*boot = writerBoot{start: *d.Start, state: make(fold)}
		if d.Start.Messages > 0 {
			return nil
		}
		return w.endBoot(ctx, boot, nil)
	}
	if d.Message.Sequence <= boot.last {
		return nil
	}
	e, err := readRecord(w.cfg.Stream, d.Message)
	if err != nil {
		return err
	}
	boot.last = e.sequence
	if boot.state == nil {
		return w.apply(e)
	}
	boot.state.put(e)
	if e.sequence < boot.start.Last {
		return nil
	}
	return w.endBoot(ctx, boot, &e)
}

// apply takes one message of the following, unless it is known already.
func (w *Writer) apply(e entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.applyLocked(e)
}

func (w *Writer) applyLocked(e entry) error {
	if w.state == nil {
		return fmt.Errorf("%s at %d: %w", w.cfg.Stream, e.sequence, ErrReplaced)
	}
	if e.sequence <= w.state.last {
		return nil
	}
	before := w.state.term
	if err := w.state.next(e); err != nil {
		w.dropState()
		return err
	}
	if w.term == 0 {
		w.heard = now()
	}
	if w.state.term != before {
		w.sourceLost = false
		w.tell()
	}
	if w.term != 0 && w.state.term > w.term {
		w.log.Warn("another writer has taken over", "term", w.state.term)
		w.term, w.pending = 0, nil
	}
	return nil
}

// dropState forgets everything: the next bootstrap tells. With mu held.
func (w *Writer) dropState() {
	w.state, w.term, w.pending, w.sourceLost = nil, 0, nil, false
	w.tell()
}

// endBoot makes the state of a bootstrap the writer's, unless what the writer
// knows already reaches further.
func (w *Writer) endBoot(ctx context.Context, boot *writerBoot, last *entry) error {
	state := newWriterState(boot.start)
	entries := make([]entry, 0, len(boot.state))
	for _, e := range boot.state {
		entries = append(entries, e)
	}
	boot.state = nil
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.sequence, b.sequence) })
	if err := w.recall(ctx, state, boot.start, last); err != nil {
		return err
	}
	for _, e := range entries {
		if state.incarnation == "" {
			state.incarnation = e.record.GetEnvelope().GetIncarnation()
		}
		if err := state.put(e); err != nil {
			return err
		}
		// Heads stand in the transaction that saw them, and in no later one.
		state.seeHeads(e.end())
	}
	if end := last.endOrNil(); end.GetStateHash() != nil && (end.GetLiveKeys() != uint64(len(state.live)) || !state.sum.Matches(end.GetStateHash())) {
		return fmt.Errorf("%s at %d: %w", w.cfg.Stream, last.sequence, ErrStateHash)
	}
	state.last = boot.start.Last
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != nil && w.state.incarnation == state.incarnation && w.state.last >= state.last {
		return nil
	}
	if w.term != 0 && (w.state.incarnation != state.incarnation || state.term != w.term) {
		w.term, w.pending = 0, nil
	}
	w.state, w.heard = state, now()
	w.tell()
	return nil
}

func (e *entry) endOrNil() *isthmusv1.TransactionEnd {
	if e == nil {
		return nil
	}
	return e.end()
}

// recall finds the ends that say what is recorded: usually the last message's,
// else by looking further back.
func (w *Writer) recall(ctx context.Context, state *writerState, start StreamState, last *entry) error {
	needBasis := w.class == isthmusv1.ClassRoutes
	enough := func(end *isthmusv1.TransactionEnd) bool {
		return end != nil && (!needBasis || end.GetBasis() != nil)
	}
	if last == nil {
		return nil
	}
	if end := last.end(); enough(end) {
		state.record(end)
		return nil
	}
	var ends []*isthmusv1.TransactionEnd
	for width, to := uint64(64), start.Last; to >= start.First && to > 0; width *= 4 {
		from := max(start.First, to-min(to, width)+1)
		var found []*isthmusv1.TransactionEnd
		for m, err := range w.cfg.Log.History(ctx, w.cfg.Stream, from, to) {
			if err != nil {
				return err
			}
			e, err := readRecord(w.cfg.Stream, m)
			if err != nil {
				return err
			}
			if e.end() != nil {
				found = append(found, e.end())
			}
		}
		ends = append(found, ends...)
		if slices.ContainsFunc(found, enough) {
			break
		}
		to = from - 1
	}
	for _, end := range ends {
		state.record(end)
	}
	// An open transaction at the end leaves the state between two bases.
	state.whole = state.whole && last.end() != nil
	return nil
}

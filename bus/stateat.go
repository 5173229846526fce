package bus

import (
	"context"
	"fmt"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// StateAt is the whole state of a stream at a sequence, as a Reset transaction.
// A transaction that is open at that sequence is left out, so the result's
// Sequence may be lower. Sequence 0 is the empty state, and the state of an
// incomplete first fill is returned as it is.
//
// History is exact from the first retained sequence + W/2, or from the first
// while nothing has been evicted. Possible errors: [ErrNotRetained],
// [ErrNotYet], [ErrNoStream], [ErrIncarnation], [ErrStateHash].
func StateAt(ctx context.Context, log Log, stream string, sequence uint64) (*isthmusv1.Transaction, error) {
	state, err := log.State(ctx, stream)
	if err != nil {
		return nil, err
	}
	if sequence > state.Last {
		return nil, fmt.Errorf("%s at %d: it ends at %d: %w", stream, sequence, state.Last, ErrNotYet)
	}
	if first := state.firstExact(); sequence > 0 && sequence < first {
		return nil, fmt.Errorf("%s at %d: exact from %d: %w", stream, sequence, first, ErrNotRetained)
	}
	incarnation, closed := state.Incarnation, uint64(0)
	var (
		whole = make(fold)
		open  []entry
		end   *isthmusv1.TransactionEnd
	)
	if sequence > 0 {
		for m, err := range log.History(ctx, stream, 0, sequence) {
			if err != nil {
				return nil, err
			}
			e, err := readRecord(stream, m)
			if err != nil {
				return nil, err
			}
			if len(whole) == 0 && len(open) == 0 {
				// More may have left since the state was asked for.
				state.First = max(state.First, e.sequence)
				if first := state.firstExact(); sequence < first {
					return nil, fmt.Errorf("%s at %d: exact from %d: %w", stream, sequence, first, ErrNotRetained)
				}
			}
			if incarnation == "" {
				incarnation = e.record.GetEnvelope().GetIncarnation()
			}
			if got := e.record.GetEnvelope().GetIncarnation(); got != incarnation {
				return nil, fmt.Errorf("%s at %d: incarnation %q, the stream's is %q: %w", stream, e.sequence, got, incarnation, ErrIncarnation)
			}
			open = append(open, e)
			if e.end() == nil {
				continue
			}
			for _, e := range open {
				whole.put(e)
			}
			open, end, closed = open[:0], e.end(), e.sequence
		}
	}
	return whole.reset(stream, incarnation, closed, end)
}

// firstExact is the first sequence at which the whole state is still known.
func (s StreamState) firstExact() uint64 {
	if s.First <= 1 {
		return s.First
	}
	return s.First + uint64(s.MaxMessages)/2
}

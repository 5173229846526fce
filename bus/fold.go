package bus

import (
	"cmp"
	"fmt"
	"slices"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// fold is the last message of each key, tombstones too.
type fold map[isthmusv1.Key]entry

// put takes an entry unless a later one of its key is there.
func (f fold) put(e entry) {
	if old, ok := f[e.key]; !ok || old.sequence < e.sequence {
		f[e.key] = e
	}
}

// reset is the fold as a transaction that says all there is, checked against
// the hash that its end recorded. Possible errors: [ErrStateHash],
// [ErrMalformed].
func (f fold) reset(stream, incarnation string, sequence uint64, end *isthmusv1.TransactionEnd) (*isthmusv1.Transaction, error) {
	live := make([]entry, 0, len(f))
	for _, e := range f {
		if !e.record.GetTombstone() {
			live = append(live, e)
		}
	}
	slices.SortFunc(live, func(a, b entry) int { return cmp.Compare(a.sequence, b.sequence) })
	if err := checkState(stream, sequence, live, end); err != nil {
		return nil, err
	}
	t := &isthmusv1.Transaction{
		Stream: stream, Incarnation: incarnation, Sequence: sequence, Reset: true, End: end,
		Changes: make([]isthmusv1.Change, 0, len(live)),
	}
	for _, e := range live {
		c, err := e.change(stream)
		if err != nil {
			return nil, err
		}
		t.Changes = append(t.Changes, c)
	}
	return t, nil
}

func checkState(stream string, sequence uint64, live []entry, end *isthmusv1.TransactionEnd) error {
	if end.GetStateHash() == nil {
		return nil
	}
	if n := uint64(len(live)); n != end.GetLiveKeys() {
		return fmt.Errorf("%s at %d: %d live keys, %d recorded: %w", stream, sequence, n, end.GetLiveKeys(), ErrStateHash)
	}
	var sum StateSum
	for _, e := range live {
		sum.Add(e.key, e.record.GetValue())
	}
	if !sum.Matches(end.GetStateHash()) {
		return fmt.Errorf("%s at %d: %w", stream, sequence, ErrStateHash)
	}
	return nil
}

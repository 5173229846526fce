package sim

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// checkBasis: the basis names closed transactions, goes back nowhere, and the
// routes are what it resolves to from nothing.
func (a *auditor) checkBasis(s *audited, basis *isthmusv1.Basis) error {
	for _, old := range s.basis.GetPositions() {
		p := basis.At(old.GetStream())
		if p.GetIncarnation() == old.GetIncarnation() && p.GetSequence() < old.GetSequence() {
			return fmt.Errorf("the basis goes back from %s to %s", s.basis.Text(), basis.Text())
		}
	}
	if proto.Equal(basis, s.basis) {
		return nil // A keyframe or a new term repeats it; the state was checked.
	}
	m := resolver.New("dc1")
	for _, p := range basis.GetPositions() {
		state, ok := a.recorded[place{p.GetStream(), p.GetIncarnation(), p.GetSequence()}]
		if !ok {
			return fmt.Errorf("basis %s: no transaction of %s (%s) has closed at %d", basis.Text(), p.GetStream(), p.GetIncarnation(), p.GetSequence())
		}
		m.Apply(reset(p, state))
	}
	want := map[isthmusv1.Key]string{}
	for key, value := range m.All() {
		want[key] = stateOf(value)
	}
	s.basis = basis
	a.result.Bases++
	if err := compare(want, a.routes()); err != nil {
		return fmt.Errorf("the routes are not what %s resolves to: %w", basis.Text(), err)
	}
	return nil
}

// reset is a recorded state as a transaction.
func reset(p *isthmusv1.Position, state map[isthmusv1.Key]isthmusv1.Change) *isthmusv1.Transaction {
	t := &isthmusv1.Transaction{Stream: p.GetStream(), Incarnation: p.GetIncarnation(), Sequence: p.GetSequence(), Reset: true}
	for _, c := range state {
		t.Changes = append(t.Changes, c)
	}
	slices.SortFunc(t.Changes, func(a, b isthmusv1.Change) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return t
}

// routes are the routes' state without what their writer says of itself.
func (a *auditor) routes() map[isthmusv1.Key]string {
	out := a.present("ROUTES_dc1")
	delete(out, isthmusv1.WriterKey())
	delete(out, isthmusv1.BasisKey())
	return out
}

// basis is the recorded one.
func (a *auditor) basis() *isthmusv1.Basis { return a.streams["ROUTES_dc1"].basis }

// checkReadings: a reader held exactly the log's state after each transaction.
func (a *auditor) checkReadings(notes []held) error {
	for _, n := range notes {
		a.result.Readings++
		state, ok := a.recorded[place{n.stream, n.incarnation, n.sequence}]
		if !ok {
			return fmt.Errorf("the reader was given %s at %d, where no transaction has closed", n.stream, n.sequence)
		}
		want := map[isthmusv1.Key]string{}
		for key, c := range state {
			want[key] = string(c.Bytes)
		}
		if err := compare(want, n.state); err != nil {
			return fmt.Errorf("the reader's %s at %d is not the log's: %w", n.stream, n.sequence, err)
		}
	}
	return nil
}

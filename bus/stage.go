package bus

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Stage turns the messages of one stream into whole transactions. It is pure:
// no clock, no goroutine, no I/O.
//
// The first transaction is a Reset with the whole state at the end of the
// bootstrap, and each later one is what was published together. A transaction
// that is open when the bootstrap ends is held back, with its keys' earlier
// values in their place ([Stage.Need]). Nothing is handed out of a catalog or
// routes stream before its first fill is complete. In a status stream every
// message is a transaction of its own.
type Stage struct {
	start       StreamState
	status      bool
	phase       phase
	incarnation string
	last        uint64 // the last message taken
	state       fold   // until the Reset
	open        []entry
	need        *Need
}

// phase is how far a Stage has come.
type phase int

const (
	// bootstrapping: the messages up to the start's Last are coming.
	bootstrapping phase = iota
	// needing: the earlier values of an open transaction's keys are awaited.
	needing
	// filling: the state is not whole before a later transaction's end.
	filling
	// following: the Reset was handed out.
	following
)

// Need names what a [Stage] must be given before it can go on: the values that
// an open transaction's keys had before it.
type Need struct {
	Keys []isthmusv1.Key
	// UpTo is the sequence before the open transaction. 0: there was nothing.
	UpTo uint64
}

// NewStage begins a bootstrap from the state that [Log.Follow] starts with.
func NewStage(start StreamState) *Stage {
	class, _, _ := isthmusv1.ParseStreamName(start.Stream)
	return &Stage{
		start:       start,
		status:      class == isthmusv1.ClassStatus,
		incarnation: start.Incarnation,
		state:       make(fold),
	}
}

// ResumeStage follows on from a position whose state is known, without a
// Reset: for replaying history.
func ResumeStage(position *isthmusv1.Position) *Stage {
	s := NewStage(StreamState{Stream: position.GetStream(), Incarnation: position.GetIncarnation()})
	s.phase, s.last, s.state = following, position.GetSequence(), nil
	return s
}

// CaughtUp reports whether the Reset was handed out.
func (s *Stage) CaughtUp() bool { return s.phase == following }

// Last is the sequence of the last message taken.
func (s *Stage) Last() uint64 { return s.last }

// Need is what the stage waits for, or nil. Answer with [Stage.Fill] or
// [Stage.Wait] before the next Add.
func (s *Stage) Need() *Need {
	if s.need == nil {
		return nil
	}
	return &Need{Keys: slices.Clone(s.need.Keys), UpTo: s.need.UpTo}
}

// Begin ends the bootstrap of a stream that holds nothing. Call it once before
// the first Add.
func (s *Stage) Begin() (*isthmusv1.Transaction, error) {
	if s.phase != bootstrapping || s.start.Messages > 0 {
		return nil, nil
	}
	s.last = s.start.Last
	return s.settle(s.last, nil)
}

// Add takes the next message and returns the transaction that it closes, or
// nil. A sequence that was taken already is ignored.
//
// Possible errors, each of which ends the stage: [ErrGap], [ErrIncarnation],
// [ErrStateHash], [ErrMalformed].
func (s *Stage) Add(m Message) (*isthmusv1.Transaction, error) {
	if m.Sequence <= s.last {
		return nil, nil
	}
	e, err := readRecord(s.start.Stream, m)
	if err != nil {
		return nil, err
	}
	if err := s.check(e); err != nil {
		return nil, err
	}
	s.last = e.sequence
	switch s.phase {
	case bootstrapping:
		s.state.put(e)
		if e.sequence < s.start.Last {
			return nil, nil
		}
		return s.endBootstrap(e)
	case filling:
		s.state.put(e)
		if e.end() == nil && !s.status {
			return nil, nil
		}
		return s.settle(e.sequence, e.end())
	default:
		s.open = append(s.open, e)
		if e.end() == nil && !s.status {
			return nil, nil
		}
		return s.close(e)
	}
}

// check holds an entry against what must be so of every message.
func (s *Stage) check(e entry) error {
	if s.status {
		return nil
	}
	s.incarnation = cmp.Or(s.incarnation, e.record.GetEnvelope().GetIncarnation())
	if got := e.record.GetEnvelope().GetIncarnation(); got != s.incarnation {
		return fmt.Errorf("%s at %d: incarnation %q, the stream's is %q: %w", s.start.Stream, e.sequence, got, s.incarnation, ErrIncarnation)
	}
	if s.phase != bootstrapping && e.sequence != s.last+1 {
		return fmt.Errorf("%s at %d: came after %d: %w", s.start.Stream, e.sequence, s.last, ErrGap)
	}
	if s.phase == bootstrapping && e.sequence > s.start.Last {
		return fmt.Errorf("%s at %d: the bootstrap's last message, %d, did not come: %w", s.start.Stream, e.sequence, s.start.Last, ErrGap)
	}
	return nil
}

// endBootstrap settles the state, unless message S, the last one, has no last
// mark: then its transaction is open across S.
func (s *Stage) endBootstrap(last entry) (*isthmusv1.Transaction, error) {
	if last.end() != nil || s.status {
		return s.settle(last.sequence, last.end())
	}
	need := &Need{UpTo: last.firstSequence() - 1}
	for key, e := range s.state {
		if e.sequence > need.UpTo {
			s.open = append(s.open, e)
			need.Keys = append(need.Keys, key)
		}
	}
	slices.SortFunc(s.open, func(a, b entry) int { return cmp.Compare(a.sequence, b.sequence) })
	isthmusv1.SortKeys(need.Keys)
	s.phase, s.need = needing, need
	return nil, nil
}

// Fill answers a [Need] with the keys' last messages up to its sequence, and
// with the message at that very sequence, which closed the transaction before.
// Both are empty when UpTo is 0.
func (s *Stage) Fill(earlier []Message, closed *Message) (*isthmusv1.Transaction, error) {
	upTo, before := s.need.UpTo, maps.Clone(s.state)
	for _, key := range s.need.Keys {
		delete(before, key)
	}
	for _, m := range earlier {
		e, err := readRecord(s.start.Stream, m)
		if err != nil {
			return nil, err
		}
		before.put(e)
	}
	var end *isthmusv1.TransactionEnd
	if closed != nil {
		e, err := readRecord(s.start.Stream, *closed)
		if err != nil {
			return nil, err
		}
		end = e.end()
	}
	whole := s.state
	s.state, s.need = before, nil
	t, err := s.settle(upTo, end)
	if err != nil || t != nil {
		return t, err
	}
	// Not complete before the open transaction: it belongs to the first fill.
	s.state, s.open = whole, nil
	return nil, nil
}

// Wait answers a [Need] that cannot be met, since the earlier values have left
// the log: the state is handed out when the open transaction has closed.
func (s *Stage) Wait() {
	s.phase, s.need, s.open = filling, nil, nil
}

// settle hands out the state at the end of a transaction, if it is whole.
func (s *Stage) settle(sequence uint64, end *isthmusv1.TransactionEnd) (*isthmusv1.Transaction, error) {
	if !end.GetComplete() && !s.status {
		s.phase = filling
		return nil, nil
	}
	t, err := s.state.reset(s.start.Stream, s.incarnation, sequence, end)
	if err != nil {
		return nil, err
	}
	s.phase, s.state = following, nil
	return t, nil
}

// close makes a transaction of all that is open. What a writer left open when
// the stream was given to another (a promoted mirror) is closed with the next
// transaction, so a key may stand there twice: the later one counts.
func (s *Stage) close(last entry) (*isthmusv1.Transaction, error) {
	latest := make(map[isthmusv1.Key]uint64, len(s.open))
	for _, e := range s.open {
		latest[e.key] = e.sequence
	}
	t := &isthmusv1.Transaction{Stream: s.start.Stream, Incarnation: s.incarnation, Sequence: last.sequence, End: last.end()}
	for _, e := range s.open {
		if latest[e.key] != e.sequence {
			continue
		}
		c, err := e.change(s.start.Stream)
		if err != nil {
			return nil, err
		}
		t.Changes = append(t.Changes, c)
	}
	s.open = nil
	return t, nil
}

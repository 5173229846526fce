package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// auditor reads every message of every stream and holds it against the
// promises. It shares no code with what reads streams in the product.
type auditor struct {
	log     *memlog.Log
	truths  map[string]*truth
	streams map[string]*audited
	// recorded holds, by position, every state at the end of a transaction.
	recorded map[place]map[isthmusv1.Key]isthmusv1.Change
	result   Result
}

// place is a position as a comparable value.
type place struct {
	stream, incarnation string
	sequence            uint64
}

// audited is what is known of one stream.
type audited struct {
	name, incarnation string
	// last message read, and the last that closed a transaction.
	last, closed uint64
	term         uint64
	state        map[isthmusv1.Key]isthmusv1.Change
	open         []message
	complete     bool
	basis        *isthmusv1.Basis
	// told is how far of each key's history in its source was told.
	told map[isthmusv1.Key]int
}

// message is one message, read.
type message struct {
	key      isthmusv1.Key
	sequence uint64
	record   *isthmusv1.Record
}

func newAuditor(log *memlog.Log, truths map[string]*truth) *auditor {
	a := &auditor{log: log, truths: truths, streams: map[string]*audited{}, recorded: map[place]map[isthmusv1.Key]isthmusv1.Change{}}
	for _, name := range streams {
		a.streams[name] = &audited{name: name, told: map[isthmusv1.Key]int{}}
	}
	return a
}

// readAll reads what is new in all streams: catalogs first, so that a basis is
// known before the routes that record it.
func (a *auditor) readAll(ctx context.Context) error {
	for _, name := range streams {
		if err := a.read(ctx, a.streams[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (a *auditor) read(ctx context.Context, s *audited) error {
	state, err := a.log.State(ctx, s.name)
	if errors.Is(err, bus.ErrNoStream) {
		return nil
	}
	if err != nil {
		return err
	}
	if state.Incarnation != s.incarnation {
		s.restart(state.Incarnation)
	}
	if state.Last <= s.last {
		return nil
	}
	for m, err := range a.log.History(ctx, s.name, s.last+1, state.Last) {
		if err != nil {
			return err
		}
		record := new(isthmusv1.Record)
		if err := proto.Unmarshal(m.Record, record); err != nil {
			return err
		}
		if err := a.take(s, message{m.Key, m.Sequence, record}); err != nil {
			return fmt.Errorf("at %d, %s: %w", m.Sequence, m.Key, err)
		}
	}
	return nil
}

// restart begins a new incarnation. What was told last may be told again. What
// was recorded is gone with the stream: a resolver whose view is late cannot know
// that another had seen more, so the basis of the first fill is held against
// nothing.
func (s *audited) restart(incarnation string) {
	for key, n := range s.told {
		s.told[key] = max(n-1, 0)
	}
	*s = audited{name: s.name, incarnation: incarnation, state: map[isthmusv1.Key]isthmusv1.Change{}, told: s.told}
}

// take checks one message, and the transaction that it closes.
func (a *auditor) take(s *audited, m message) error {
	envelope := m.record.GetEnvelope()
	if err := s.checkEnvelope(m); err != nil {
		return err
	}
	s.last = m.sequence
	s.open = append(s.open, m)
	end := envelope.GetEnd()
	if end == nil {
		return nil
	}
	if n := int(end.GetMessages()); n != len(s.open) {
		return fmt.Errorf("the transaction says that it has %d messages, and has %d", n, len(s.open))
	}
	seen := map[isthmusv1.Key]bool{}
	for _, m := range s.open {
		if seen[m.key] {
			return fmt.Errorf("%s stands twice in a transaction", m.key)
		}
		seen[m.key] = true
		if err := a.apply(s, m); err != nil {
			return fmt.Errorf("%s: %w", m.key, err)
		}
	}
	s.open = nil
	return a.close(s, m.sequence, end)
}

// checkEnvelope: marks count up, one transaction at a time, terms only rise.
func (s *audited) checkEnvelope(m message) error {
	envelope := m.record.GetEnvelope()
	switch {
	case envelope.GetIncarnation() != s.incarnation:
		return fmt.Errorf("incarnation %s in a stream of %s", envelope.GetIncarnation(), s.incarnation)
	case int(envelope.GetPosition()) != len(s.open)+1:
		return fmt.Errorf("is number %d of its transaction, and stands as number %d", envelope.GetPosition(), len(s.open)+1)
	case len(s.open) > 0 && s.open[0].record.GetEnvelope().GetTransaction() != envelope.GetTransaction():
		return errors.New("another transaction stands inside one")
	}
	if m.key == isthmusv1.WriterKey() && envelope.GetTerm() == s.term+1 {
		writer := new(isthmusv1.Writer)
		if err := proto.Unmarshal(m.record.GetValue(), writer); err != nil {
			return err
		}
		s.term = writer.GetTerm()
	}
	if envelope.GetTerm() != s.term {
		return fmt.Errorf("written in term %d, the stream's is %d", envelope.GetTerm(), s.term)
	}
	return nil
}

// apply takes a message into the state, if it may stand there.
func (a *auditor) apply(s *audited, m message) error {
	envelope, old := m.record.GetEnvelope(), s.state[m.key]
	change := isthmusv1.Change{
		Key: m.key, Sequence: m.sequence, Source: envelope.GetSource(), Tombstone: m.record.GetTombstone(),
		Origin: isthmusv1.Cause{Incarnation: s.incarnation, Sequence: m.sequence},
	}
	own := m.key.Kind == isthmusv1.KindWriter || m.key.Kind == isthmusv1.KindBasis
	_, had := s.state[m.key]
	same := had != change.Tombstone && (change.Tombstone || string(old.Bytes) == string(m.record.GetValue()))
	if o := envelope.GetOrigin(); o != nil {
		change.Origin = isthmusv1.Cause{Incarnation: o.GetIncarnation(), Sequence: o.GetSequence()}
		if !same || change.Tombstone || old.Origin != change.Origin {
			return fmt.Errorf("a keyframe of %v repeats what is not there", change.Origin)
		}
	} else if !own {
		if same {
			return errors.New("says what stands there already")
		}
		if err := a.told(s, m); err != nil {
			return err
		}
	}
	if change.Tombstone {
		delete(s.state, m.key)
		return nil
	}
	change.Bytes = m.record.GetValue()
	change.Value = isthmusv1.NewValue(m.key.Kind)
	if err := proto.Unmarshal(change.Bytes, change.Value); err != nil {
		return err
	}
	s.state[m.key] = change
	return nil
}

// told: what a catalog says was so in its source, later than what it said
// before.
func (a *auditor) told(s *audited, m message) error {
	class, dc, _ := isthmusv1.ParseStreamName(s.name)
	if class != isthmusv1.ClassCatalog {
		return nil
	}
	a.result.Events++
	state := string(m.record.GetValue())
	if m.record.GetTombstone() {
		state = absent
	}
	history := a.truths[dc].history[m.key]
	from := s.told[m.key]
	i := slices.Index(history[min(from, len(history)):], state)
	if i < 0 {
		return fmt.Errorf("says %s, which was not so since state %d of %d", show(m.key, state), from, len(history))
	}
	s.told[m.key] = from + i + 1
	return nil
}

// close checks the end of a transaction and records the state.
func (a *auditor) close(s *audited, sequence uint64, end *isthmusv1.TransactionEnd) error {
	a.result.Transactions++
	var sum bus.StateSum
	for key, c := range s.state {
		sum.Add(key, c.Bytes)
	}
	if !sum.Matches(end.GetStateHash()) || end.GetLiveKeys() != uint64(len(s.state)) {
		return fmt.Errorf("%d live keys are recorded, there are %d; or the state hash is wrong", end.GetLiveKeys(), len(s.state))
	}
	s.closed, s.complete = sequence, s.complete || end.GetComplete()
	a.recorded[place{s.name, s.incarnation, sequence}] = maps.Clone(s.state)
	if end.GetBasis() == nil {
		return nil
	}
	return a.checkBasis(s, end.GetBasis())
}

// present is a stream's state at its last closed transaction.
func (a *auditor) present(stream string) map[isthmusv1.Key]string {
	out := map[isthmusv1.Key]string{}
	for key, c := range a.streams[stream].state {
		out[key] = string(c.Bytes)
	}
	return out
}

// show is a value for people.
func show(key isthmusv1.Key, state string) string {
	if state == absent {
		return "absent"
	}
	m := isthmusv1.NewValue(key.Kind)
	if m == nil || proto.Unmarshal([]byte(state), m) != nil {
		return fmt.Sprintf("%q", state)
	}
	return protojson.Format(m)
}

package bus

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// change is one key's new state on its way into the log.
type change struct {
	key       isthmusv1.Key
	value     []byte
	tombstone bool
	source    *isthmusv1.Source
	// origin is set in keyframes.
	origin *isthmusv1.Origin
}

// mark is what the last message of a transaction says beside what follows from
// the state.
type mark struct {
	basis    *isthmusv1.Basis
	rules    uint32
	heads    []*isthmusv1.SourceHead
	epoch    uint64
	complete bool
}

// outgoing is a transaction that was made for one place in the log.
type outgoing struct {
	id       string
	after    uint64
	messages []Message
	entries  []entry
}

// transaction makes the envelope of changes that follow the state's last
// message. The id is unique in the stream: no other writer has the instance,
// and of this one's transactions after the same message at most one is stored.
func (s *writerState) transaction(instance string, term uint64, changes []change, m mark) (outgoing, error) {
	out := outgoing{id: fmt.Sprintf("%s-%d-%d", instance, term, s.last+1), after: s.last}
	sum, live := s.sum, len(s.live)
	for _, c := range changes {
		if old, ok := s.value(c.key); ok {
			sum.Remove(c.key, old)
			live--
		}
		if !c.tombstone {
			sum.Add(c.key, c.value)
			live++
		}
	}
	at := timestamppb.New(now())
	for i, c := range changes {
		envelope := &isthmusv1.Envelope{
			Incarnation: s.incarnation, Term: term, Transaction: out.id, Position: uint32(i + 1),
			Time: at, Origin: c.origin, Source: c.source,
		}
		if i == len(changes)-1 {
			envelope.End = &isthmusv1.TransactionEnd{
				Basis: m.basis, RulesVersion: m.rules, SourceHeads: m.heads,
				SourceEpoch: max(m.epoch, s.epoch), Complete: m.complete || s.complete,
				LiveKeys: uint64(live), StateHash: sum.Hash(), Messages: uint32(len(changes)),
			}
		}
		e := entry{key: c.key, sequence: s.last + uint64(i) + 1, record: &isthmusv1.Record{
			Envelope: envelope, Value: c.value, Tombstone: c.tombstone,
		}}
		record, err := isthmusv1.Marshal(e.record)
		if err != nil {
			return outgoing{}, fmt.Errorf("%s: %s: %w", s.stream, c.key, err)
		}
		out.entries = append(out.entries, e)
		out.messages = append(out.messages, Message{Key: c.key, Record: record})
	}
	return out, nil
}

// wholeMark repeats the recorded basis in a transaction that changes no value
// of it (a keyframe, a new term), if the state is what that basis gives.
func (s *writerState) wholeMark() mark {
	if !s.whole {
		return mark{}
	}
	return mark{basis: s.basis, rules: s.rules}
}

// randomID is sixteen random hexadecimal digits.
func randomID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // Never fails: crypto/rand ends the process instead.
	return hex.EncodeToString(b[:])
}

package bus

import (
	"cmp"
	"container/list"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// writerState is the state of a stream up to its last message, kept by every
// writer of it. Unlike a reader's it moves message by message, since a fence
// needs the very end.
type writerState struct {
	stream      string
	incarnation string
	last        uint64
	maxMessages int64

	live map[isthmusv1.Key]*list.Element // of liveKey
	// oldest holds the live keys by the sequence of their last message.
	oldest list.List
	sum    StateSum

	term            uint64
	lastTransaction string

	// What the ends recorded.
	basis    *isthmusv1.Basis
	rules    uint32
	whole    bool
	complete bool
	epoch    uint64
	heads    map[headKey]uint64
}

// headKey is one query of the source in one epoch.
type headKey struct {
	epoch uint64
	query string
}

// liveKey is a key with a value.
type liveKey struct {
	key      isthmusv1.Key
	value    []byte
	sequence uint64
	origin   *isthmusv1.Origin
	source   *isthmusv1.Source
}

func newWriterState(start StreamState) *writerState {
	return &writerState{
		stream:      start.Stream,
		incarnation: start.Incarnation,
		maxMessages: start.MaxMessages,
		live:        make(map[isthmusv1.Key]*list.Element),
		heads:       make(map[headKey]uint64),
	}
}

// next takes the message after the last one. Possible errors: [ErrGap],
// [ErrIncarnation], [ErrStateHash], [ErrMalformed].
func (s *writerState) next(e entry) error {
	if e.sequence != s.last+1 {
		return fmt.Errorf("%s at %d: came after %d: %w", s.stream, e.sequence, s.last, ErrGap)
	}
	if err := s.put(e); err != nil {
		return err
	}
	end := e.end()
	if end == nil {
		return nil
	}
	s.record(end)
	if end.GetStateHash() != nil && (end.GetLiveKeys() != uint64(len(s.live)) || !s.sum.Matches(end.GetStateHash())) {
		return fmt.Errorf("%s at %d: %d live keys: %w", s.stream, e.sequence, len(s.live), ErrStateHash)
	}
	return nil
}

// put takes one message's key, whatever its transaction.
func (s *writerState) put(e entry) error {
	envelope := e.record.GetEnvelope()
	if envelope.GetIncarnation() != s.incarnation {
		return fmt.Errorf("%s at %d: incarnation %q, the stream's is %q: %w", s.stream, e.sequence, envelope.GetIncarnation(), s.incarnation, ErrIncarnation)
	}
	if e.key == isthmusv1.WriterKey() {
		writer := new(isthmusv1.Writer)
		if err := proto.Unmarshal(e.record.GetValue(), writer); err != nil {
			return fmt.Errorf("%s at %d: %s: %w: %w", s.stream, e.sequence, e.key, ErrMalformed, err)
		}
		s.term = max(s.term, writer.GetTerm())
	}
	s.last, s.lastTransaction = e.sequence, envelope.GetTransaction()
	if source := envelope.GetSource(); source.GetQuery() != "" {
		s.see(source.GetEpoch(), source.GetQuery(), source.GetIndexAt())
	}
	if old, ok := s.live[e.key]; ok {
		s.sum.Remove(e.key, old.Value.(liveKey).value)
		s.oldest.Remove(old)
		delete(s.live, e.key)
	}
	if e.record.GetTombstone() {
		return nil
	}
	value := e.record.GetValue()
	s.sum.Add(e.key, value)
	s.live[e.key] = s.oldest.PushBack(liveKey{
		key: e.key, value: value, sequence: e.sequence,
		origin: envelope.GetOrigin(), source: envelope.GetSource(),
	})
	return nil
}

// record takes what a transaction's end says.
func (s *writerState) record(end *isthmusv1.TransactionEnd) {
	s.whole = end.GetBasis() != nil
	if s.whole {
		s.basis, s.rules = end.GetBasis(), end.GetRulesVersion()
	}
	s.complete = end.GetComplete()
	if end.GetSourceEpoch() > s.epoch {
		s.epoch = end.GetSourceEpoch()
		maps.DeleteFunc(s.heads, func(k headKey, _ uint64) bool { return k.epoch < s.epoch })
	}
	s.seeHeads(end)
}

// seeHeads takes the source's indexes out of an end, which may be an old one.
func (s *writerState) seeHeads(end *isthmusv1.TransactionEnd) {
	for _, head := range end.GetSourceHeads() {
		s.see(end.GetSourceEpoch(), head.GetQuery(), head.GetIndex())
	}
}

func (s *writerState) see(epoch uint64, query string, index uint64) {
	if epoch >= s.epoch {
		k := headKey{epoch, query}
		s.heads[k] = max(s.heads[k], index)
	}
}

// head is the recorded index of a query of the source, in its present epoch.
func (s *writerState) head(query string) uint64 { return s.heads[headKey{s.epoch, query}] }

// value is a live key's bytes.
func (s *writerState) value(key isthmusv1.Key) ([]byte, bool) {
	e, ok := s.live[key]
	if !ok {
		return nil, false
	}
	return e.Value.(liveKey).value, true
}

func (s *writerState) position() *isthmusv1.Position {
	return &isthmusv1.Position{Stream: s.stream, Incarnation: s.incarnation, Sequence: s.last}
}

func (s *writerState) snapshot() Snapshot {
	out := Snapshot{
		Position: s.position(), Values: make(map[isthmusv1.Key][]byte, len(s.live)),
		Basis: s.basis, RulesVersion: s.rules, Whole: s.whole, Complete: s.complete, SourceEpoch: s.epoch,
	}
	for key, e := range s.live {
		out.Values[key] = e.Value.(liveKey).value
	}
	for k, index := range s.heads {
		if k.epoch == s.epoch {
			out.SourceHeads = append(out.SourceHeads, &isthmusv1.SourceHead{Query: k.query, Index: index})
		}
	}
	slices.SortFunc(out.SourceHeads, func(a, b *isthmusv1.SourceHead) int { return cmp.Compare(a.GetQuery(), b.GetQuery()) })
	return out
}

package bus

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// entry is a message with its record read.
type entry struct {
	key      isthmusv1.Key
	sequence uint64
	record   *isthmusv1.Record
}

// readRecord reads a message's record. Possible error: [ErrMalformed].
func readRecord(stream string, m Message) (entry, error) {
	record := new(isthmusv1.Record)
	if err := proto.Unmarshal(m.Record, record); err != nil {
		return entry{}, fmt.Errorf("%s at %d: key %s: %w: %w", stream, m.Sequence, m.Key, ErrMalformed, err)
	}
	if p := uint64(record.GetEnvelope().GetPosition()); p > m.Sequence {
		return entry{}, fmt.Errorf("%s at %d: key %s: %w: position %d in its transaction, more than there are messages",
			stream, m.Sequence, m.Key, ErrMalformed, p)
	}
	return entry{key: m.Key, sequence: m.Sequence, record: record}, nil
}

// change is the entry as a machine receives it. Possible error: [ErrMalformed].
func (e entry) change(stream string) (isthmusv1.Change, error) {
	envelope := e.record.GetEnvelope()
	c := isthmusv1.Change{
		Key:       e.key,
		Tombstone: e.record.GetTombstone(),
		Sequence:  e.sequence,
		Origin:    isthmusv1.Cause{Incarnation: envelope.GetIncarnation(), Sequence: e.sequence},
		Time:      envelope.GetTime().AsTime(),
		Source:    envelope.GetSource(),
	}
	if o := envelope.GetOrigin(); o != nil {
		c.Origin = isthmusv1.Cause{Incarnation: o.GetIncarnation(), Sequence: o.GetSequence()}
	}
	if c.Tombstone {
		return c, nil
	}
	c.Bytes = e.record.GetValue()
	if c.Bytes == nil {
		c.Bytes = []byte{}
	}
	if value := isthmusv1.NewValue(e.key.Kind); value != nil {
		if err := proto.Unmarshal(c.Bytes, value); err != nil {
			return isthmusv1.Change{}, fmt.Errorf("%s at %d: value of %s: %w: %w", stream, e.sequence, e.key, ErrMalformed, err)
		}
		c.Value = value
	}
	return c, nil
}

// firstSequence is the sequence of the first message of the entry's transaction.
func (e entry) firstSequence() uint64 {
	return e.sequence - uint64(max(e.record.GetEnvelope().GetPosition(), 1)) + 1
}

// end is the entry's last mark, or nil.
func (e entry) end() *isthmusv1.TransactionEnd { return e.record.GetEnvelope().GetEnd() }

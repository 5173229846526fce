package isthmusv1

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
)

// Marshal marshals a value deterministically: equal values give equal bytes.
// Golden bytes guard it across library versions.
func Marshal(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// StreamName is the name of a datacenter's stream of a class, like CATALOG_dc1.
func StreamName(class Class, datacenter string) string {
	return strings.ToUpper(string(class)) + "_" + strings.ToLower(datacenter)
}

// ParseStreamName is the inverse of [StreamName].
func ParseStreamName(stream string) (class Class, datacenter string, ok bool) {
	prefix, datacenter, ok := strings.Cut(stream, "_")
	if !ok || datacenter == "" {
		return "", "", false
	}
	switch class = Class(strings.ToLower(prefix)); class {
	case ClassCatalog, ClassRoutes, ClassStatus:
		return class, datacenter, true
	}
	return "", "", false
}

// Transaction is what a machine applies: all changes that were published
// together, or, with Reset, a stream's whole state.
//
// A transaction and everything in it is shared and must not be written to.
type Transaction struct {
	// Stream is the stream's name, like CATALOG_dc1.
	Stream string
	// Incarnation is the stream's.
	Incarnation string
	// Sequence is that of the last message: the stream's position afterwards.
	Sequence uint64
	// Reset: what was held of this stream is void; Changes is all there is, and
	// has no tombstones.
	Reset bool
	// Changes in the order of their sequences; a key stands at most once.
	Changes []Change
	// End is what the last message said. Nil in a Reset, unless the last message
	// of the state closed a transaction.
	End *TransactionEnd
}

// Change is the new state of one key, or its end.
type Change struct {
	Key Key
	// Value is nil in a tombstone, and for a kind that this version does not know.
	Value proto.Message
	// Bytes is the value as published; nil in a tombstone.
	Bytes []byte
	// Tombstone: the key is gone.
	Tombstone bool
	// Sequence is the message's own.
	Sequence uint64
	// Origin is the message that first said this: itself, unless a keyframe.
	Origin Cause
	// Time and Source are for people. Source may be nil.
	Time   time.Time
	Source *Source
}

// Cause is an [Origin] as a comparable value: the message that said a thing first.
type Cause struct {
	Incarnation string
	Sequence    uint64
}

// Position returns the transaction's place in its stream.
func (t *Transaction) Position() *Position {
	return &Position{Stream: t.Stream, Incarnation: t.Incarnation, Sequence: t.Sequence}
}

// At returns the basis's position in a stream, or nil.
func (b *Basis) At(stream string) *Position {
	i, ok := slices.BinarySearchFunc(b.GetPositions(), stream, func(p *Position, s string) int {
		return cmp.Compare(p.GetStream(), s)
	})
	if !ok {
		return nil
	}
	return b.GetPositions()[i]
}

// With returns a copy of the basis with the position set or replaced.
func (b *Basis) With(position *Position) *Basis {
	out := &Basis{Positions: slices.Clone(b.GetPositions())}
	i, ok := slices.BinarySearchFunc(out.Positions, position.GetStream(), func(p *Position, s string) int {
		return cmp.Compare(p.GetStream(), s)
	})
	if ok {
		out.Positions[i] = position
	} else {
		out.Positions = slices.Insert(out.Positions, i, position)
	}
	return out
}

// Text shows the basis for people: CATALOG_dc1@12 CATALOG_dc2@7.
func (b *Basis) Text() string {
	parts := make([]string, 0, len(b.GetPositions()))
	for _, p := range b.GetPositions() {
		parts = append(parts, p.GetStream()+"@"+strconv.FormatUint(p.GetSequence(), 10))
	}
	return strings.Join(parts, " ")
}

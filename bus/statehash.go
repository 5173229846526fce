package bus

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// StateHashAlgorithm is the tag of the hash that [StateSum] computes: the sum
// modulo 2^256 of the SHA-256 of every live key and value.
const StateHashAlgorithm = "sum-sha256-1"

// StateSum is the hash of a set of keys and values. It does not depend on
// order, and adding and removing cost the one key, whatever the size of the
// set. The zero value is the empty set's.
type StateSum struct {
	words [4]uint64 // least significant first
}

// Add puts a key with its value into the set.
func (s *StateSum) Add(key isthmusv1.Key, value []byte) {
	var carry uint64
	for i, w := range digest(key, value) {
		s.words[i], carry = bits.Add64(s.words[i], w, carry)
	}
}

// Remove takes out what was added.
func (s *StateSum) Remove(key isthmusv1.Key, value []byte) {
	var borrow uint64
	for i, w := range digest(key, value) {
		s.words[i], borrow = bits.Sub64(s.words[i], w, borrow)
	}
}

// Hash is the sum with its tag, most significant byte first.
func (s *StateSum) Hash() *isthmusv1.StateHash {
	sum := make([]byte, 0, 32)
	for i := 3; i >= 0; i-- {
		sum = binary.BigEndian.AppendUint64(sum, s.words[i])
	}
	return &isthmusv1.StateHash{Algorithm: StateHashAlgorithm, Sum: sum}
}

// Matches reports whether a recorded hash is this one. A hash of another
// algorithm cannot be judged and matches.
func (s *StateSum) Matches(recorded *isthmusv1.StateHash) bool {
	if recorded.GetAlgorithm() != StateHashAlgorithm {
		return true
	}
	return string(recorded.GetSum()) == string(s.Hash().GetSum())
}

// digest hashes a key and its value. The key stands as in its subject, with its
// length before it, so that no two pairs give the same input.
func digest(key isthmusv1.Key, value []byte) [4]uint64 {
	var b strings.Builder
	writeToken(&b, string(key.Kind))
	for _, part := range key.Parts() {
		b.WriteByte('.')
		writeToken(&b, part)
	}
	h := sha256.New()
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(b.Len()))
	h.Write(length[:])
	h.Write([]byte(b.String()))
	h.Write(value)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	var words [4]uint64
	for i := range words {
		words[i] = binary.BigEndian.Uint64(sum[24-8*i:])
	}
	return words
}

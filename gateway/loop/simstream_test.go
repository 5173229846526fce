//go:build linux

package loop

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

// stream is what one side says: a head, then bytes of the pattern. Any of them is
// known by its place, so nobody has to keep them.
type stream struct {
	head []byte
	// skip is how much of the head, a PROXY header, is not passed on.
	skip        int
	start, size int
}

// period is prime, so that what is lost or doubled shows.
const period = 92821

var pattern = func() []byte {
	b := make([]byte, 2*period)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range period {
		b[i] = byte(random.Uint32())
		b[i+period] = b[i]
	}
	return b
}()

// run is the bytes from a place on, as many as are in one piece.
func (s *stream) run(at, most int) []byte {
	if at < len(s.head) {
		return s.head[at:min(len(s.head), at+most)]
	}
	place := (s.start + at) % period
	return pattern[place:min(place+most, len(pattern))]
}

func (s *stream) fill(at int, b []byte) {
	for len(b) > 0 {
		n := copy(b, s.run(at, len(b)))
		at, b = at+n, b[n:]
	}
}

func (s *stream) equal(at int, b []byte) bool {
	if at+len(b) > s.size {
		return false
	}
	for len(b) > 0 {
		run := s.run(at, len(b))
		if !bytes.Equal(run, b[:len(run)]) {
			return false
		}
		at, b = at+len(run), b[len(run):]
	}
	return true
}

// nameless asks for a hello without a name.
const nameless = ""

// markAt is where a hello says which client it is of: in its random bytes.
const markAt = 5 + 4 + 2

// helloOf is a ClientHello for a name, padded to some length.
func helloOf(mark uint32, name string, padding int) []byte {
	b := []byte{22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3}
	b = binary.BigEndian.AppendUint32(b, mark)
	b = append(b, make([]byte, 28+1)...)
	b = append(b, 0, 2, 0x13, 0x01, 1, 0)
	extensions := []byte{}
	if name != nameless {
		n := len(name)
		extensions = append(extensions, 0, 0, 0, byte(n+5), 0, byte(n+3), 0, 0, byte(n))
		extensions = append(extensions, name...)
	}
	extensions = binary.BigEndian.AppendUint16(append(extensions, 0, 21), uint16(padding))
	extensions = append(extensions, make([]byte, padding)...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(extensions)))
	b = append(b, extensions...)
	binary.BigEndian.PutUint16(b[3:], uint16(len(b)-5))
	binary.BigEndian.PutUint16(b[7:], uint16(len(b)-9))
	return b
}

package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
)

// patternLength is a prime, so that no buffer's size divides it: bytes that were
// left out, doubled or swapped do not look like those that should be there.
const patternLength = 1_000_003

var patternBytes = sync.OnceValue(func() []byte {
	b := make([]byte, patternLength)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
})

// chunk is the most that is written or read at once.
const chunk = 64 << 10

// pattern is an endless stream of bytes, another for each seed.
type pattern struct{ at int }

func newPattern(seed uint64) *pattern {
	return &pattern{int((seed*2_654_435_761 + 12_345) % patternLength)}
}

// peek is the next bytes, at most n.
func (p *pattern) peek(n int) []byte {
	return patternBytes()[p.at:min(p.at+n, patternLength)]
}

func (p *pattern) skip(n int) { p.at = (p.at + n) % patternLength }

// sendTo writes the next n bytes.
func (p *pattern) sendTo(w io.Writer, n int) error {
	for n > 0 {
		b := p.peek(min(n, chunk))
		if _, err := w.Write(b); err != nil {
			return err
		}
		p.skip(len(b))
		n -= len(b)
	}
	return nil
}

// errOther indicates a byte that is not the pattern's.
var errOther = errors.New("other bytes than were sent")

// check compares bytes that were read with the next ones.
func (p *pattern) check(b []byte) error {
	for len(b) > 0 {
		want := p.peek(len(b))
		if !bytes.Equal(b[:len(want)], want) {
			return errOther
		}
		p.skip(len(want))
		b = b[len(want):]
	}
	return nil
}

// readFrom reads to the end, and returns how many bytes of the pattern came.
func (p *pattern) readFrom(r io.Reader) (int, error) {
	n, buffer := 0, make([]byte, chunk)
	for {
		read, err := r.Read(buffer)
		if other := p.check(buffer[:read]); other != nil {
			return n, other
		}
		n += read
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// rest reads to the end, and says in words whether n bytes of the pattern came,
// and how it ended.
func (p *pattern) rest(c net.Conn, n int) string {
	got, err := p.readFrom(c)
	switch {
	case isReset(err):
		return "reset"
	case err != nil:
		return err.Error()
	case got != n:
		return fmt.Sprintf("%d bytes of %d, closed", got, n)
	}
	return seenBytes
}

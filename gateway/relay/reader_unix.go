//go:build unix

package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// reader reads a socket without holding a buffer while it waits: the buffer is
// taken from the pool when the socket has become readable. It obeys the
// connection's read deadline.
type reader struct {
	raw   syscall.RawConn
	block *[blockSize]byte
	n     int
	err   error
	// try is attempt, made once.
	try func(fd uintptr) bool
}

func newReader(_ net.Conn, socket syscall.Conn) (reader, error) {
	raw, err := socket.SyscallConn()
	return reader{raw: raw}, err
}

// read waits for bytes and returns them in a block that the caller puts back.
// The error is io.EOF at the end of the stream.
func (r *reader) read() (*[blockSize]byte, int, error) {
	if r.try == nil {
		r.try = r.attempt
	}
	if err := r.raw.Read(r.try); err != nil {
		return nil, 0, err
	}
	return r.block, r.n, r.err
}

// attempt is called when the socket may be readable; false means that it was
// not.
func (r *reader) attempt(fd uintptr) bool {
	block := blocks.Get().(*[blockSize]byte)
	r.n, r.err = readAgain(int(fd), block[:])
	switch {
	case r.err == nil && r.n > 0:
		r.block = block
		return true
	case r.err == nil:
		r.err = io.EOF
	}
	r.block = nil
	blocks.Put(block)
	if errors.Is(r.err, syscall.EAGAIN) {
		return false
	}
	if !errors.Is(r.err, io.EOF) {
		r.err = os.NewSyscallError("read", r.err)
	}
	return true
}

// readAgain is read(2), again when a signal came between.
func readAgain(fd int, b []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, b)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

package relay

import (
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// splicer moves bytes that have arrived from socket to socket in the kernel, by
// the splice(2) of net.TCPConn.ReadFrom. That keeps a pipe as long as it waits
// for bytes; so it is only ever asked for what is there already.
type splicer struct {
	from    Conn
	limited io.LimitedReader
}

// spliceAtLeast: less than this is cheaper to read and write.
const spliceAtLeast = 16 << 10

// splice moves what has arrived. It is not ok, and has moved nothing, when there
// is too little to be worth it, or the receiver is not a TCP connection.
func (s *splicer) splice(r *reader, to Conn) (n int64, ok bool, err error) {
	receiver, isTCP := to.(*net.TCPConn)
	if !isTCP {
		return 0, false, nil
	}
	available := r.available()
	if available < spliceAtLeast {
		return 0, false, nil
	}
	s.limited = io.LimitedReader{R: s.from, N: int64(available)}
	n, err = receiver.ReadFrom(&s.limited)
	if err != nil {
		// The bytes were there to be read, so it is the receiver that failed.
		return n, true, &writeError{err}
	}
	return n, n > 0, nil
}

// available is the number of bytes that a read would find, 0 if unknown.
func (r *reader) available() int {
	n := 0
	if err := r.raw.Control(func(fd uintptr) {
		n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
	}); err != nil {
		return 0
	}
	return n
}

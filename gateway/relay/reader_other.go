//go:build !unix

package relay

import (
	"net"
	"syscall"
)

// reader reads with a buffer held while it waits: doing without one needs the
// non-blocking reads of unix.
type reader struct{ conn net.Conn }

func newReader(conn net.Conn, _ syscall.Conn) (reader, error) { return reader{conn}, nil }

// read waits for bytes and returns them in a block that the caller puts back.
func (r *reader) read() (*[blockSize]byte, int, error) {
	block := blocks.Get().(*[blockSize]byte)
	n, err := r.conn.Read(block[:])
	if n > 0 {
		return block, n, nil
	}
	blocks.Put(block)
	return nil, 0, err
}

package relay

import (
	"net"
	"syscall"
)

// source moves what one connection has to say, one piece at a time. The error
// is io.EOF at the end, a *writeError when the receiver failed.
type source interface {
	move(to Conn) (int64, error)
}

// newSource returns the best source for the kind of connection.
func newSource(from Conn) (source, error) {
	switch c := from.(type) {
	case *net.TCPConn:
		return newSocketSource(c, c)
	case *net.UnixConn:
		return newSocketSource(c, c)
	}
	return &plainSource{from: from}, nil
}

// socketSource reads a socket into pooled buffers, and once a stream has shown
// itself to be big, splices it where the system can.
type socketSource struct {
	reader  reader
	splicer splicer
	// big counts bytes in full reads in a row.
	big int
}

func newSocketSource(from Conn, socket syscall.Conn) (source, error) {
	r, err := newReader(from, socket)
	if err != nil {
		return nil, err
	}
	return &socketSource{reader: r, splicer: splicer{from: from}}, nil
}

// spliceAfter is how many bytes in a row make a stream big: splicing costs
// two descriptors and more calls, which small transfers never earn back.
const spliceAfter = 128 << 10

func (s *socketSource) move(to Conn) (int64, error) {
	if s.big >= spliceAfter {
		n, ok, err := s.splicer.splice(&s.reader, to)
		if ok {
			return n, err
		}
	}
	block, n, err := s.reader.read()
	if err != nil {
		return 0, err
	}
	defer blocks.Put(block)
	if n == blockSize {
		s.big += n
	} else if s.big < spliceAfter {
		s.big = 0
	}
	if _, err := to.Write(block[:n]); err != nil {
		return 0, &writeError{err}
	}
	return int64(n), nil
}

// plainSource is the source for connections that are not sockets, like
// *tls.Conn: it reads into a buffer that it keeps.
type plainSource struct {
	from   Conn
	buffer []byte
}

// plainSize is the most that one TLS record holds.
const plainSize = 16 << 10

func (s *plainSource) move(to Conn) (int64, error) {
	if s.buffer == nil {
		s.buffer = make([]byte, plainSize)
	}
	n, err := s.from.Read(s.buffer)
	if n > 0 {
		if _, writeErr := to.Write(s.buffer[:n]); writeErr != nil {
			return 0, &writeError{writeErr}
		}
	}
	return int64(n), err
}

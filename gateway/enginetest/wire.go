package enginetest

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// recordHeader is the length of the header of a TLS record.
	recordHeader = 5
	// handshakeRecord and alertRecord are types of records.
	handshakeRecord, alertRecord = 22, 21
)

// helloOf is the first flight of a Go client: the records of its ClientHello.
func helloOf(config *tls.Config) []byte {
	c := &flightConn{}
	_ = tls.Client(c, config).Handshake()
	return c.flight
}

// HelloFor is the hello of a Go client for a server name.
func HelloFor(name string) []byte {
	return helloOf(&tls.Config{ServerName: name, InsecureSkipVerify: true})
}

// flightConn keeps what is written and answers nothing.
type flightConn struct {
	net.Conn
	flight []byte
}

func (c *flightConn) Write(b []byte) (int, error) {
	c.flight = append(c.flight, b...)
	return len(b), nil
}
func (*flightConn) Read([]byte) (int, error) { return 0, io.EOF }

// Close does nothing.
func (*flightConn) Close() error { return nil }

// SetDeadline does nothing.
func (*flightConn) SetDeadline(time.Time) error { return nil }

// record is one handshake record.
func record(contents []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{handshakeRecord, 3, 1}, uint16(len(contents)))
	return append(b, contents...)
}

// recut cuts the messages in records anew: size gives the length of the next
// record.
func recut(records []byte, size func() int) []byte {
	var message, out []byte
	for len(records) > 0 {
		n := recordHeader + int(binary.BigEndian.Uint16(records[3:]))
		message = append(message, records[recordHeader:n]...)
		records = records[n:]
	}
	for len(message) > 0 {
		n := min(max(size(), 1), len(message), 1<<14)
		out = append(out, record(message[:n])...)
		message = message[n:]
	}
	return out
}

// cuttingConn sends its first flight, the hello, cut into records and segments
// of its own choice; everything later goes as it is.
type cuttingConn struct {
	*net.TCPConn
	recordSize, segmentSize func() int
	// flight collects the hello until the first read: crypto/tls may write it in
	// several pieces.
	flight []byte
	sent   bool
}

func (c *cuttingConn) Write(b []byte) (int, error) {
	if c.sent {
		return c.TCPConn.Write(b)
	}
	c.flight = append(c.flight, b...)
	return len(b), nil
}

func (c *cuttingConn) Read(b []byte) (int, error) {
	if !c.sent {
		c.sent = true
		if err := writeCut(c.TCPConn, recut(c.flight, c.recordSize), c.segmentSize); err != nil {
			return 0, err
		}
	}
	return c.TCPConn.Read(b)
}

// writeCut writes b in pieces, each a segment of its own: Go sets TCP_NODELAY.
func writeCut(c *net.TCPConn, b []byte, size func() int) error {
	for len(b) > 0 {
		n := min(max(size(), 1), len(b))
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func always(n int) func() int { return func() int { return n } }

// between draws lengths, small ones most often.
func between(random *rand.Rand, most int) func() int {
	return func() int { return 1 + random.IntN(1+random.IntN(most)) }
}

// ending reads to the end, and says how it ended: what was sent, if an alert,
// by its number, and how the connection was closed. It does not read on where nothing
// is expected and a server answers.
func ending(c net.Conn, expect []byte) string {
	begin := make([]byte, 1)
	n, err := c.Read(begin)
	if n == 1 && begin[0] == handshakeRecord && len(expect) == 0 {
		return "a server answers"
	}
	b := begin[:n]
	if err == nil {
		var more []byte
		more, err = io.ReadAll(c)
		b = append(b, more...)
	} else if errors.Is(err, io.EOF) {
		err = nil
	}
	how := "closed"
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		how = "reset"
	case errors.Is(err, os.ErrDeadlineExceeded):
		how = "left open"
	case err != nil:
		how = err.Error()
	}
	switch {
	case len(b) == 0:
		return how
	case len(expect) > 0 && bytes.Equal(b, expect):
		return "all bytes, " + how
	case len(b) == 7 && b[0] == alertRecord && b[5] == 2:
		return fmt.Sprintf("alert %d, %s", b[6], how)
	}
	return fmt.Sprintf("%d bytes, %s", len(b), how)
}

package enginetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
)

// end is one end of a connection, as a test holds it: a client's or an endpoint's.
// Its methods fail the test when something else happens than they say, and nothing
// waits for longer than patience.
type end struct {
	*net.TCPConn
	t *testing.T
}

// hold makes a connection an end; it is closed with the test.
func hold(t *testing.T, c *net.TCPConn) *end {
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = c.Close() })
	return &end{c, t}
}

// connect is a client's end of a new connection.
func connect(t *testing.T, address netip.AddrPort) *end {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(address))
	if err != nil {
		t.Fatal(err)
	}
	return hold(t, c)
}

func (e *end) local() netip.AddrPort { return e.LocalAddr().(*net.TCPAddr).AddrPort() }

func (e *end) write(b []byte) {
	e.t.Helper()
	if _, err := e.Write(b); err != nil {
		e.t.Fatal(err)
	}
}

func (e *end) say(text string) {
	e.t.Helper()
	e.write([]byte(text))
}

// read reads what is to come next.
func (e *end) read(want []byte) {
	e.t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(e, b); err != nil || !bytes.Equal(b, want) {
		e.t.Fatalf("read %d bytes, %.40q (%v); want %.40q", n, b[:n], err, want)
	}
}

func (e *end) hear(text string) {
	e.t.Helper()
	e.read([]byte(text))
}

// hearEnd reads that the other side has closed in order, after nothing more.
func (e *end) hearEnd() {
	e.t.Helper()
	if n, err := e.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		e.t.Fatalf("read %d bytes (%v); want the end", n, err)
	}
}

// closes says how the other side closes, after nothing more.
func (e *end) closes(want string) {
	e.t.Helper()
	if got := ending(e, nil); got != want {
		e.t.Errorf("the other side is seen as %s; want %s", got, want)
	}
}

// finish closes for writing.
func (e *end) finish() {
	e.t.Helper()
	if err := e.CloseWrite(); err != nil {
		e.t.Fatal(err)
	}
}

// breakOff ends the connection with a reset.
func (e *end) breakOff() {
	e.t.Helper()
	if err := e.SetLinger(0); err != nil {
		e.t.Fatal(err)
	}
	_ = e.Close()
}

// stall is how long nothing must be taken for a writer to be seen as blocked. Too
// little makes a test look at less, and fail never.
const stall = 100 * time.Millisecond

// fill writes a pattern until nobody takes any more, or more than most was taken.
// It returns how much was.
func (e *end) fill(p *pattern, most int) (taken int) {
	e.t.Helper()
	defer func() { _ = e.SetWriteDeadline(time.Now().Add(patience)) }()
	for taken <= most {
		_ = e.SetWriteDeadline(time.Now().Add(stall))
		b := p.peek(chunk)
		n, err := e.Write(b)
		p.skip(n)
		taken += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return taken
		}
		if err != nil {
			e.t.Fatal(err)
		}
	}
	return taken
}

// readHello reads one record, which holds a hello.
func readHello(c io.Reader) ([]byte, error) {
	header := make([]byte, recordHeader)
	if _, err := io.ReadFull(c, header); err != nil {
		return nil, err
	}
	contents := make([]byte, binary.BigEndian.Uint16(header[3:]))
	_, err := io.ReadFull(c, contents)
	return slices.Concat(header, contents), err
}

// endpoint is a listening socket of loopback that accepts when the test does.
type endpoint struct {
	listener *net.TCPListener
	address  netip.AddrPort
}

// listenAt is an endpoint at an address of loopback.
func listenAt(t testing.TB, ip string) *endpoint {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return &endpoint{listener, listener.Addr().(*net.TCPAddr).AddrPort()}
}

func newEndpoint(t testing.TB) *endpoint {
	t.Helper()
	return listenAt(t, "127.0.0.1")
}

// accept is the endpoint's end of the next connection.
func (e *endpoint) accept(t *testing.T) *end {
	t.Helper()
	_ = e.listener.SetDeadline(time.Now().Add(patience))
	c, err := e.listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	return hold(t, c)
}

// greeted is the endpoint's end of the next connection, from which a hello was read.
func (e *endpoint) greeted(t *testing.T, hello []byte) *end {
	t.Helper()
	c := e.accept(t)
	c.read(hello)
	return c
}

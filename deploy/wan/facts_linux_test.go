package wan

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the gateway takes for granted of TCP when it opens connections ahead. Each
// of these is a sentence of the decision about that; a kernel that does otherwise
// breaks it.

// listenDeferred listens with TCP_DEFER_ACCEPT.
func listenDeferred(t *testing.T, l *Link) *net.TCPListener {
	t.Helper()
	listener, err := l.Right.Listen(netip.AddrPortFrom(l.Right.Address(), 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	set(t, listener, unix.TCP_DEFER_ACCEPT, 10)
	return listener
}

func set(t *testing.T, socket syscall.Conn, option, value int) {
	t.Helper()
	onDescriptor(t, socket, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, option, value) })
}

func onDescriptor(t *testing.T, socket syscall.Conn, f func(fd int) error) {
	t.Helper()
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var inner error
	if err := errors.Join(raw.Control(func(fd uintptr) { inner = f(int(fd)) }), inner); err != nil {
		t.Fatal(err)
	}
}

// dial connects from the left.
func dial(t *testing.T, l *Link, listener *net.TCPListener) *net.TCPConn {
	t.Helper()
	conn, err := l.Left.Dial(t.Context(), listener.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func accept(t *testing.T, listener *net.TCPListener) *net.TCPConn {
	t.Helper()
	conn, err := listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// acknowledged is how many bytes of what was written the other side's kernel has
// said to have.
func acknowledged(t *testing.T, conn *net.TCPConn) (bytes uint64) {
	t.Helper()
	onDescriptor(t, conn, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			bytes = info.Bytes_acked - 1 // The SYN counts as one.
		}
		return err
	})
	return bytes
}

// A silent connection is not handed over while it is deferred: one that came
// later and speaks is accepted before it.
func TestASilentConnectionIsDeferred(t *testing.T) {
	l := open(t, Options{})
	defer l.Close()
	listener := listenDeferred(t, l)
	silent, speaks := dial(t, l, listener), dial(t, l, listener)
	for _, c := range []struct {
		conn *net.TCPConn
		says string
	}{{speaks, "b"}, {silent, "a"}} {
		if _, err := c.conn.Write([]byte(c.says)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 1)
		if _, err := io.ReadFull(accept(t, listener), got); err != nil || string(got) != c.says {
			t.Errorf("accepted one that says %q (%v); want %q", got, err, c.says)
		}
	}
}

// A deferred connection that is reset is never handed over; one that is closed
// is, with its end.
func TestADeferredConnectionThatIsReset(t *testing.T) {
	l := open(t, Options{})
	defer l.Close()
	listener := listenDeferred(t, l)
	reset, closed := dial(t, l, listener), dial(t, l, listener)
	if err := errors.Join(reset.SetLinger(0), reset.Close(), closed.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err := accept(t, listener).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the first that was accepted reads %d, %v; want the end of the one that was closed", n, err)
	}
	// Packets are in order: what the reset had led to would be here before this.
	speaks := dial(t, l, listener)
	if _, err := speaks.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(accept(t, listener), make([]byte, 1)); err != nil {
		t.Errorf("the second that was accepted: %v; want the one that speaks", err)
	}
}

// When the far side closes before it has the hello, which is written as if nothing
// were, the near side finds the end, and that not a byte has arrived; when the
// hello was read first, that it has.
func TestAHelloThatComesTooLate(t *testing.T) {
	l := open(t, Options{Delay: 20 * time.Millisecond})
	defer l.Close()
	listener, err := l.Right.Listen(netip.AddrPortFrom(l.Right.Address(), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const hello = "hello"
	for _, test := range []struct {
		name string
		read bool
		want uint64
	}{{"it was closed unread", false, 0}, {"it was read", true, uint64(len(hello))}} {
		near := dial(t, l, listener)
		far := accept(t, listener)
		if !test.read {
			far.Close()
		}
		if _, err := near.Write([]byte(hello)); err != nil {
			t.Fatal(err)
		}
		if test.read {
			if _, err := io.ReadFull(far, make([]byte, len(hello))); err != nil {
				t.Fatal(err)
			}
			far.Close()
		}
		if n, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: read %d, %v; want the end", test.name, n, err)
		}
		if got := acknowledged(t, near); got != test.want {
			t.Errorf("%s: %d bytes are acknowledged; want %d", test.name, got, test.want)
		}
	}
}

// A hello into the silence ends with TCP_USER_TIMEOUT, which is how a far side
// that has vanished is told from a slow one.
func TestAHelloIntoTheSilence(t *testing.T) {
	l := open(t, Options{})
	defer l.Close()
	left, right := pair(t, l)
	defer left.Close()
	defer right.Close()
	set(t, left, unix.TCP_USER_TIMEOUT, 100)
	_ = left.SetReadDeadline(time.Now().Add(20 * time.Second)) // Only a kernel that does otherwise needs it.
	l.Silence(true)
	if _, err := left.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if n, err := left.Read(make([]byte, 1)); !errors.Is(err, unix.ETIMEDOUT) {
		t.Errorf("read %d, %v; want %v", n, err, unix.ETIMEDOUT)
	}
	if got := acknowledged(t, left); got != 0 {
		t.Errorf("%d bytes are acknowledged over a silent link", got)
	}
}

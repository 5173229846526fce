package relay_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

// hangUp waits until a connection knows that it is over.
func hangUp(t *testing.T, c relay.Conn) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		err = syscall.EINTR
		for errors.Is(err, syscall.EINTR) {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLHUP}}, -1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A reset of which a write was told reads as an end. It is none.
func TestAnEndThatIsAReset(t *testing.T) {
	near, far := sockets(t, "tcp")
	breakOff(t, far)
	hangUp(t, near)
	if _, err := near.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("writing says %v; want a reset", err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("reading says %v; want an end", err)
	}
	if !relay.WasReset(near) {
		t.Error("a reset is taken for an end")
	}
}

func TestAnEndThatIsNone(t *testing.T) {
	near, far := sockets(t, "tcp")
	_ = far.CloseWrite()
	readEnd(t, near)
	if relay.WasReset(near) {
		t.Error("an end is taken for a reset")
	}
	// Nor is it when a reset comes behind it: all was read.
	breakOff(t, far)
	hangUp(t, near)
	if relay.WasReset(near) {
		t.Error("an end before a reset is taken for that")
	}
}

package enginetest

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// silent is an address of loopback that answers nothing: the queue of its listener
// is full, so that the kernel drops whoever comes.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, address := bound(t)
	// A queue of none has room for one.
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	connect(t, address)
	events := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(events, int(patience.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("the queue of the silent endpoint is not full: %v", err)
		}
		return address
	}
}

// asleep is an endpoint that refuses until it is woken.
type asleep struct {
	fd      int
	address netip.AddrPort
}

func newAsleep(t *testing.T) *asleep {
	fd, address := bound(t)
	return &asleep{fd, address}
}

// wake has it listen.
func (a *asleep) wake(t *testing.T) {
	t.Helper()
	if err := unix.Listen(a.fd, 100); err != nil {
		t.Fatal(err)
	}
}

// sleep has it refuse again.
func (a *asleep) sleep(t *testing.T) {
	t.Helper()
	if err := unix.Shutdown(a.fd, unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
}

// bound is a socket that is bound to a free port of loopback.
func bound(t *testing.T) (int, netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	loopback := [4]byte{127, 0, 0, 1}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, netip.AddrPortFrom(netip.AddrFrom4(loopback), uint16(name.(*unix.SockaddrInet4).Port))
}

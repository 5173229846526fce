package wan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// Side is one of the two places: a network namespace.
type Side struct {
	address netip.Addr
	// namespace is a descriptor of it.
	namespace *os.File
	// orders are run by the thread that made the namespace.
	orders chan func()
	ended  chan struct{}
}

// newSide makes a namespace, with its loopback up.
func newSide(address netip.Addr) (*Side, error) {
	s := &Side{address: address, orders: make(chan func()), ended: make(chan struct{})}
	made := make(chan error)
	go onThread(func() {
		defer close(s.ended)
		err := s.enter()
		made <- err
		if err != nil {
			return
		}
		for order := range s.orders {
			order()
		}
	})
	if err := <-made; err != nil {
		<-s.ended
		return nil, err
	}
	return s, nil
}

// onThread runs f on a thread that ends with it, as one must that has entered a
// namespace. The first thread of a process cannot end, and what /proc says of the
// process is what it says of that one, so f never runs on it.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		onThread(f)
	}()
	<-done
}

// enter moves the thread into a new namespace.
func (s *Side) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return forbidden("unshare", err)
	}
	namespace, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		return err
	}
	s.namespace = namespace
	if err := up("lo"); err != nil {
		_ = namespace.Close()
		return err
	}
	return nil
}

// forbidden makes ErrForbidden of a missing right.
func forbidden(what string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (%s)", ErrForbidden, what)
	}
	return os.NewSyscallError(what, err)
}

// close ends the thread.
func (s *Side) close() {
	close(s.orders)
	<-s.ended
	_ = s.namespace.Close()
}

// Address is where the other side reaches this one.
func (s *Side) Address() netip.Addr { return s.address }

// Do runs f on a thread of this side, and returns its error: sockets that f makes
// belong to this side, wherever they are used later. What f starts with go does
// not run there. Any number of calls may run at once.
func (s *Side) Do(f func() error) error {
	result := make(chan error, 1)
	go onThread(func() {
		if err := unix.Setns(int(s.namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- forbidden("setns", err)
			return
		}
		result <- f()
	})
	return <-result
}

// Dial connects from this side.
func (s *Side) Dial(ctx context.Context, to netip.AddrPort) (conn *net.TCPConn, err error) {
	return conn, s.Do(func() error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp4", to.String())
		if err != nil {
			return err
		}
		conn = c.(*net.TCPConn)
		return nil
	})
}

// Listen listens on this side. Port 0 chooses one.
func (s *Side) Listen(at netip.AddrPort) (listener *net.TCPListener, err error) {
	return listener, s.Do(func() (err error) {
		listener, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
		return err
	})
}

// Start starts a command on this side. With SysProcAttr.Pdeathsig it gets that
// signal when the link is closed, or this process ends.
func (s *Side) Start(command *exec.Cmd) error {
	result := make(chan error)
	s.orders <- func() { result <- command.Start() }
	return <-result
}

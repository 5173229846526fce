package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// answer is what the backend says to a ClientHello.
var answer = []byte("ok")

const (
	// requestLength is that of a request on an open connection, and of its answer.
	requestLength = 64
	// requestMark is the first byte after the ClientHello on a connection for
	// requests. On any other, what comes is only counted.
	requestMark = 'r'
	// swallow is how much of it is taken at once.
	swallow = 1 << 20
)

// backend is the service behind the proxies: it reads a ClientHello, answers it,
// and then answers requests, or counts whatever else comes. Its connections end
// by a reset, so that the proxy's side holds no port in TIME_WAIT.
type backend struct {
	at netip.AddrPort
	// listener is shared by a loop for each core; bell is an eventfd that ends them.
	listener, bell int
	loops          sync.WaitGroup
	// bytes counts what came after the ClientHellos and is no request.
	bytes atomic.Int64
}

// backendLoop serves connections on one thread.
type backendLoop struct {
	*backend
	poller *poller
	// connections are by their descriptor. One that is closed in its own event, with
	// accept as the last of a turn, leaves no stale event behind.
	connections []served
	buffer      [swallow]byte
}

// served is a connection of the backend.
type served struct {
	phase phase
	// heard is how much of the ClientHello was read.
	heard int
}

// phase is how far a connection is, at either end of it.
type phase uint8

const (
	closed phase = iota
	// connecting: a client waits until it can send its ClientHello.
	connecting
	// greeting: the ClientHello, or its answer, is not there yet.
	greeting
	// greeted: both are.
	greeted
	// asking: a client waits for the answer to a request; at the backend, whatever
	// comes is a request.
	asking
	// pouring: whatever comes is counted.
	pouring
)

// startBackend listens on a port below those of clients.
func startBackend() (*backend, error) {
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	return startBackendAt(address)
}

func startBackendAt(address netip.AddrPort) (*backend, error) {
	b := &backend{at: address, listener: -1, bell: -1}
	if err := b.start(); err != nil {
		b.stop()
		return nil, fmt.Errorf("backend: %w", err)
	}
	return b, nil
}

// start opens the listener and has the loops serve it.
func (b *backend) start() (err error) {
	if b.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return err
	}
	if b.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	err = errors.Join(
		unix.SetsockoptInt(b.listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		resetOnClose(b.listener),
		unix.Bind(b.listener, &unix.SockaddrInet4{Addr: b.at.Addr().As4(), Port: int(b.at.Port())}),
		unix.Listen(b.listener, unix.SOMAXCONN),
	)
	for range runtime.NumCPU() {
		err = errors.Join(err, b.startLoop())
	}
	return err
}

func (b *backend) startLoop() error {
	poller, err := newPoller()
	if err != nil {
		return err
	}
	l := &backendLoop{backend: b, poller: poller}
	b.loops.Go(l.run)
	return errors.Join(
		poller.add(b.listener, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, b.listener),
		poller.add(b.bell, unix.EPOLLIN, b.bell),
	)
}

func (b *backend) address() netip.AddrPort { return b.at }

// stop ends the listener and all connections.
func (b *backend) stop() {
	if b.bell >= 0 {
		_, _ = unix.Write(b.bell, binary.NativeEndian.AppendUint64(nil, 1))
	}
	b.loops.Wait()
	for _, descriptor := range []int{b.listener, b.bell} {
		if descriptor >= 0 {
			_ = unix.Close(descriptor)
		}
	}
}

// run serves until the bell rings.
func (l *backendLoop) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.close()
	for {
		events, err := l.poller.wait(forever)
		if err != nil {
			return // Clients that are cut off say so.
		}
		waiting := false
		for i := range events {
			switch key := int(events[i].Fd); key {
			case l.bell:
				return
			case l.listener:
				waiting = true
			default:
				l.turn(key)
			}
		}
		if waiting {
			l.accept()
		}
	}
}

func (l *backendLoop) close() {
	for descriptor := range l.connections {
		l.drop(descriptor)
	}
	l.poller.close()
}

// accept takes the connections that wait. Most have their ClientHello with them.
func (l *backendLoop) accept() {
	for {
		descriptor, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // None is left; or it has failed, and its client says so.
		}
		for len(l.connections) <= descriptor {
			l.connections = append(l.connections, served{})
		}
		l.connections[descriptor] = served{phase: greeting}
		if err := l.poller.add(descriptor, unix.EPOLLIN, descriptor); err != nil {
			l.drop(descriptor)
			continue
		}
		l.turn(descriptor)
	}
}

// drop closes a connection, once.
func (l *backendLoop) drop(descriptor int) {
	if l.connections[descriptor].phase != closed {
		l.connections[descriptor].phase = closed
		_ = unix.Close(descriptor)
	}
}

// turn reads once from a connection, and ends it when there is nothing to come.
func (l *backendLoop) turn(descriptor int) {
	c := &l.connections[descriptor]
	if c.phase == closed {
		return // A child that is being started has held it open for a moment.
	}
	var n int
	var err error
	switch c.phase {
	case greeting:
		n, err = unix.Read(descriptor, l.buffer[:helloLength-c.heard])
	case pouring:
		// The bytes are counted and not copied.
		n, _, err = unix.Recvfrom(descriptor, l.buffer[:], unix.MSG_TRUNC)
	default:
		n, err = unix.Read(descriptor, l.buffer[:requestLength])
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if err == nil && n > 0 {
		err = l.heard(descriptor, c, n)
	}
	if err != nil || n <= 0 {
		l.drop(descriptor)
	}
}

// heard does with n bytes what the phase of the connection asks for.
func (l *backendLoop) heard(descriptor int, c *served, n int) (err error) {
	if c.phase == greeted {
		c.phase = pouring
		if l.buffer[0] == requestMark {
			c.phase = asking
		}
	}
	switch c.phase {
	case greeting:
		if c.heard += n; c.heard == helloLength {
			c.phase = greeted
			_, err = unix.Write(descriptor, answer)
		}
	case asking:
		_, err = unix.Write(descriptor, l.buffer[:n])
	default:
		l.bytes.Add(int64(n))
	}
	return err
}

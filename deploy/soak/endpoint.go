package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// endpoint is a service at one address. It may die, with all its connections, and
// live again; it keeps a record of the requests that it took along.
type endpoint struct {
	address string
	// served is how many connections were answered so far.
	served atomic.Int64

	mu     sync.Mutex // guards the two that follow
	open   map[*net.TCPConn]*visit
	killed map[uint64]bool

	// What follows is of the present life; only its owner uses it.
	listener          *net.TCPListener
	accepting, visits sync.WaitGroup
}

// visit is one connection.
type visit struct {
	// named is closed when the request of its hello is known, or never will be.
	named   chan struct{}
	request uint64
}

func newEndpoint(address string) *endpoint {
	return &endpoint{address: address, open: make(map[*net.TCPConn]*visit), killed: make(map[uint64]bool)}
}

// live begins a life; there must be none.
func (e *endpoint) live() (err error) {
	if e.listener, err = listenTCP(e.address); err == nil {
		e.accepting.Go(e.accept)
	}
	return err
}

func (e *endpoint) accept() {
	for {
		conn, err := e.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		v := &visit{named: make(chan struct{})}
		e.mu.Lock()
		e.open[conn] = v
		e.mu.Unlock()
		e.visits.Go(func() { e.visit(conn, v) })
	}
}

func (e *endpoint) visit(conn *net.TCPConn, v *visit) {
	named := sync.OnceFunc(func() { close(v.named) })
	_ = serve(conn, func(request uint64) {
		v.request = request
		e.served.Add(1)
		named()
	})
	named()
	e.mu.Lock()
	delete(e.open, conn)
	e.mu.Unlock()
	_ = conn.Close()
}

// stop ends the life and resets the connections that are left.
func (e *endpoint) stop() {
	_ = e.listener.Close()
	e.accepting.Wait()
	e.mu.Lock()
	for conn := range e.open {
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
	e.mu.Unlock()
	e.visits.Wait()
}

// die is stop with a record. Handshakes that are done are the endpoint's
// connections, and none more are done when it begins; each has sent its hello, or
// does so at once. So the record is whole before the first connection is reset.
func (e *endpoint) die(ctx context.Context) error {
	defer e.stop()
	if err := refuseHandshakes(e.listener); err != nil {
		return err
	}
	if err := await(ctx, "the dying endpoint has handshakes", func(context.Context) error { return e.queueEmpty() }); err != nil {
		return err
	}
	_ = e.listener.Close()
	e.accepting.Wait()
	e.mu.Lock()
	visits := slices.Collect(maps.Values(e.open))
	e.mu.Unlock()
	for _, v := range visits {
		select {
		case <-v.named:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range e.open {
		e.killed[v.request] = true
	}
	return nil
}

// took reports whether a request's connection was ended by a death.
func (e *endpoint) took(request uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.killed[request]
}

// taken is how many connections were ended by all deaths.
func (e *endpoint) taken() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.killed)
}

// queueEmpty is an error while a connection of the listener is not accepted, or
// half made.
func (e *endpoint) queueEmpty() error {
	sockets, err := socketsAt(e.address)
	if err != nil {
		return err
	}
	for _, s := range sockets {
		if s.state == socketHandshake || s.state == socketListens && s.queued > 0 {
			return fmt.Errorf("a socket in state %d with %d queued", s.state, s.queued)
		}
	}
	return nil
}

// refuseHandshakes has the kernel drop what would begin a handshake: a segment
// whose flags, in its fourteenth byte, have SYN.
func refuseHandshakes(l *net.TCPListener) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jf: 1, K: 0x02},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
	return errors.Join(err, failed)
}

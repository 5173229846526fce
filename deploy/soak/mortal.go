package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// mortal is an endpoint that dies, with all its connections, and returns. It
// keeps a record of the requests that it took along.
type mortal struct {
	address string
	// served is how many connections were answered so far.
	served atomic.Int64

	mu     sync.Mutex
	open   map[*net.TCPConn]*visit
	killed map[uint64]bool

	// listener and accepting are of the present life; only its owner uses them.
	listener  *net.TCPListener
	accepting sync.WaitGroup
	visits    sync.WaitGroup
}

// visit is one connection.
type visit struct {
	// named is closed when the request of its hello is known, or never will be.
	named   chan struct{}
	request uint64
}

func newMortal(address string) *mortal {
	return &mortal{address: address, open: make(map[*net.TCPConn]*visit), killed: make(map[uint64]bool)}
}

// live begins a life: there must be none.
func (m *mortal) live() (err error) {
	if m.listener, err = listenTCP(m.address); err == nil {
		m.accepting.Go(m.accept)
	}
	return err
}

func (m *mortal) accept() {
	for {
		conn, err := m.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		v := &visit{named: make(chan struct{})}
		m.mu.Lock()
		m.open[conn] = v
		m.mu.Unlock()
		m.visits.Go(func() { m.visit(conn, v) })
	}
}

func (m *mortal) visit(conn *net.TCPConn, v *visit) {
	named := sync.OnceFunc(func() { close(v.named) })
	_ = serve(conn, func(request uint64) {
		v.request = request
		m.served.Add(1)
		named()
	})
	named()
	m.mu.Lock()
	delete(m.open, conn)
	m.mu.Unlock()
	_ = conn.Close()
}

// die ends the life. Handshakes that are done are its connections, and none more
// are done when it begins; each has sent its hello, or does so at once. So the
// record is whole before the first connection is reset.
func (m *mortal) die(ctx context.Context) error {
	if err := refuseHandshakes(m.listener); err != nil {
		return err
	}
	err := await(ctx, "the dying endpoint has handshakes", func(context.Context) error { return m.queueEmpty() })
	m.listener.Close()
	m.accepting.Wait()
	if err != nil {
		return err
	}
	m.mu.Lock()
	visits := make(map[*net.TCPConn]*visit, len(m.open))
	for conn, v := range m.open {
		visits[conn] = v
	}
	m.mu.Unlock()
	for _, v := range visits {
		select {
		case <-v.named:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	m.mu.Lock()
	for conn, v := range m.open {
		m.killed[v.request] = true
		_ = conn.SetLinger(0)
	}
	for conn := range m.open {
		_ = conn.Close()
	}
	m.mu.Unlock()
	m.visits.Wait()
	return nil
}

// took reports whether a request's connection was ended by a death.
func (m *mortal) took(request uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.killed[request]
}

// taken is how many connections were ended by all deaths.
func (m *mortal) taken() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.killed)
}

// queueEmpty is an error while a connection of the listener is not accepted, or
// half made.
func (m *mortal) queueEmpty() error {
	sockets, err := socketsAt(m.address)
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

package consul_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// way is a TCP path to an agent that can be cut.
type way struct {
	listener net.Listener
	target   string

	mu       sync.Mutex
	open     chan struct{} // closed while bytes pass
	refusing bool
	conns    map[net.Conn]bool
}

func newWay(t *testing.T, target string) *way {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{listener: listener, target: target, open: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(w.open)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() { w.carry(conn, &group) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		w.heal()
		w.refuse()
		group.Wait()
	})
	return w
}

func (w *way) address() string { return w.listener.Addr().String() }

// carry moves bytes in both directions until an end closes.
func (w *way) carry(conn net.Conn, group *sync.WaitGroup) {
	defer conn.Close()
	if !w.take(conn) {
		return
	}
	<-w.passing()
	far, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer far.Close()
	if !w.take(far) {
		return
	}
	group.Go(func() {
		w.copy(far, conn)
		far.Close()
	})
	w.copy(conn, far)
}

func (w *way) copy(to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		<-w.passing()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// take keeps a connection to be closed later; false: it is refused.
func (w *way) take(conn net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[conn] = true
	return !w.refusing
}

func (w *way) passing() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}

// cut stops all bytes; nobody is told.
func (w *way) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = make(chan struct{})
}

// heal lets what was held back pass.
func (w *way) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.open:
	default:
		close(w.open)
	}
}

// refuse closes all connections, and every new one.
func (w *way) refuse() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusing = true
	for conn := range w.conns {
		conn.Close()
	}
}

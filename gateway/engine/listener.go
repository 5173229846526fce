package engine

import (
	"net"
	"net/netip"
	"sync"
)

// Listener is a listening TCP socket that no poller watches until an engine
// serves it: a poller that does is woken for each connection that arrives,
// whoever accepts it. It is safe for concurrent use.
type Listener struct {
	address *net.TCPAddr
	closed  chan struct{}

	mu     sync.Mutex // guards socket against use after close
	socket socket
}

// Adopt takes a listener over: net's own, l, is closed, and the socket goes on.
func Adopt(l *net.TCPListener) (*Listener, error) {
	address := l.Addr().(*net.TCPAddr)
	s, err := takeSocket(l)
	if err != nil {
		return nil, err
	}
	return &Listener{address: address, socket: s, closed: make(chan struct{})}, nil
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.address }

// AddrPort is where it listens; an IPv4 address is one.
func (l *Listener) AddrPort() netip.AddrPort {
	at := l.address.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Closed is closed when the listener is.
func (l *Listener) Closed() <-chan struct{} { return l.closed }

// Close gives the socket up; whoever else has it by descriptor keeps it, with its
// queue. The error is [net.ErrClosed] if it was closed before.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return net.ErrClosed
	}
	close(l.closed)
	return l.socket.close()
}

func (l *Listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// TCP is the same socket as net has it, to be accepted from. Closing it leaves
// the Listener as it is; that must be closed too. The error is [net.ErrClosed] if
// it is closed.
func (l *Listener) TCP() (*net.TCPListener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return nil, net.ErrClosed
	}
	return l.socket.tcp()
}

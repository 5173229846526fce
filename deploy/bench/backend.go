package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// answer is what the backend says to a ClientHello.
var answer = []byte("ok")

// backend is the service behind the proxies: it reads a ClientHello, answers it,
// and counts whatever else comes.
type backend struct {
	listener *net.TCPListener
	// bytes counts what came after the ClientHellos.
	bytes atomic.Int64
	conns sync.WaitGroup
}

// startBackend listens on a port below those of clients.
func startBackend() (*backend, error) {
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(address))
	if err != nil {
		return nil, err
	}
	b := &backend{listener: l}
	b.conns.Go(b.accept)
	return b, nil
}

func (b *backend) address() netip.AddrPort {
	return b.listener.Addr().(*net.TCPAddr).AddrPort()
}

// stop ends the listener and waits for the connections, whose clients are gone.
func (b *backend) stop() {
	b.listener.Close()
	b.conns.Wait()
}

func (b *backend) accept() {
	for {
		conn, err := b.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		b.conns.Go(func() { b.serve(conn) })
	}
}

// serve answers one connection. It ends by a reset, so that the proxy's side
// holds no port in TIME_WAIT.
func (b *backend) serve(conn *net.TCPConn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetLinger(0)
	hello := make([]byte, helloLength)
	if _, err := io.ReadFull(conn, hello); err != nil {
		return
	}
	if _, err := conn.Write(answer); err != nil {
		return
	}
	// Most connections say no more: a large buffer is made for those that do.
	n, err := conn.Read(hello)
	b.bytes.Add(int64(n))
	if err != nil {
		return
	}
	buffer := make([]byte, bulkWrite)
	for err == nil {
		n, err = conn.Read(buffer)
		b.bytes.Add(int64(n))
	}
}

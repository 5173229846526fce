//go:build !unix

package engine

import "net"

// socket is net's listener: there is no other way to hold one here.
type socket struct{ listener *net.TCPListener }

func takeSocket(l *net.TCPListener) (socket, error) { return socket{l}, nil }

func (s socket) close() error { return s.listener.Close() }

func (s socket) tcp() (*net.TCPListener, error) { return s.listener, nil }

//go:build unix

package engine

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socket is a descriptor of its own, so that net does not know of it.
type socket struct{ fd int }

func takeSocket(l *net.TCPListener) (socket, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return socket{}, err
	}
	s := socket{fd: -1}
	controlErr := raw.Control(func(fd uintptr) { s, err = duplicate(int(fd)) })
	if err = errors.Join(controlErr, err, l.Close()); err != nil {
		if s.fd >= 0 {
			_ = s.close()
		}
		return socket{}, err
	}
	return s, nil
}

// duplicate is another descriptor of the same socket.
func duplicate(fd int) (socket, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return socket{fd: -1}, os.NewSyscallError("fcntl", err)
	}
	return socket{n}, nil
}

func (s socket) close() error { return os.NewSyscallError("close", unix.Close(s.fd)) }

func (s socket) tcp() (*net.TCPListener, error) {
	d, err := duplicate(s.fd)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(d.fd), "listener")
	listener, err := net.FileListener(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a %T is not a TCP listener", listener), listener.Close())
	}
	return tcp, nil
}

// Descriptor calls use with the socket's descriptor, which it must neither keep
// nor close. The error is use's, or [net.ErrClosed] if the listener is closed.
func (l *Listener) Descriptor(use func(fd int) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return net.ErrClosed
	}
	return use(l.socket.fd)
}

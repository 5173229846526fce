//go:build unix

package relay

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// wasReset reports whether a TCP connection was reset of which an end was read. A
// write at the same time may have been told of the reset, and it is told once:
// after that the connection reads as if it had ended in order. The answer is also
// yes after CloseWrite. It is no when the peer had ended in order before the reset:
// then all was read.
func wasReset(c Conn) bool {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	reset := false
	_ = raw.Control(func(fd uintptr) {
		switch pending, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); {
		case err != nil, pending == int(syscall.EPIPE):
			// Linux has this error for a reset that comes behind an end.
		case pending != 0:
			reset = true
		default:
			reset = errors.Is(sendNothing(int(fd)), syscall.EPIPE)
		}
	})
	return reset
}

// sendNothing is send(2) of no bytes, again when a signal came between.
func sendNothing(fd int) error {
	for {
		if err := unix.Sendto(fd, nil, unix.MSG_DONTWAIT, nil); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

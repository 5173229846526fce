package gateway

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keepAlive is net's own default (go1.26).
const (
	keepAliveIdle  = 15 * time.Second
	keepAliveAgain = 15 * time.Second
	keepAliveCount = 9
)

// listenConfig has keep-alive set once for the listener, from which Linux gives
// it to each connection; net would set it on each of them, in four calls. It
// listens for TCP alone: net's own choice is multipath TCP (go1.24), which nobody
// in a mesh speaks, and which costs each connection that is accepted.
func listenConfig() net.ListenConfig {
	config := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			for _, o := range [...]struct{ level, name, value int }{
				{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
				{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAliveIdle.Seconds())},
				{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAliveAgain.Seconds())},
				{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
			} {
				if err == nil {
					err = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
				}
			}
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	config.SetMultipathTCP(false)
	return config
}

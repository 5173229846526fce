//go:build unix

package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// errSocketBusy indicates a socket that another process listens on.
var errSocketBusy = errors.New("another process listens there")

// listenUnix listens on a socket whose file never has more rights than asked
// for. A file that a dead process left behind is replaced; nothing else is.
func listenUnix(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	if err := removeDead(ctx, path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		if mode == 0 {
			return nil
		}
		// The file takes its mode from the socket, less the umask. Where a system
		// does not do so, the chmod below comes a moment later.
		return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode)) })
	}}
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := setSocketMode(path, mode); err != nil {
		_ = listener.Close()
		return nil, err
	}
	return listener, nil
}

// setSocketMode gives the file the mode; 0 leaves it as it is.
func setSocketMode(path string, mode os.FileMode) error {
	if mode == 0 {
		return nil
	}
	return os.Chmod(path, mode)
}

func removeDead(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is there and is not a socket; move it, or choose another path", path)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("%s: %w", path, errSocketBusy)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

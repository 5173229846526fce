//go:build unix

package gateway

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

// sendDescriptor sends a listener's descriptor beside one byte.
func sendDescriptor(conn *net.UnixConn, listener *engine.Listener) error {
	return listener.Descriptor(func(fd int) error {
		_, _, err := conn.WriteMsgUnix([]byte{'.'}, unix.UnixRights(fd), nil)
		return err
	})
}

// receiveDescriptor receives one.
func receiveDescriptor(conn *net.UnixConn) (*os.File, error) {
	b, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(b, control)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil || len(fds) == 0 {
			continue
		}
		unix.CloseOnExec(fds[0])
		return os.NewFile(uintptr(fds[0]), "listener"), nil
	}
	return nil, errors.New("no descriptor came")
}

// listenHandover listens on the path, in place of whoever did.
func listenHandover(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// Its name is not ours to remove when it is closed: by then it may be the
	// successor's.
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	err = os.Chmod(temporary, 0o600)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(temporary))
	}
	return listener, nil
}

// isNobody reports whether a failure to connect means that no gateway runs.
func isNobody(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

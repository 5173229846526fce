package sds

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

var (
	// ErrInUse indicates a socket at which another process serves.
	ErrInUse = errors.New("another process serves there")
	// ErrNotASocket indicates a path at which there is something other than a socket,
	// which is left as it is.
	ErrNotASocket = errors.New("there is something that is no socket")
	// ErrTooLong indicates a path that is longer than a socket's may be.
	ErrTooLong = errors.New("the path of a socket may not be that long")
)

const (
	// longestPath is that of a socket on every system (sun_path is 104 bytes on some).
	longestPath = 103
	// temporaryPath is what the path has in the directory before it has its name.
	temporaryPath = len("/.s") + len("4294967295") + len("/s")
	// askWithin is how long the server of a socket may take to accept a connection.
	askWithin = time.Second
)

// Listen makes a socket that only its user may connect to, in a directory that is made
// if it is not there. What a dead process has left is replaced. The listener's Close
// takes the socket away.
//
// Possible errors: [ErrInUse], [ErrNotASocket], [ErrTooLong], and those of the system.
func Listen(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if max(len(path), len(dir)+temporaryPath) > longestPath {
		return nil, fmt.Errorf("socket %s: %w; take a directory with a shorter one", path, ErrTooLong)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	defer unlock()
	if err := makeWay(path); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return listen(path)
}

// makeWay takes away what a dead process has left.
func makeWay(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return ErrNotASocket
	}
	conn, err := net.DialTimeout("unix", path, askWithin)
	if err == nil {
		conn.Close()
		return ErrInUse
	}
	if !refused(err) {
		return fmt.Errorf("%w, or it cannot be told: %w", ErrInUse, err)
	}
	return os.Remove(path)
}

// listen binds in a directory of its own, so that the socket has its mode before it has
// its name.
func listen(path string) (net.Listener, error) {
	private, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	defer os.RemoveAll(private)
	temporary := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	info, err := own(temporary, path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), l.Close())
	}
	return &socket{l, path, info}, nil
}

// own gives the socket its mode, and then its name.
func own(temporary, path string) (os.FileInfo, error) {
	if err := os.Chmod(temporary, 0o600); err != nil {
		return nil, err
	}
	info, err := os.Lstat(temporary)
	if err != nil {
		return nil, err
	}
	return info, os.Rename(temporary, path)
}

// socket is a listener that takes its file away.
type socket struct {
	*net.UnixListener
	path string
	info os.FileInfo
}

// Close closes the listener and takes the socket away, if it is still this one.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.info) {
		_ = os.Remove(s.path)
	}
	return s.UnixListener.Close()
}

//go:build unix

package sds

import (
	"errors"
	"os"
	"syscall"
)

// lock keeps others from making a socket in the directory meanwhile: two that see the
// same dead socket would both replace it.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return func() { d.Close() }, nil
}

// refused reports whether nobody serves at the socket.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

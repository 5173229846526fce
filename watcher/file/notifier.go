package file

import "errors"

// errWatchLimit: the kernel follows no more directories for this user.
var errWatchLimit = errors.New("the limit of watched directories is reached")

// notifier tells when something below a directory may have changed, and which
// files are in the middle of being written. Paths are relative to that
// directory, with slashes.
//
// A reading is bracketed: begin, watch for each directory before it is listed,
// settle after the last file was read. Whatever happens after its watch either
// is in the reading or wakes the source again.
type notifier interface {
	// begin starts a reading.
	begin()
	// watch follows a directory, or the file that a symbolic link leads to.
	watch(name string) error
	// settle takes in all that happened during the reading, and stops following
	// what was not watched since begin.
	settle()
	// writing reports whether the file was changed and not yet closed at any time
	// from begin to settle. The bytes read may then not be what its writer means
	// to leave; the source is woken when it is closed.
	writing(name string) bool
	// changes receives after changes; several come as one.
	changes() <-chan struct{}
	// close ends the following and waits for its goroutine.
	close()
}

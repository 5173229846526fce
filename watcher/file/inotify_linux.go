package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// inotifyMask is what the kernel is asked for. Reads are not among it: the
// source's own would wake it for ever.
const inotifyMask = unix.IN_CLOSE_WRITE | unix.IN_MODIFY | unix.IN_ATTRIB |
	unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// inotify is the kernel's notifier. Events are handled as soon as they come,
// by the goroutine of its own or by a reading that settles, whoever is first.
type inotify struct {
	base string
	// number is the descriptor of file, whose Fd method would make it blocking.
	number  int
	file    *os.File
	raw     syscall.RawConn
	changed chan struct{}
	done    chan struct{}

	mu     sync.Mutex
	buffer [16 << 10]byte
	// watches gives each watch its paths: one directory may be reached by
	// several links.
	watches map[int32]map[string]struct{}
	// seen holds the paths followed since the reading began.
	seen map[int32]map[string]struct{}
	// open holds the files that were changed and not yet closed.
	open map[string]struct{}
	// touched holds the files that were open at any time of the reading: what
	// was read of them may be half, though they are closed by now.
	touched map[string]struct{}
}

// newNotifier follows files with inotify.
func newNotifier(base string) (notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	n := &inotify{
		base:    base,
		number:  fd,
		file:    os.NewFile(uintptr(fd), "inotify"),
		changed: make(chan struct{}, 1),
		done:    make(chan struct{}),
		watches: map[int32]map[string]struct{}{},
		seen:    map[int32]map[string]struct{}{},
		open:    map[string]struct{}{},
		touched: map[string]struct{}{},
	}
	if n.raw, err = n.file.SyscallConn(); err != nil {
		n.file.Close()
		return nil, fmt.Errorf("inotify: %w", err)
	}
	go n.run()
	return n, nil
}

// run handles events until the notifier is closed.
func (n *inotify) run() {
	defer close(n.done)
	for {
		if err := n.raw.Read(n.take); err != nil {
			return
		}
	}
}

// take handles all events that are there; false asks to be called again when
// there are more. The kernel's queue is emptied under the lock, so that events
// are handled in their order whoever takes them.
func (n *inotify) take(uintptr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.drain()
}

// drain handles all events that are there, and reports whether there were any.
func (n *inotify) drain() (taken bool) {
	for {
		size, err := unix.Read(n.number, n.buffer[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || size <= 0:
			return taken
		}
		taken = true
		n.parse(n.buffer[:size])
	}
}

// parse takes the kernel's events apart: watch, mask, cookie and length of the
// name, each of four bytes, then the name, padded with NUL.
func (n *inotify) parse(events []byte) {
	for len(events) >= unix.SizeofInotifyEvent {
		watch := int32(binary.NativeEndian.Uint32(events[0:]))
		mask := binary.NativeEndian.Uint32(events[4:])
		length := int(binary.NativeEndian.Uint32(events[12:]))
		name := string(bytes.TrimRight(events[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+length], "\x00"))
		events = events[unix.SizeofInotifyEvent+length:]
		n.handle(watch, mask, name)
	}
}

// handle takes one event.
func (n *inotify) handle(watch int32, mask uint32, name string) {
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		// What was missed may have been the closing of a file.
		clear(n.open)
		n.signal()
		return
	case mask&unix.IN_IGNORED != 0:
		delete(n.watches, watch)
		delete(n.seen, watch)
		n.signal()
		return
	}
	for followed := range n.watches[watch] {
		switch {
		case name == "":
			n.handleFile(followed, mask)
		case mask&unix.IN_ISDIR != 0:
			if mask&unix.IN_ATTRIB == 0 || !hidden(name) {
				n.signal()
			}
		case relevant(name):
			n.handleFile(path.Join(followed, name), mask)
		default:
			n.handleOther(path.Join(followed, name), mask)
		}
	}
}

// handleFile takes what happened to a file that counts. Only the end of a
// write, a move and a removal wake the source: a file in the middle of being
// written is nothing to read.
func (n *inotify) handleFile(name string, mask uint32) {
	switch {
	case mask&unix.IN_MODIFY != 0:
		n.open[name], n.touched[name] = struct{}{}, struct{}{}
	case mask&unix.IN_CREATE != 0:
		// The close comes, unless the file was linked in whole.
		if info, err := os.Lstat(n.path(name)); err == nil && (!info.Mode().IsRegular() || info.Size() > 0) {
			n.signal()
		}
	case mask&unix.IN_ATTRIB != 0:
		n.signal()
	default:
		delete(n.open, name)
		n.signal()
	}
}

// handleOther takes what happened to a name that does not count by itself,
// but may be a link on the way to one that does, like ..data in Kubernetes.
func (n *inotify) handleOther(name string, mask uint32) {
	if mask&(unix.IN_CREATE|unix.IN_MOVED_TO) == 0 {
		return
	}
	if info, err := os.Lstat(n.path(name)); err == nil && info.Mode()&os.ModeSymlink != 0 {
		n.signal()
	}
}

func (n *inotify) path(name string) string {
	return filepath.Join(n.base, filepath.FromSlash(name))
}

func (n *inotify) signal() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

func (n *inotify) begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	n.seen, n.touched = map[int32]map[string]struct{}{}, maps.Clone(n.open)
}

func (n *inotify) watch(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	wd, err := unix.InotifyAddWatch(n.number, n.path(name), inotifyMask)
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: raise fs.inotify.max_user_watches: %w", errWatchLimit, err)
	}
	if err != nil {
		return &os.PathError{Op: "inotify", Path: n.path(name), Err: err}
	}
	for _, paths := range [2]map[int32]map[string]struct{}{n.watches, n.seen} {
		if paths[int32(wd)] == nil {
			paths[int32(wd)] = map[string]struct{}{}
		}
		paths[int32(wd)][name] = struct{}{}
	}
	return nil
}

func (n *inotify) settle() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	for wd := range n.watches {
		if _, ok := n.seen[wd]; !ok {
			// Its paths lead elsewhere now. The kernel may have dropped it before us.
			_, _ = unix.InotifyRmWatch(n.number, uint32(wd))
			delete(n.watches, wd)
		}
	}
	maps.Copy(n.watches, n.seen)
}

func (n *inotify) writing(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.touched[name]
	return ok
}

func (n *inotify) changes() <-chan struct{} { return n.changed }

func (n *inotify) close() {
	n.file.Close()
	<-n.done
}

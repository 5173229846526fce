//go:build linux

package loop

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// simulated is a kernel without a thread or a clock. It does what Linux does, and
// whatever Linux may do at its choice, choices decide. A call that no program may
// make, like one on a descriptor that is not open, is a violation. A loop uses it
// through a simPoller.
type simulated struct {
	choices
	// exact: it cuts nothing short, delays nothing and fails nowhere.
	exact bool
	// scarce: memory is, so that it fails to watch more often.
	scarce bool
	// between is called before each call: the world does not stand still while
	// the gateway computes. Nil: it does.
	between func()
	// dialed makes the far end of a connection; the error is of connect.
	dialed func(*end, netip.AddrPort) syscall.Errno
	audit  auditor

	files []any // *end, *pipeEnd or *simListener by descriptor
	calls int
	// gained is how many calls have come to something.
	gained int
	log    func(format string, args ...any)
}

// firstFD is the first descriptor that is not taken.
const firstFD = 3

type simListener struct {
	fd    int
	queue []*end
	peers []netip.AddrPort
	// watching are the tokens of those that watch it.
	watching map[*simPoller]token
}

// simPipe is a pipe; holds are pieces of streams.
type simPipe struct {
	size, holds int
	pieces      []piece
}

type piece struct {
	of       *end
	at, size int
}

type pipeEnd struct {
	pipe  *simPipe
	reads bool
}

// violation is what a program may not do, or what may not come of it.
type violation string

func (k *simulated) fail(format string, args ...any) {
	panic(violation(fmt.Sprintf(format, args...)))
}

func (k *simulated) note(format string, args ...any) {
	if k.log != nil {
		k.log(format, args...)
	}
}

// open gives out the lowest descriptor.
func (k *simulated) open(file any) int {
	for fd := firstFD; fd < len(k.files); fd++ {
		if k.files[fd] == nil {
			k.files[fd] = file
			return fd
		}
	}
	for len(k.files) < firstFD {
		k.files = append(k.files, nil)
	}
	k.files = append(k.files, file)
	return len(k.files) - 1
}

func (k *simulated) file(call string, fd int) any {
	k.calls++
	if k.between != nil {
		k.between()
	}
	if fd < firstFD || fd >= len(k.files) || k.files[fd] == nil {
		k.fail("%s of descriptor %d, which is not open", call, fd)
	}
	return k.files[fd]
}

func (k *simulated) end(call string, fd int) *end {
	e, is := k.file(call, fd).(*end)
	if !is {
		k.fail("%s of descriptor %d, which is no connection", call, fd)
	}
	return e
}

func (k *simulated) listener(call string, fd int) *simListener {
	l, is := k.file(call, fd).(*simListener)
	if !is {
		k.fail("%s of descriptor %d, which does not listen", call, fd)
	}
	return l
}

// rarely is true once in so many times; a choice of 0 is none.
func (k *simulated) rarely(oneIn int) bool { return !k.exact && k.below(oneIn) == oneIn-1 }

// short cuts a count at random.
func (k *simulated) short(n int) int {
	if k.exact || n <= 1 {
		return n
	}
	switch k.below(8) {
	case 7:
		return 1
	case 6, 5:
		return 1 + k.below(n)
	}
	return n
}

func (k *simulated) accept(fd int) (int, netip.AddrPort, syscall.Errno) {
	l := k.listener("accept", fd)
	if k.rarely(24) {
		errs := []syscall.Errno{syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EPROTO}
		return -1, netip.AddrPort{}, errs[k.below(len(errs))]
	}
	if len(l.queue) == 0 {
		return -1, netip.AddrPort{}, syscall.EAGAIN
	}
	e, peer := l.queue[0], l.peers[0]
	l.queue, l.peers = l.queue[1:], l.peers[1:]
	k.gained++
	e.fd = k.open(e)
	k.note("accept %s: %d", e.name, e.fd)
	k.audit.accepted(e)
	return e.fd, peer, 0
}

func (k *simulated) dial(address netip.AddrPort, _ bool) (int, syscall.Errno) {
	k.calls++
	if k.rarely(64) {
		k.note("dial %s: no descriptor", address)
		return -1, syscall.EMFILE
	}
	e := &end{k: k}
	if err := k.dialed(e, address); err != 0 {
		k.note("dial %s: %v", address, err)
		return -1, err
	}
	k.gained++
	e.fd = k.open(e)
	k.note("dial %s: %s is %d", address, e.name, e.fd)
	return e.fd, 0
}

func (k *simulated) outcome(fd int) syscall.Errno {
	e := k.end("outcome", fd)
	err := e.takeErr()
	k.audit.told(e, err)
	k.note("outcome %s: %d", e.name, err)
	return err
}

func (k *simulated) keepAlive(fd int, _ table.Keepalive) {
	k.end("keepAlive", fd).ledger.kept = true
}

func (k *simulated) unpace(fd int) { k.end("unpace", fd).ledger.unpaced++ }

func (k *simulated) userTimeout(fd int, after time.Duration) {
	k.end("userTimeout", fd).timed = after > 0
}

func (k *simulated) shutdown(fd int) {
	e := k.end("shutdown", fd)
	k.note("shutdown %s", e.name)
	k.audit.shut(e)
	e.shut()
}

// flush has nothing to do: close closes at once.
func (*simulated) flush() {}

func (k *simulated) close(fd int) {
	file := k.file("close", fd)
	k.files[fd] = nil
	switch f := file.(type) {
	case *end:
		k.note("close %s", f.name)
		k.audit.closes(f, false)
		f.fd = -1
		f.closed()
	case *pipeEnd:
		k.note("close the pipe's %d", fd)
	default:
		k.fail("close of descriptor %d, which is not the loop's", fd)
	}
}

func (k *simulated) reset(fd int) {
	e := k.end("reset", fd)
	k.note("reset %s", e.name)
	k.audit.closes(e, true)
	k.files[fd] = nil
	e.fd = -1
	e.abort()
}

// openOnes are the descriptors that are open, but for those that listen.
func (k *simulated) openOnes() (fds []int) {
	for fd, f := range k.files {
		if _, listens := f.(*simListener); f != nil && !listens {
			fds = append(fds, fd)
		}
	}
	return slices.Clip(fds)
}

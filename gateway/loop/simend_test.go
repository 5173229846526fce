//go:build linux

package loop

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// end is one end of a simulated TCP connection: what Linux keeps of a socket, as
// far as a program can tell. It holds no bytes, only how many.
type end struct {
	k    *simulated
	peer *end
	// name is for logs and complaints.
	name string
	// fd is the gateway's descriptor; -1 for a remote end, and when closed.
	fd int

	// Towards us: arrived is how many bytes the network has brought, taken how
	// many of them were read. at most window lie there.
	arrived, taken, window int
	// Away from us: written is how many bytes were written; those that the peer's
	// arrived does not count are under way, at most buffer.
	written, buffer int
	// finSent: our FIN comes behind what is written, resetSent: a reset does.
	finSent, resetSent bool
	// finArrived is SOCK_DONE.
	finArrived bool

	// connecting: the peer has not answered yet. dead is TCP_CLOSE. orphan: the
	// program has closed it.
	connecting, dead, orphan bool
	shutReads, shutWrites    bool
	err                      syscall.Errno
	// noSpace: whoever wrote was told EAGAIN, and is to be told of room. pressed:
	// the kernel has no memory for it now.
	noSpace, pressed bool
	// timed: it fails when what was written is not acknowledged in time.
	timed bool

	// What epoll knows: watched with a token, and whether it is in the list of
	// those that are ready.
	watched, writes, ready bool
	poller                 *simPoller
	// toldAt is the last wait that has told of it.
	toldAt int
	token  token

	// out is what is to be written here, skip how much of the peer's stream is
	// not; told are of the checks.
	out    *stream
	ledger ledger
}

// wake is a wake-up of epoll: mask 0 is for all who watch.
func (e *end) wake(mask uint32) {
	if !e.watched || e.ready || mask != 0 && mask&(e.interest()) == 0 {
		return
	}
	e.ready = true
	e.poller.ready = append(e.poller.ready, e)
}

func (e *end) interest() uint32 {
	interest := uint32(unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLHUP | unix.EPOLLERR)
	if e.writes {
		interest |= unix.EPOLLOUT
	}
	return interest
}

// poll is tcp_poll of net/ipv4/tcp.c (Linux 6).
func (e *end) poll() uint32 {
	mask := uint32(0)
	if e.shutReads && e.shutWrites || e.dead {
		mask |= unix.EPOLLHUP
	}
	if e.shutReads {
		mask |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if !e.connecting {
		if e.arrived > e.taken {
			mask |= unix.EPOLLIN
		}
		if e.shutWrites || e.roomy() {
			mask |= unix.EPOLLOUT
		} else {
			e.noSpace = true
		}
	}
	if e.err != 0 {
		mask |= unix.EPOLLERR
	}
	return mask
}

// room is how many bytes may be written now.
func (e *end) room() int {
	if e.pressed {
		return 0
	}
	return e.buffer - (e.written - e.peer.arrived)
}

// roomy is sk_stream_is_writeable: a third is free.
func (e *end) roomy() bool { return !e.pressed && 3*e.room() >= e.buffer }

// spaced tells who waits for room that there is.
func (e *end) spaced() {
	if e.noSpace && e.roomy() {
		e.noSpace = false
		e.wake(unix.EPOLLOUT)
	}
}

// takeErr is sock_error.
func (e *end) takeErr() syscall.Errno {
	err := e.err
	e.err = 0
	return err
}

// readable is what a read finds: a number of bytes, an end (0), or an error.
func (e *end) readable() (int, syscall.Errno) {
	switch {
	case e.arrived > e.taken:
		return e.arrived - e.taken, 0
	case e.finArrived:
		return 0, 0
	case e.err != 0:
		return 0, e.takeErr()
	case e.shutReads:
		return 0, 0
	case e.dead:
		return 0, syscall.ENOTCONN
	}
	return 0, syscall.EAGAIN
}

// writable is what a write finds: room, or an error.
func (e *end) writable() (int, syscall.Errno) {
	switch {
	case e.connecting && e.err == 0:
		return 0, syscall.EAGAIN
	case e.err != 0:
		return 0, e.takeErr()
	case e.dead || e.shutWrites:
		return 0, syscall.EPIPE
	case e.room() <= 0:
		e.noSpace = true
		return 0, syscall.EAGAIN
	}
	return e.room(), 0
}

func (e *end) take(n int) { e.taken += n }

func (e *end) put(n int) {
	e.written += n
	if e.room() <= 0 {
		e.noSpace = true
	}
}

// shut is shutdown(2) of what is written.
func (e *end) shut() {
	if !e.dead && !e.connecting {
		e.finSent = true
	}
	e.shutWrites = true
	e.wake(0)
}

// closed is close(2): bytes left unread turn it into a reset.
func (e *end) closed() {
	e.watched = false
	switch {
	case e.dead:
	case e.connecting, e.arrived > e.taken:
		e.abort()
	default:
		e.finSent, e.orphan = true, true
	}
	e.orphan = true
}

// abort closes with a reset. What has not arrived yet may still do so in part.
func (e *end) abort() {
	e.watched, e.orphan = false, true
	if e.dead {
		return
	}
	e.die()
	e.resetSent, e.finSent = true, e.finSent && e.peer.finArrived
	if away := e.written - e.peer.arrived; away > 0 {
		e.written -= e.k.below(away + 1)
	}
}

func (e *end) die() {
	e.dead, e.connecting = true, false
	e.shutReads, e.shutWrites = true, true
}

// reset is tcp_reset of net/ipv4/tcp_input.c: a reset has arrived. What has
// arrived before can still be read.
func (e *end) reset() {
	if e.dead {
		return
	}
	switch {
	case e.connecting:
		e.err = syscall.ECONNREFUSED
	case e.finArrived && !e.finSent:
		e.err = syscall.EPIPE
	default:
		e.err = syscall.ECONNRESET
	}
	e.die()
	// What was under way from here is thrown away.
	e.written = min(e.written, e.peer.arrived)
	e.finSent, e.noSpace = false, false
	e.wake(0)
}

// timeout is what comes of bytes that are not acknowledged.
func (e *end) timeout() {
	if e.timed && !e.dead && !e.orphan && e.written > e.peer.arrived {
		e.k.note("%s times out", e.name)
		e.reset()
		e.err = syscall.ETIMEDOUT
	}
}

// pending reports whether the network has something to bring from here.
func (e *end) pending() bool {
	return e.movable() > 0 || e.written == e.peer.arrived && (e.finSent && !e.peer.finArrived || e.resetSent)
}

// movable is how many bytes the network may bring now.
func (e *end) movable() int {
	if e.peer.dead || e.peer.orphan {
		return e.written - e.peer.arrived
	}
	return min(e.written-e.peer.arrived, e.peer.window-(e.peer.arrived-e.peer.taken))
}

// deliver has the network bring n bytes, and what comes behind them.
func (e *end) deliver(n int) {
	to := e.peer
	if n > 0 {
		to.arrived += n
		if to.dead || to.orphan {
			to.taken = to.arrived
			if !to.dead {
				to.die()
				to.written = min(to.written, e.arrived)
			}
			// Nobody is there any more, which a reset says.
			e.reset()
			return
		}
		to.wake(unix.EPOLLIN)
		e.spaced()
	}
	if e.written != to.arrived {
		return
	}
	switch {
	case e.resetSent:
		e.resetSent = false
		to.reset()
	case e.finSent && !to.finArrived:
		to.finArrived, to.shutReads = true, true
		to.wake(0)
		if e.finArrived {
			// Both have ended, and know.
			e.die()
			to.die()
			e.wake(0)
		}
	}
}

// establish makes both ends connected.
func (e *end) establish() {
	e.connecting = false
	e.wake(0)
}

func (e *end) String() string {
	return fmt.Sprintf("%s{in %d/%d out %d/%d of %d fin %t<-%t dead %t err %d ready %t}",
		e.name, e.taken, e.arrived, e.peer.arrived, e.written, e.buffer, e.finSent, e.finArrived, e.dead, e.err, e.ready)
}

//go:build linux

package loop

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// listening is a socket that connections are accepted from. Its descriptor is
// closed by whoever gave it.
type listening struct {
	fd int
	// watched is false while accepting is paused.
	watched bool
}

const (
	// mostWaiting is how many connections the last look at a socket takes at most.
	mostWaiting = 4096
	// acceptPause is how long accepting pauses when there are no descriptors, at
	// first and at most. It goes on at once when a connection of the loop ends.
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// accept takes a connection, and reports whether there was one. Others that wait
// are told of again.
func (l *loop) accept(listener *listening) bool {
	fd, peer, err := l.kernel.accept(listener.fd)
	if err == syscall.EMFILE {
		l.kernel.flush()
		fd, peer, err = l.kernel.accept(listener.fd)
	}
	switch err {
	case 0:
		l.pause = 0
		l.admit(fd, peer)
		return true
	case syscall.EAGAIN, syscall.ECONNABORTED:
		// Another loop was faster, or the client has left.
	default:
		// There is no descriptor or memory, or accept(2) passes on what the network
		// has told of the new connection. Whatever it is may be told again without
		// end.
		l.pauseAccepting(err)
	}
	return false
}

// forget accepts no longer from a socket. What waits there is taken: of all who
// watch a socket, in this process and in a successor, the kernel wakes one for each
// connection, and that may have been this loop, which has not looked yet.
func (l *loop) forget(listener *listening) {
	if listener.watched {
		listener.watched = false
		l.kernel.unwatch(listener.fd)
	}
	// From here on nothing resumes to accept from it, as the end of a connection
	// does in a pause.
	last := listening{fd: listener.fd}
	*listener = listening{fd: -1}
	for range mostWaiting {
		if !l.accept(&last) {
			break
		}
	}
}

// pauseAccepting leaves connections in the queue for a while.
func (l *loop) pauseAccepting(why syscall.Errno) {
	l.pause = min(max(2*l.pause, acceptPause), acceptPauseMax)
	l.resumeAt = l.now + int64(l.pause)
	for _, listener := range l.listeners {
		if listener.watched {
			listener.watched = false
			l.kernel.unwatch(listener.fd)
		}
	}
	l.shed()
	l.cfg.Logger.Warn("accepting is paused", "pause", l.pause, "err", why)
}

// resumeAccepting ends a pause.
func (l *loop) resumeAccepting() {
	l.resumeAt = 0
	for i, listener := range l.listeners {
		if !listener.watched && listener.fd >= 0 {
			listener.watched = l.kernel.listen(listener.fd, tokenOf(0, uint32(i), client)) == 0
		}
	}
}

// admit counts a connection that was accepted, and has the loop begin with it that
// has the fewest, if this one has many more.
func (l *loop) admit(fd int, peer netip.AddrPort) {
	excess := l.shared.open.Add(1) > int64(l.cfg.MaxConnections)
	l.counts.Accepted.Add(1)
	if to := l.shared.lighter(l); to != l && !excess {
		to.counts.Open.Add(1)
		to.ask(mail{what: begin, fd: fd, peer: peer})
		return
	}
	l.counts.Open.Add(1)
	l.open(fd, peer, excess)
}

// open begins with a connection; one in excess of the limit is reset.
func (l *loop) open(fd int, peer netip.AddrPort, excess bool) {
	c := l.slots.take()
	c.start, c.peer, c.source = l.now, peer, peer
	c.sockets[client] = socket{fd: int32(fd), readable: true, writable: true, isThere: true}
	if excess {
		l.kernel.reset(fd)
		c.sockets[client].isThere = false
		l.end(c, table.ReasonConnectionLimit, "")
		return
	}
	if refused := l.enterNetwork(c); refused != nil {
		l.kernel.reset(fd)
		c.sockets[client].isThere = false
		l.end(c, refused.Reason, refused.Detail)
		return
	}
	c.state = waiting
	o := l.scratch
	*o = opening{}
	o.intake.Begin(l.cfg, &l.shared.memory, peer)
	l.hear(c, o)
}

// enterNetwork counts a connection with its source network. One whose peer may
// name another source is counted when it has.
func (l *loop) enterNetwork(c *connection) *engine.Refusal {
	if l.cfg.MaxPerNetwork == 0 || c.counted || c.source == c.peer && l.cfg.MayProxy(c.peer) {
		return nil
	}
	refused := l.shared.networks.Enter(c.source.Addr(), l.cfg.MaxPerNetwork)
	c.counted = refused == nil
	return refused
}

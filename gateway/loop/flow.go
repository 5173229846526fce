//go:build linux

package loop

import (
	"net"
	"syscall"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// flow is one direction of a connection. At most one of pending and the pipe
// holds bytes, and nothing is read while there are some: so a slow receiver slows
// the sender down, and costs one block at most.
type flow struct {
	// moved is how many bytes the receiver's socket has taken, counted how many
	// of them are in the counters.
	moved, counted uint64
	// pending is what was read and is still to be written, rest what comes
	// behind it; block is what pending lies in, nil when that is the loop's own
	// buffer, or memory of the hello's.
	pending []byte
	rest    net.Buffers
	block   *block
	// pipe is there while it holds bytes, or a turn uses it.
	pipe *pipe
	// full counts bytes of full reads in a row.
	full int
	// ended: the sender has ended. closed: the receiver was told.
	ended, closed bool
}

// block is what one read fills.
type block [blockSize]byte

const (
	blockSize = 64 << 10
	// spliceAfter is how many bytes in a row make a flow big: a pipe costs two
	// descriptors and more calls, which small ones never earn back.
	spliceAfter = 128 << 10
	// spliceAtLeast: less than this is cheaper to read and write.
	spliceAtLeast = 16 << 10
	// turnBytes is how many bytes one flow moves at once, while others wait, and about
	// how many big ones move together in one turn.
	turnBytes = 1 << 20
	// keptBlocks is how many unused blocks a loop keeps.
	keptBlocks = 16
	// heldBlocks is how many blocks the flows of a loop hold at most, for
	// receivers that have no room. Beyond that no more is read at once than
	// smallRead, which is held in as much memory as it takes.
	heldBlocks = 512
	smallRead  = 4 << 10
)

// progress is what came of moving.
type progress uint8

const (
	// idle: an event will tell when there is more to do.
	idle progress = iota
	// more: there is more to do in the next turn.
	more
	// over: the connection has ended.
	over
)

// pump moves what there is to move of a joined connection, both ways.
func (l *loop) pump(c *connection) {
	again := false
	for _, from := range [2]side{client, upstream} {
		p := l.move(c, from)
		if p == over {
			return
		}
		again = again || p == more
	}
	l.count(c)
	switch {
	case c.flows[client].closed && c.flows[upstream].closed:
		l.end(c, table.ReasonDone, "")
	case l.spread(c):
	case again:
		l.enqueue(c)
	}
}

// move moves one direction until there is nothing more to read or no room, or its
// share of the turn is over.
func (l *loop) move(c *connection, from side) progress {
	f, in, out := &c.flows[from], &c.sockets[from], &c.sockets[from.other()]
	for share := l.share; share > 0; {
		if f.holds() {
			n, err := l.drain(f, out)
			share -= n
			l.spent += n
			switch {
			case err == syscall.EAGAIN:
				return l.awaitRoom(c, from)
			case err != 0:
				return l.broke(c, from.other(), "write", err)
			}
			continue
		}
		if f.ended {
			l.givePipe(f)
			if !f.closed {
				f.closed = true
				l.kernel.shutdown(int(out.fd))
			}
			return l.checkBroken(c, from)
		}
		if !in.readable {
			l.givePipe(f)
			return idle
		}
		if err := l.fill(f, in); err != 0 {
			return l.broke(c, from, "read", err)
		}
		if c.timed && l.answeredAhead(c, from) == over {
			return over
		}
	}
	if !f.holds() {
		l.givePipe(f)
	}
	return more
}

// pours reports whether a connection moves many bytes at present.
func (c *connection) pours() bool {
	return c.flows[client].full >= spliceAfter || c.flows[upstream].full >= spliceAfter
}

// holds reports whether there are bytes that were read and not written.
func (f *flow) holds() bool { return len(f.pending) > 0 || f.pipe != nil && f.pipe.holds > 0 }

// fill reads once. EAGAIN is no error of it.
func (l *loop) fill(f *flow, in *socket) syscall.Errno {
	// splice(2) stops in front of an urgent byte for ever; reading leaves it out.
	if f.full >= spliceAfter && !in.hung && l.takePipe(f) {
		return l.fillPipe(f, in)
	}
	l.givePipe(f)
	room := l.buffer[:]
	if l.held >= heldBlocks {
		room = room[:smallRead]
	}
	n, err := l.kernel.read(int(in.fd), room)
	switch {
	case err == syscall.EAGAIN:
		in.readable = false
		return 0
	case err != 0:
		return err
	case n == 0:
		f.ended, in.readable = true, false
		return 0
	case n == len(room):
		f.full += n
	default:
		if f.full < spliceAfter {
			f.full = 0
		}
		// All was read, unless there is something behind it that is no bytes.
		in.readable = in.hung
	}
	f.pending = l.buffer[:n]
	return 0
}

// drain writes once of what there is.
func (l *loop) drain(f *flow, out *socket) (int, syscall.Errno) {
	if f.pipe != nil && f.pipe.holds > 0 {
		return l.drainPipe(f, out)
	}
	n, err := 0, syscall.EAGAIN
	if out.writable {
		n, err = l.kernel.write(int(out.fd), f.pending)
	}
	f.moved += uint64(n)
	f.pending = f.pending[n:]
	if len(f.pending) > 0 {
		l.hold(f)
		return n, err
	}
	if len(f.rest) > 0 {
		f.pending, f.rest = f.rest[0], f.rest[1:]
		return n, err
	}
	f.pending, f.rest = nil, nil
	l.giveBlock(f)
	return n, err
}

// hold makes pending bytes survive the turn. If they lie in the loop's buffer and
// are many, that becomes the flow's, and the loop takes another.
func (l *loop) hold(f *flow) {
	switch {
	case f.block != nil || !l.inBuffer(f.pending):
	case len(f.pending) <= smallRead:
		f.pending = append([]byte(nil), f.pending...)
	default:
		f.block, l.buffer = l.buffer, l.takeBlock()
		l.held++
	}
}

// inBuffer reports whether bytes lie in the loop's buffer. A slice of it ends
// where it ends.
func (l *loop) inBuffer(b []byte) bool {
	return &b[:cap(b)][cap(b)-1] == &l.buffer[blockSize-1]
}

func (l *loop) takeBlock() *block {
	if n := len(l.blocks); n > 0 {
		b := l.blocks[n-1]
		l.blocks = l.blocks[:n-1]
		return b
	}
	return new(block)
}

// giveBlock takes the block of a flow back that holds nothing.
func (l *loop) giveBlock(f *flow) {
	if f.block == nil {
		return
	}
	if len(l.blocks) < keptBlocks {
		l.blocks = append(l.blocks, f.block)
	}
	f.block = nil
	l.held--
}

// awaitRoom has an event tell when the receiver has room.
func (l *loop) awaitRoom(c *connection, from side) progress {
	to := from.other()
	out := &c.sockets[to]
	out.writable = false
	if !out.watchedWrites {
		out.watchedWrites = true
		if err := l.kernel.watch(int(out.fd), tokenOf(c.generation, c.slot, to), true); err != 0 {
			return l.broke(c, to, "epoll_ctl", err)
		}
	}
	return idle
}

// checkBroken finds the reset of a side that had ended already.
func (l *loop) checkBroken(c *connection, from side) progress {
	in := &c.sockets[from]
	if in.broken {
		in.broken = false
		if err := l.kernel.outcome(int(in.fd)); err != 0 {
			return l.broke(c, from, "read", err)
		}
	}
	return idle
}

// count adds what was moved to the counters.
func (l *loop) count(c *connection) {
	if c.opening != nil {
		return // It may yet be another endpoint's.
	}
	if in := &c.flows[client]; in.counted < in.moved {
		n := in.moved - in.counted
		in.counted = in.moved
		l.counts.BytesIn.Add(n)
		c.route.Counters.BytesIn.Add(n)
		c.endpoint.Counters.BytesIn.Add(n)
	}
	if out := &c.flows[upstream]; out.counted < out.moved {
		n := out.moved - out.counted
		out.counted = out.moved
		l.counts.BytesOut.Add(n)
		c.route.Counters.BytesOut.Add(n)
		c.endpoint.Counters.BytesOut.Add(n)
	}
}

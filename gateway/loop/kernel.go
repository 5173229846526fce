//go:build linux

package loop

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// kernel is the system calls of one loop. None of them blocks but wait. Errors
// are the kernel's own numbers; 0 is none. EINTR is never returned.
type kernel interface {
	// wait fills in what has happened to watched descriptors, and waits for it
	// for so long: not at all for 0, without end if negative. It returns early
	// after wake.
	wait(events []event, longest time.Duration) int
	// wake makes wait return, now or the next time. Any goroutine may call it.
	wake()

	// listen watches a listening socket: an event tells that there is something
	// to accept, again and again while that is so.
	listen(fd int, t token) syscall.Errno
	// watch tells of changes of a socket: once when there is something to read,
	// then at each further arrival; with writes also whenever there is room
	// again. Watching again changes whether it is told of writes.
	watch(fd int, t token, writes bool) syscall.Errno
	unwatch(fd int)

	accept(listener int) (fd int, peer netip.AddrPort, err syscall.Errno)
	// dial begins to connect. Whether that has failed is told by the first write,
	// which finds EAGAIN before it is decided, or by outcome. greeted: there is
	// something to write as soon as it has connected.
	dial(address netip.AddrPort, greeted bool) (fd int, err syscall.Errno)
	// outcome is the error that a socket has come to, once.
	outcome(fd int) syscall.Errno
	read(fd int, b []byte) (int, syscall.Errno)
	write(fd int, b []byte) (int, syscall.Errno)
	// pipe makes a pipe that holds at most size bytes; splice moves bytes between
	// a pipe and a socket.
	pipe() (read, write, size int, err syscall.Errno)
	splice(from, to, most int) (int, syscall.Errno)
	keepAlive(fd int, k table.Keepalive)
	// userTimeout ends a connection whose bytes are not acknowledged for so long;
	// 0: as the system has it.
	userTimeout(fd int, after time.Duration)

	// unpace has what is written leave at once, where the system would pace it.
	unpace(fd int)

	// shutdown ends what is written.
	shutdown(fd int)
	// close closes, at once or before the next wait: the number stays taken so long,
	// but nothing more may be done with it. flush closes at once what waits for that.
	close(fd int)
	flush()
	// reset closes so that the peer sees a reset.
	reset(fd int)
}

// token is what the kernel gives back with an event: whose it is. The generation
// is in it because a descriptor's number, and a slot, are used again while events
// of their last use may still come.
type token uint64

// event is what has happened to a watched descriptor.
type event struct {
	token token
	// readable: there is something to read, be it an end or an error. writable:
	// there is room, or an error.
	readable, writable bool
	// hung: it has ended, failed, or carries urgent data, so that a short read
	// is no sign that all was read.
	hung bool
	// broken: it has an error.
	broken bool
}

func tokenOf(generation, slot uint32, s side) token {
	return token(generation)<<32 | token(slot)<<1 | token(s)
}

func (t token) generation() uint32 { return uint32(t >> 32) }
func (t token) slot() uint32       { return uint32(t) >> 1 }
func (t token) side() side         { return side(t & 1) }

//go:build linux

package loop

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func (k *simulated) read(fd int, b []byte) (int, syscall.Errno) {
	e := k.end("read", fd)
	if len(b) == 0 {
		k.fail("read of %s into nothing", e.name)
	}
	n, err := e.readable()
	n = min(n, len(b))
	if all := n; n > 0 {
		// A short read says that there was no more (see epoll(7)). So if it is cut
		// short, the rest has come just after it.
		n = k.short(n)
		k.gained++
		e.peer.out.fill(e.taken, b[:n])
		e.take(n)
		if n < all {
			e.wake(unix.EPOLLIN)
		}
	}
	k.note("read %s: %d %d", e.name, n, err)
	k.audit.hasRead(e, n, err)
	return n, err
}

func (k *simulated) write(fd int, b []byte) (int, syscall.Errno) {
	e := k.end("write", fd)
	if len(b) == 0 {
		k.fail("write of nothing to %s", e.name)
	}
	n, err := k.roomOf(e, len(b))
	k.note("write %d to %s: %d %d", len(b), e.name, n, err)
	k.audit.writes(e, b[:max(n, min(len(b), 64))])
	if n > 0 {
		k.gained++
		k.audit.wrote(e, b[:n])
		e.put(n)
	}
	k.audit.hasWritten(e, err)
	return n, err
}

// roomOf is how much of so many bytes a write takes.
func (k *simulated) roomOf(e *end, most int) (int, syscall.Errno) {
	n, err := e.writable()
	if err != 0 {
		return 0, err
	}
	if k.rarely(64) {
		e.pressed, e.noSpace = true, true
		return 0, syscall.EAGAIN
	}
	return k.short(min(n, most)), 0
}

func (k *simulated) pipe() (read, write, size int, err syscall.Errno) {
	k.calls++
	if k.rarely(8) {
		return -1, -1, 0, syscall.EMFILE
	}
	p := &simPipe{size: 1 << 20}
	if !k.exact && k.below(2) == 1 {
		p.size = 4096 << k.below(6)
	}
	read = k.open(&pipeEnd{pipe: p, reads: true})
	write = k.open(&pipeEnd{pipe: p})
	k.note("pipe: %d %d holds %d", read, write, p.size)
	return read, write, p.size, 0
}

func (k *simulated) splice(from, to, most int) (int, syscall.Errno) {
	if most <= 0 {
		k.fail("splice of nothing")
	}
	switch f := k.file("splice", from).(type) {
	case *end:
		p, is := k.file("splice", to).(*pipeEnd)
		if !is || p.reads {
			k.fail("splice to descriptor %d, which is no pipe to write to", to)
		}
		return k.spliceIn(f, p.pipe, most)
	case *pipeEnd:
		e := k.end("splice", to)
		if !f.reads {
			k.fail("splice from descriptor %d, which is no pipe to read from", from)
		}
		return k.spliceOut(f.pipe, e, most)
	}
	k.fail("splice from descriptor %d, which is neither", from)
	return 0, 0
}

func (k *simulated) spliceIn(e *end, p *simPipe, most int) (int, syscall.Errno) {
	if p.holds == p.size {
		return 0, syscall.EAGAIN
	}
	n, err := e.readable()
	n = k.short(min(n, most, p.size-p.holds))
	if n > 0 {
		k.gained++
		p.pieces = append(p.pieces, piece{of: e.peer, at: e.taken, size: n})
		p.holds += n
		e.take(n)
	}
	k.note("splice from %s: %d %d", e.name, n, err)
	k.audit.hasRead(e, n, err)
	return n, err
}

func (k *simulated) spliceOut(p *simPipe, e *end, most int) (int, syscall.Errno) {
	if p.holds == 0 {
		return 0, syscall.EAGAIN
	}
	n, err := k.roomOf(e, min(most, p.holds))
	k.note("splice %d to %s: %d %d", most, e.name, n, err)
	for left := n; left > 0; {
		first := &p.pieces[0]
		m := min(left, first.size)
		k.audit.spliced(e, first.of, first.at, m)
		e.put(m)
		first.at, first.size, left = first.at+m, first.size-m, left-m
		p.holds -= m
		if first.size == 0 {
			p.pieces = p.pieces[1:]
		}
	}
	if n > 0 {
		k.gained++
	}
	k.audit.hasWritten(e, err)
	return n, err
}

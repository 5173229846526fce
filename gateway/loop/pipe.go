//go:build linux

package loop

import "syscall"

// pipe is where spliced bytes are between two sockets.
type pipe struct {
	read, write int
	size, holds int
}

const (
	// maxPipes is how many pipes a loop has at most: flows beyond them are read
	// and written. Each takes two descriptors, and holds a megabyte at most.
	maxPipes = 32
)

// pipes are those of one loop. A flow has one only while it holds bytes, or for
// its share of a turn.
type pipes struct {
	unused []*pipe
	// made is how many there are.
	made int
	// refused: there was no descriptor or memory for another.
	refused bool
}

// takePipe makes a flow have a pipe, if there is one.
func (l *loop) takePipe(f *flow) bool {
	if f.pipe != nil {
		return true
	}
	p := &l.pipes
	if n := len(p.unused); n > 0 {
		f.pipe = p.unused[n-1]
		p.unused = p.unused[:n-1]
		return true
	}
	if p.made == maxPipes || p.refused {
		return false
	}
	read, write, size, err := l.kernel.pipe()
	if err != 0 {
		// It stays so until a descriptor is given back.
		p.refused = true
		return false
	}
	p.made++
	f.pipe = &pipe{read: read, write: write, size: size}
	return true
}

// givePipe takes an empty pipe back.
func (l *loop) givePipe(f *flow) {
	if f.pipe == nil {
		return
	}
	if f.pipe.holds > 0 {
		// What it holds is nobody's any more.
		l.closePipe(f.pipe)
		f.pipe = nil
		return
	}
	l.pipes.unused = append(l.pipes.unused, f.pipe)
	f.pipe = nil
}

func (l *loop) closePipe(p *pipe) {
	l.kernel.close(p.read)
	l.kernel.close(p.write)
	l.pipes.made--
}

// fillPipe moves what has arrived into the flow's pipe.
func (l *loop) fillPipe(f *flow, in *socket) syscall.Errno {
	n, err := l.kernel.splice(int(in.fd), f.pipe.write, f.pipe.size)
	switch {
	case err == syscall.EAGAIN:
		in.readable = false
		return 0
	case err != 0:
		return err
	case n == 0:
		f.ended, in.readable = true, false
		return 0
	case n < spliceAtLeast:
		f.full = 0
	}
	f.pipe.holds = n
	return 0
}

// drainPipe moves what the pipe holds to the receiver.
func (l *loop) drainPipe(f *flow, out *socket) (int, syscall.Errno) {
	n, err := 0, syscall.EAGAIN
	if out.writable {
		n, err = l.kernel.splice(f.pipe.read, int(out.fd), f.pipe.holds)
	}
	f.pipe.holds -= n
	f.moved += uint64(n)
	if f.pipe.holds == 0 && f.full < spliceAfter {
		l.givePipe(f)
	}
	return n, err
}

// free closes the unused pipes.
func (l *loop) freePipes() {
	for _, p := range l.pipes.unused {
		l.closePipe(p)
	}
	l.pipes.unused = nil
}

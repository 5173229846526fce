//go:build linux

package loop

import (
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// simPoller is the simulated kernel as one loop has it: with an epoll of its own.
type simPoller struct {
	*simulated
	ready []*end
	// late are events that were told, and come once more.
	late []lateEvent
	// waits is how often it has waited.
	waits int
}

type lateEvent struct {
	of *end
	event
}

// isStale reports whether the connection is over that it is of. One that tries
// another endpoint goes on under the same token; Linux tells nothing of a socket
// that was closed before the wait.
func (e *lateEvent) isStale() bool {
	client := e.of.ledger.remote
	if c := e.of.ledger.of; c != nil {
		client = c
	}
	return e.of.fd >= 0 || client.ours.fd < 0
}

func (p *simPoller) wait(events []event, _ time.Duration) int {
	n := 0
	p.waits++
	late := p.late[:0]
	for _, e := range p.late {
		switch {
		case p.below(4) > 0:
			late = append(late, e)
		case e.isStale():
			p.note("late event of %s: %+v", e.of.name, e.event)
			events[n] = e.event
			n++
		}
	}
	p.late = late
	ready := p.ready
	p.ready = nil
	if !p.exact {
		for i := len(ready) - 1; i > 0; i-- {
			j := i - p.below(i+1)
			ready[i], ready[j] = ready[j], ready[i]
		}
	}
	for _, e := range ready {
		switch {
		case !e.watched:
			e.ready = false
		case n == len(events), p.rarely(8):
			p.ready = append(p.ready, e)
		default:
			e.ready = false
			if mask := e.poll() & e.interest(); mask != 0 {
				events[n] = eventOf(e.token, mask)
				e.toldAt = p.waits
				p.note("event of %s: %+v", e.name, events[n])
				if len(p.late) < 8 && p.rarely(4) {
					p.late = append(p.late, lateEvent{e, events[n]})
				}
				n++
			}
		}
	}
	for _, f := range p.files {
		switch f := f.(type) {
		case *simListener:
			t, watched := f.watching[p]
			if watched && n < len(events) && (len(f.queue) > 0 && !p.rarely(8) || p.rarely(64)) {
				events[n] = event{token: t, readable: true}
				n++
			}
		case *end:
			if f.watched && f.poller == p && f.toldAt != p.waits && n < len(events) && p.rarely(32) {
				// A spurious one.
				events[n] = event{token: f.token, readable: true, writable: f.poll()&unix.EPOLLOUT != 0}
				n++
			}
		}
	}
	if !p.exact && n > 1 {
		// Where a listener's come is chance too.
		i := p.below(n)
		events[0], events[i] = events[i], events[0]
	}
	return n
}

// eventOf is what system.wait makes of a mask.
func eventOf(t token, mask uint32) event {
	const ended = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	return event{
		token:    t,
		readable: mask&(unix.EPOLLIN|ended) != 0,
		writable: mask&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0,
		hung:     mask&(unix.EPOLLPRI|ended) != 0,
		broken:   mask&unix.EPOLLERR != 0,
	}
}

func (p *simPoller) wake() {}

func (p *simPoller) listen(fd int, t token) syscall.Errno {
	l := p.listener("listen", fd)
	if _, watched := l.watching[p]; watched {
		p.fail("listen of descriptor %d, which is watched", fd)
	}
	l.watching[p] = t
	return 0
}

func (p *simPoller) watch(fd int, t token, writes bool) syscall.Errno {
	e := p.end("watch", fd)
	if p.rarely(256) || p.scarce && p.rarely(8) {
		p.note("watch %s: no memory", e.name)
		e.ledger.unwatched = true
		return syscall.ENOMEM
	}
	p.note("watch %s writes %t", e.name, writes)
	if e.watched && e.poller != p {
		p.fail("%s is watched by two loops", e.name)
	}
	e.watched, e.poller, e.token, e.writes = true, p, t, writes
	e.ledger.unwatched = false
	if e.poll()&e.interest() != 0 {
		e.wake(0)
	}
	return 0
}

func (p *simPoller) unwatch(fd int) {
	switch f := p.file("unwatch", fd).(type) {
	case *simListener:
		if _, watched := f.watching[p]; !watched {
			p.fail("unwatch of descriptor %d, which is not watched", fd)
		}
		delete(f.watching, p)
	case *end:
		p.note("unwatch %s", f.name)
		if !f.watched || f.poller != p {
			p.fail("unwatch of %s, which is not watched here", f.name)
		}
		f.watched, f.ready = false, false
		p.ready = slices.DeleteFunc(p.ready, func(e *end) bool { return e == f })
	}
}

//go:build linux

package loop

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// mailbox is what other goroutines ask of a loop.
type mailbox struct {
	// full: there is something in it.
	full  atomic.Bool
	mu    sync.Mutex
	mails []mail
}

// mail is one thing asked; done is closed when it was done, if it is not nil.
type mail struct {
	what request
	fd   int
	// peer is whose connection begins, connection one that is taken over.
	peer       netip.AddrPort
	connection *connection
	done       chan<- struct{}
}

// request is what is asked.
type request uint8

const (
	// listen accepts from a socket, unlisten no longer.
	listen request = iota
	unlisten
	// begin begins with a connection that another loop has accepted, take takes
	// one over.
	begin
	take
	// sendAway ends the connection that has waited longest for its hello.
	sendAway
	// closeAhead ends what was opened ahead, and opens nothing more.
	closeAhead
	// cutAll ends all connections.
	cutAll
	// stop ends the loop, which has no connections left.
	stop
)

// ask has a loop do something, at the beginning of its next turn. Any goroutine
// may call it.
func (l *loop) ask(m mail) {
	l.mail.mu.Lock()
	l.mail.mails = append(l.mail.mails, m)
	l.mail.full.Store(true)
	l.mail.mu.Unlock()
	l.kernel.wake()
}

// takeMail does what was asked.
func (l *loop) takeMail() {
	if !l.mail.full.Load() {
		return
	}
	l.mail.mu.Lock()
	mails := l.mail.mails
	l.mail.mails = nil
	l.mail.full.Store(false)
	l.mail.mu.Unlock()
	for _, m := range mails {
		l.do(m)
		if l.cutting {
			l.cut()
		}
		if m.done != nil {
			close(m.done)
		}
	}
}

func (l *loop) do(m mail) {
	switch m.what {
	case listen:
		l.listeners = append(l.listeners, &listening{fd: m.fd})
		if l.resumeAt == 0 {
			l.resumeAccepting()
		}
	case unlisten:
		for _, listener := range l.listeners {
			if listener.fd == m.fd {
				l.forget(listener)
			}
		}
	case begin:
		l.open(m.fd, m.peer, false)
	case take:
		l.receive(m.connection)
	case sendAway:
		l.makeRoom()
	case closeAhead:
		l.closeAhead()
	case cutAll:
		l.cutting = true
	case stop:
		l.stopped = true
	}
}

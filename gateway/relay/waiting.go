package relay

import (
	"net"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

// waitingList is the connections that wait for their hello, the longest first.
// It keeps their number: one too many sends the first of them away, so that
// silent clients cannot keep out those that speak.
type waitingList struct {
	max         int
	mu          sync.Mutex
	first, last *waiter
	count       int
	closed      bool
}

// waiter is one connection's place in the list.
type waiter struct {
	conn           net.Conn
	previous, next *waiter
	listed         bool
	// sentAway is set when the list ended the wait, and why.
	sentAway error
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// enter puts a connection at the end of the list.
func (l *waitingList) enter(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.previous, w.listed = l.last, true
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
	l.count++
	if l.closed {
		l.sendAway(w, errDrained)
	}
	if l.count > l.max {
		l.sendAway(l.first, engine.ErrTooManyWait)
	}
}

// leave takes a connection off the list and returns why it was sent away, if it
// was.
func (l *waitingList) leave(w *waiter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(w)
	return w.sentAway
}

// closeAll sends everyone away, and everyone who comes later.
func (l *waitingList) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for l.first != nil {
		l.sendAway(l.first, errDrained)
	}
}

func (l *waitingList) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// sendAway ends a wait: the read returns, and its session asks why.
func (l *waitingList) sendAway(w *waiter, why error) {
	if w.sentAway == nil {
		w.sentAway = why
		_ = w.conn.SetReadDeadline(past)
	}
	l.remove(w)
}

func (l *waitingList) remove(w *waiter) {
	if !w.listed {
		return
	}
	w.listed = false
	l.count--
	if w.previous == nil {
		l.first = w.next
	} else {
		w.previous.next = w.next
	}
	if w.next == nil {
		l.last = w.previous
	} else {
		w.next.previous = w.previous
	}
	w.previous, w.next = nil, nil
}

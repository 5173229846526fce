//go:build linux

package loop

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// visitEvery is how often a joined connection is looked at, unless its idle timeout
// asks for more.
const (
	visitEvery = 5 * time.Second
	// visitsTogether is how many times there are visits while a connection waits
	// for its next one.
	visitsTogether = 8
)

// loop is one event loop with its connections. All but mail and what is atomic
// is used by its own goroutine alone.
type loop struct {
	cfg    *engine.Config
	shared *shared
	kernel kernel
	mail   mailbox
	counts engine.Counts
	// oldest is since when the first of those that wait has waited; 0: none does.
	oldest atomic.Int64
	// big is how many connections of the loop are big.
	big atomic.Int64

	// now and time are the present turn's time.
	now  int64
	time time.Time

	events    [maxEvents]event
	listeners []*listening
	slots     slots
	deadlines deadlines
	// waiting are connections that wait for their hello, aging the joined ones,
	// by the time of their next visit.
	waiting, aging list
	// again are the connections that have more to do, big ones mostly; spent is how
	// many bytes the turn has moved.
	again queue
	spent int

	// pause is how long accepting is paused, resumeAt when that is over; 0: it is
	// not paused.
	pause    time.Duration
	resumeAt int64

	// share is turnBytes, slack the constant; a simulation has less.
	share  int
	slack  int64
	buffer *block
	blocks []*block
	// held is how many blocks flows hold.
	held     int
	pipes    pipes
	pools    pools
	scratch  *opening
	openings []*opening
	folded   [hello.MaxName]byte
	// cutting: whatever still comes is ended at once.
	cutting, stopped bool
}

func newLoop(cfg *engine.Config, s *shared, k kernel) *loop {
	return &loop{cfg: cfg, shared: s, kernel: k, share: turnBytes, slack: slack, buffer: new(block), scratch: &opening{}}
}

// run takes turns until it is stopped.
func (l *loop) run() {
	l.time = time.Now()
	l.now = l.time.UnixNano()
	for !l.stopped {
		n := l.kernel.wait(l.events[:], l.patience())
		l.turn(time.Now(), l.events[:n])
	}
	l.freePipes()
}

// turn does what there is to do at a time: all that costs time happens in it.
func (l *loop) turn(now time.Time, events []event) {
	l.time, l.now = now, now.UnixNano()
	l.spent = 0
	l.takeMail()
	for i := range events {
		l.take(&events[i])
	}
	l.goOn()
	l.expire()
	l.openAhead()
}

// goOn moves what the queued connections have, each once, until a share was moved:
// behind that, somebody small may have come whom the next wait tells of.
func (l *loop) goOn() {
	for range l.again.length() {
		t := l.again.pop()
		c := l.slots.find(t.slot(), t.generation())
		if c == nil || c.state != joined {
			continue
		}
		c.queued = false
		l.pump(c)
		if l.spent >= l.share {
			return
		}
	}
}

// enqueue has a connection go on when those before it have had their share.
func (l *loop) enqueue(c *connection) {
	if !c.queued {
		c.queued = true
		l.again.push(tokenOf(c.generation, c.slot, client))
	}
}

// patience is how long there is nothing to do unless something happens.
func (l *loop) patience() time.Duration {
	if l.again.length() > 0 {
		return 0
	}
	next := l.deadlines.next()
	for _, at := range [3]int64{l.resumeAt, l.nextVisit(), l.pools.visit} {
		if at != 0 && (next == 0 || at < next) {
			next = at
		}
	}
	if next == 0 {
		return -1
	}
	return time.Duration(max(next-l.now, 0))
}

func (l *loop) nextVisit() int64 {
	if l.aging.first == nil {
		return 0
	}
	return l.aging.first.visit
}

// take takes one event.
func (l *loop) take(e *event) {
	generation := e.token.generation()
	if generation == 0 {
		if i := int(e.token.slot()); i < len(l.listeners) && l.listeners[i].watched {
			l.accept(l.listeners[i])
		}
		return
	}
	c := l.slots.find(e.token.slot(), generation)
	if c == nil {
		return // Its connection has ended: the event is stale.
	}
	k := &c.sockets[e.token.side()]
	k.readable = k.readable || e.readable
	k.writable = k.writable || e.writable
	k.hung = k.hung || e.hung
	k.broken = k.broken || e.broken
	switch c.state {
	case waiting:
		l.hear(c, c.opening)
	case connecting:
		if e.token.side() == upstream && e.writable {
			l.answered(c)
		}
	case joined:
		if c.pours() {
			l.enqueue(c)
		} else {
			l.pump(c)
		}
	case lingering:
		l.linger(c)
	case dialling, ready:
		l.heardAhead(c)
	case free:
	}
}

// expire ends what has taken too long, and visits those that are due.
func (l *loop) expire() {
	for {
		d, is := l.deadlines.pop(l.now)
		if !is {
			break
		}
		if c := l.slots.find(d.slot, d.generation); c != nil && c.deadline == d.at {
			l.tooLate(c)
		}
	}
	for c := l.aging.first; c != nil && c.visit <= l.now; c = l.aging.first {
		l.aging.remove(c)
		l.age(c)
		l.look(c)
	}
	if l.resumeAt != 0 && l.resumeAt <= l.now {
		l.resumeAccepting()
	}
}

// tooLate goes on with a connection whose deadline is over.
func (l *loop) tooLate(c *connection) {
	c.deadline = 0
	switch c.state {
	case waiting:
		l.refuse(c, c.opening, &engine.Refusal{Reason: table.ReasonHelloTimeout})
	case connecting:
		l.nextEndpoint(c, os.ErrDeadlineExceeded)
	case lingering:
		l.end(c, c.refusal.Reason, c.refusal.Detail)
	case dialling:
		l.aheadFailed(c, os.ErrDeadlineExceeded)
	case joined, free, ready:
	}
}

// age has a joined connection visited.
func (l *loop) age(c *connection) {
	after := visitEvery
	if idle := l.cfg.IdleTimeout; idle > 0 {
		after = min(after, idle/engine.IdleShare)
	}
	// Many are due together, so that a loop with idle connections sleeps in between.
	together := max(int64(after/visitsTogether), 1)
	c.visit = (l.now + int64(after)) / together * together
	l.aging.push(c)
}

// look looks at a joined connection that has lived for a while. What only matters
// to those that do is done here, so that the many short ones need not pay for it.
func (l *loop) look(c *connection) {
	if !c.keptAlive {
		c.keptAlive = true
		l.kernel.keepAlive(int(c.sockets[client].fd), engine.Probing(nil, l.cfg.Random()))
		l.kernel.keepAlive(int(c.sockets[upstream].fd), l.cfg.Probing(c.route, c.table.Settings))
	}
	moved := c.flows[client].moved + c.flows[upstream].moved
	if moved != c.moved {
		c.moved, c.idleSince = moved, l.now
		return
	}
	if idle := l.cfg.IdleTimeout; idle > 0 && l.now-c.idleSince >= int64(idle) {
		l.resetSockets(c)
		l.end(c, table.ReasonIdle, "")
	}
}

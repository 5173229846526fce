//go:build linux

package loop

import (
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Connections to the gateways of other datacenters that are opened before anybody
// asks for them, so that a client does not wait for the round trip that opening
// takes. ADR 0012 has the reasons and the figures.

const (
	// aheadAge is how old a ready connection may be: less than the far side bears
	// with one that says nothing. It is learnt where that is less, down to
	// aheadLeast; below it none is opened for aheadRest.
	aheadAge   = 3 * time.Second
	aheadLeast = 250 * time.Millisecond
	aheadRest  = time.Minute
	// aheadVisit is how often pools are looked at.
	aheadVisit = 500 * time.Millisecond
	// aheadKept is how long after the last use one connection is kept ready.
	aheadKept = time.Minute
)

// pools are those of one loop.
type pools struct {
	of map[*table.Endpoint]*pool
	// all are the same, in the order in which they were made.
	all []*pool
	// visit is when they are looked at next; 0: there are none.
	visit int64
	// asked: somebody has taken a connection in this turn, or found none. ended: the
	// far side has ended a ready one in it.
	asked, ended, closed bool
}

// pool is the connections that were opened ahead to one endpoint.
type pool struct {
	endpoint *table.Endpoint
	route    *table.Route
	budget   time.Duration
	// ready are the open ones, the oldest first; dialling is how many are on the
	// way.
	ready    []*connection
	dialling int
	// asked is how many were asked for since the half of the age limit began, and
	// in the half before.
	asked     [2]int
	halfSince int64
	lastUse   int64
	// age is the limit as learnt, changed when it was; rest is until when none is
	// opened.
	age           time.Duration
	changed, rest int64
	// ended is the age of the oldest that the far side has ended in this turn.
	ended time.Duration
	// failing: the last one did not open.
	failing bool
}

// poolOf is the pool of the connection's endpoint; nil for an own service's, which
// is near.
func (l *loop) poolOf(c *connection, budget time.Duration) *pool {
	if !c.route.Wildcard || c.route.Datacenter == "" || l.pools.closed {
		return nil
	}
	p := l.pools.of[c.endpoint]
	if p == nil {
		if l.pools.of == nil {
			l.pools.of = make(map[*table.Endpoint]*pool)
		}
		p = &pool{endpoint: c.endpoint, age: aheadAge, halfSince: l.now}
		l.pools.of[c.endpoint] = p
		l.pools.all = append(l.pools.all, p)
		if l.pools.visit == 0 {
			l.pools.visit = l.now + int64(aheadVisit)
		}
	}
	// A set outlives its routes; the present one is told of failures.
	p.route, p.budget = c.route, budget
	return p
}

// greetAhead writes the hello to a connection that was opened ahead to the
// connection's endpoint. If there is none that takes it, a fresh one is to be sent
// what is left of forEndpoint.
func (l *loop) greetAhead(c *connection, o *opening, forEndpoint []byte) (left []byte, greeted bool) {
	p := l.poolOf(c, o.choice.Budget())
	if p == nil {
		return forEndpoint, false
	}
	p.asked[0]++
	p.lastUse, l.pools.asked = l.now, true
	// What comes behind the hello may be acted on at once (early data), so it is
	// not sent twice.
	if len(p.ready) == 0 || !o.intake.Alone() {
		l.counts.AheadMissed.Add(1)
		return forEndpoint, false
	}
	if len(forEndpoint) > 0 {
		if refused := o.intake.Keep(forEndpoint); refused != nil {
			l.refuse(c, o, refused)
			return nil, true
		}
	}
	r := p.ready[0]
	p.ready = p.ready[1:]
	l.counts.AheadReady.Add(-1)
	l.counts.AheadUsed.Add(1)
	c.sockets[upstream] = socket{fd: r.sockets[upstream].fd, writable: true, watchedWrites: true, isThere: true}
	l.slots.give(r)
	if c.opening == nil {
		c.opening, l.scratch = l.scratch, l.takeOpening()
	}
	c.timed = true
	if l.writeHello(c, o.intake.Kept(), nil) != 0 {
		l.closeSocket(c, upstream)
		c.timed, c.flows[client] = false, flow{}
		l.counts.AheadRepeated.Add(1)
		return nil, false
	}
	c.attempts = uint8(o.choice.Attempts())
	l.begin(c)
	return nil, true
}

// answeredAhead looks at what was just read on a connection whose endpoint's socket
// was opened ahead, and has not answered so far.
func (l *loop) answeredAhead(c *connection, from side) progress {
	f := &c.flows[from]
	switch {
	case from == upstream && f.ended:
		if c.opening != nil && l.repeat(c, 0) {
			return over
		}
		l.untime(c)
	case !f.holds():
	case from == upstream:
		c.route.Endpoints.Connected(c.endpoint)
		l.settleAhead(c)
		l.untime(c)
	default:
		// From here on more than the hello may have been acted on. That it is
		// acknowledged is still awaited.
		l.settleAhead(c)
	}
	return idle
}

// settleAhead ends the right to repeat.
func (l *loop) settleAhead(c *connection) {
	if c.opening != nil {
		l.settle(c, c.opening)
	}
}

// untime lets the endpoint be slow.
func (l *loop) untime(c *connection) {
	if c.timed {
		c.timed = false
		l.kernel.userTimeout(int(c.sockets[upstream].fd), 0)
	}
}

// repeat sends the hello once more, on a fresh connection, when the one that was
// opened ahead has ended without an answer. A TLS server has then acted on nothing:
// a hello is all that it can have seen. Silence is a failure of the endpoint, an end
// is one of the connection, which may have crossed the hello.
func (l *loop) repeat(c *connection, err syscall.Errno) bool {
	o := c.opening
	l.counts.AheadRepeated.Add(1)
	l.closeSocket(c, upstream)
	l.aging.remove(c)
	c.route.Counters.Open.Add(-1)
	c.endpoint.Counters.Open.Add(-1)
	c.state, c.timed = connecting, false
	ended := c.flows[client].ended
	c.flows = [2]flow{client: {ended: ended}}
	switch err {
	case syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH:
		l.dialFailed(o, c.endpoint, os.NewSyscallError("read", err))
		// The kernel tells when it would have sent again, which may be later than
		// all budgets together.
		o.choice.Restart(l.time)
		l.try(c, o, nil)
	default:
		if !l.dial(c, o, nil) {
			l.try(c, o, nil)
		}
	}
	return true
}

// heardAhead takes an event of a connection that nobody has asked for yet.
func (l *loop) heardAhead(c *connection) {
	k := &c.sockets[upstream]
	if c.state == dialling {
		if !k.writable {
			return
		}
		if err := l.kernel.outcome(int(k.fd)); err != 0 {
			l.aheadFailed(c, os.NewSyscallError("connect", err))
			return
		}
		p := c.pool
		p.dialling--
		if !p.failing {
			p.route.Endpoints.Connected(p.endpoint)
		}
		p.failing = false
		c.state, c.start, c.deadline = ready, l.now, 0
		p.ready = append(p.ready, c)
		l.counts.AheadReady.Add(1)
	}
	if k.readable {
		// It has ended, or says something, which nobody does unasked in TLS.
		c.pool.ended = max(c.pool.ended, time.Duration(l.now-c.start), 1)
		l.pools.ended = true
		l.counts.AheadEnded.Add(1)
		l.dropAhead(c)
	}
}

// learn takes note of how old the ready connections were that the far side has ended
// in this turn. The oldest counts: who ends all at once, as one that restarts does,
// ends young ones with them.
func (l *loop) learn(p *pool) {
	age := p.ended / 2
	p.ended = 0
	p.age, p.changed = min(p.age, max(age, aheadLeast)), l.now
	if age < aheadLeast {
		p.rest = l.now + int64(aheadRest)
	}
}

// aheadFailed ends a connection that did not open, which is its endpoint's failure;
// once for all that were on the way.
func (l *loop) aheadFailed(c *connection, why error) {
	p := c.pool
	if !p.failing {
		p.failing = true
		l.cfg.EndpointFailed(p.route, p.endpoint, l.time, dialError(p.endpoint, why), &l.counts)
	}
	l.dropAhead(c)
}

// dropAhead resets a connection that was opened ahead: that leaves nothing behind
// here, and at a far side whose kernel still keeps it, nothing at all.
func (l *loop) dropAhead(c *connection) {
	p := c.pool
	if c.state == dialling {
		p.dialling--
	} else if i := slices.Index(p.ready, c); i >= 0 {
		p.ready = slices.Delete(p.ready, i, i+1)
		l.counts.AheadReady.Add(-1)
	}
	l.kernel.reset(int(c.sockets[upstream].fd))
	l.slots.give(c)
}

//go:build linux

package loop

import "github.com/isthmus-mesh/isthmus/gateway/table"

// Loops that wait take connections as they come; a few busy ones may be all on one
// loop, or long-lived ones that came one after another. So a connection goes to
// the loop with the fewest when it begins and the loop that has accepted it has
// many more, and once more when it turns out to be big.

// slack is how many connections more than the least a loop may have before it
// gives new ones away: handing one over wakes a thread.
const slack = 64

// lighter is the loop that a new connection of a loop is for: itself, mostly.
func (s *shared) lighter(of *loop) *loop {
	if len(s.loops) < 2 {
		return of
	}
	to, least := of, of.counts.Open.Load()
	limit := least - of.slack - least/8
	for _, l := range s.loops {
		if open := l.counts.Open.Load(); open < limit && open < least {
			to, least = l, open
		}
	}
	return to
}

// lighterBig is the loop that a big flow of a loop is for.
func (s *shared) lighterBig(of *loop) *loop {
	to, least := of, of.big.Load()-1
	for _, l := range s.loops {
		if big := l.big.Load(); big < least {
			to, least = l, big
		}
	}
	return to
}

// spread counts a connection as big once it is, has it no longer paced within the
// datacenter, and moves it to the loop with the fewest of them. It reports whether it
// did.
func (l *loop) spread(c *connection) bool {
	if c.big || !c.pours() {
		return false
	}
	c.big = true
	l.big.Add(1)
	l.kernel.unpace(int(c.sockets[nearSide(c.route)].fd))
	to := l.shared.lighterBig(l)
	if to == l || c.opening != nil || c.flows[client].holds() || c.flows[upstream].holds() {
		return false
	}
	l.send(c, to)
	return true
}

// nearSide is the side of a route's connections that is in the own datacenter.
func nearSide(r *table.Route) side {
	if r.Near() {
		return upstream
	}
	return client
}

// send moves a joined connection that holds no bytes to another loop.
func (l *loop) send(c *connection, to *loop) {
	for i := range c.sockets {
		l.kernel.unwatch(int(c.sockets[i].fd))
		l.givePipe(&c.flows[i])
	}
	l.aging.remove(c)
	moved := *c
	l.slots.give(c)
	l.big.Add(-1)
	to.big.Add(1)
	to.counts.Open.Add(1)
	l.counts.Open.Add(-1)
	to.ask(mail{what: take, connection: &moved})
}

// receive takes over a connection that another loop has sent.
func (l *loop) receive(moved *connection) {
	c := l.slots.take()
	moved.slot, moved.generation = c.slot, c.generation
	*c = *moved
	c.queued = false
	for i := range c.sockets {
		k := &c.sockets[i]
		// What has happened in between is not known.
		k.readable, k.writable, k.watched = true, true, false
	}
	l.age(c)
	l.watchBoth(c)
}

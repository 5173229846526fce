//go:build linux

package loop

import "slices"

// openAhead keeps the pools as they should be: after a turn in which somebody has
// asked, and from time to time.
func (l *loop) openAhead() {
	due := l.pools.visit != 0 && l.pools.visit <= l.now
	if !due && !l.pools.asked && !l.pools.ended {
		return
	}
	l.pools.asked, l.pools.ended = false, false
	l.pools.all = slices.DeleteFunc(l.pools.all, func(p *pool) bool {
		if p.ended != 0 {
			l.learn(p)
		}
		if due && !l.tend(p) {
			delete(l.pools.of, p.endpoint)
			return true
		}
		l.refill(p)
		return false
	})
	if due {
		l.pools.visit = 0
		if len(l.pools.of) > 0 {
			l.pools.visit = l.now + int64(aheadVisit)
		}
	}
}

// tend ends what is too old, or leads where nobody is led any more, and reports
// whether the pool is still of use.
func (l *loop) tend(p *pool) bool {
	if p.endpoint.Ejected(l.time) || !slices.Contains(p.route.Endpoints.Endpoints(), p.endpoint) {
		l.empty(p)
	}
	for len(p.ready) > 0 && l.now-p.ready[0].start >= int64(p.age) {
		l.counts.AheadExpired.Add(1)
		l.dropAhead(p.ready[0])
	}
	if p.age < aheadAge && l.now-p.changed >= int64(aheadRest) {
		p.age, p.changed = min(2*p.age, aheadAge), l.now
	}
	for half := int64(p.age / 2); l.now-p.halfSince >= half; p.halfSince += half {
		p.asked[1], p.asked[0] = p.asked[0], 0
		if l.now-p.halfSince > 2*half {
			p.halfSince = l.now - half
		}
	}
	return len(p.ready) > 0 || p.dialling > 0 || l.now-p.lastUse < int64(aheadKept)
}

// shed ends all connections that nobody has asked for yet, when something is short.
func (l *loop) shed() {
	for _, p := range l.pools.all {
		l.empty(p)
	}
}

// empty ends every connection of a pool.
func (l *loop) empty(p *pool) {
	for len(p.ready) > 0 {
		l.dropAhead(p.ready[0])
	}
}

// wanted is how many connections a pool should have: as many as were asked for in
// half the age limit, at least one while it is in use, at most its share.
func (l *loop) wanted(p *pool) int {
	loops := max(len(l.shared.loops), 1)
	share := (l.cfg.OpenAhead + loops - 1) / loops
	wanted := max(p.asked[0], p.asked[1])
	if l.now-p.lastUse < int64(aheadKept) {
		wanted = max(wanted, 1)
	}
	wanted = min(wanted, share)
	if p.failing {
		// One at a time, until one stands.
		wanted = min(wanted, len(p.ready)+1)
	}
	return wanted
}

// refill opens what a pool lacks, unless something is short.
func (l *loop) refill(p *pool) {
	if l.pools.closed || l.now < p.rest || p.endpoint.Ejected(l.time) || l.resumeAt != 0 ||
		l.shared.open.Load() > int64(l.cfg.MaxConnections)*3/4 || l.shared.own.Load().Check(p.endpoint.Address) != nil {
		return
	}
	for missing := l.wanted(p) - len(p.ready) - p.dialling; missing > 0; missing-- {
		if !l.dialAhead(p) {
			return
		}
	}
}

// dialAhead begins with one connection.
func (l *loop) dialAhead(p *pool) bool {
	fd, err := l.kernel.dial(p.endpoint.Address, false)
	if err != 0 {
		return false
	}
	c := l.slots.take()
	c.state, c.pool, c.start = dialling, p, l.now
	c.sockets[upstream] = socket{fd: int32(fd), isThere: true, watchedWrites: true}
	p.dialling++
	l.kernel.userTimeout(fd, p.budget)
	l.setDeadline(c, p.budget)
	if !l.watch(c, upstream) {
		l.dropAhead(c)
		return false
	}
	return true
}

// closeAhead ends what was opened ahead, and opens nothing more.
func (l *loop) closeAhead() {
	l.pools.closed = true
	for _, chunk := range l.slots.chunks {
		for i := range chunk {
			if c := &chunk[i]; c.pool != nil {
				l.dropAhead(c)
			}
		}
	}
	l.pools.of, l.pools.all, l.pools.visit = nil, nil, 0
}

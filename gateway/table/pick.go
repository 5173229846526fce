package table

import (
	"math/bits"
	"slices"
	"time"
)

// MaxAttempts is the most endpoints that one [Picker] gives out.
const MaxAttempts = 16

// Picker gives the endpoints of a set in the order in which one connection
// should try them. It works on the members at the time of [Set.Pick].
type Picker struct {
	members *members
	random  uint64
	now     int64
	tried   [MaxAttempts]*Endpoint
	count   int
}

// Pick starts a choice among the set's live endpoints, by weight, with a random
// number that decides it.
func (s *Set) Pick(random uint64, now time.Time) Picker {
	return Picker{members: s.members.Load(), random: random, now: now.UnixNano()}
}

// Next returns the endpoint to try next: a live one by weight, and when those
// are used up the ejected ones, that one first whose ejection ends first; none
// twice. An ejected one may be well again, and it is tried only where the
// connection would fail otherwise. It is nil when there is nothing left to try;
// [Set.Why] tells why there was nothing at all.
func (p *Picker) Next() *Endpoint {
	if e := p.NextLive(); e != nil {
		return e
	}
	return p.take(p.lastResort())
}

// NextLive returns the live endpoint to try next by weight, none twice; nil when
// all were tried.
func (p *Picker) NextLive() *Endpoint {
	if p.count == MaxAttempts || p.members.total == 0 {
		return nil
	}
	chosen := p.any()
	if chosen == nil {
		chosen = p.live()
	}
	return p.take(chosen)
}

// take notes that an endpoint is given out.
func (p *Picker) take(e *Endpoint) *Endpoint {
	if e != nil {
		p.tried[p.count] = e
		p.count++
	}
	return e
}

// any draws among all members, by binary search, and returns nil if the one
// drawn may not be used: so the cost does not grow with the set while all are
// live.
func (p *Picker) any() *Endpoint {
	at := p.draw(p.members.total)
	i, _ := slices.BinarySearchFunc(p.members.candidates, at, func(c candidate, at uint64) int {
		// The first one whose upTo is above at.
		if c.upTo <= at {
			return -1
		}
		return 1
	})
	if e := p.members.candidates[i].endpoint; p.usable(e) {
		return e
	}
	return nil
}

// live draws among the members that are live and were not tried.
func (p *Picker) live() *Endpoint {
	var total uint64
	for _, c := range p.members.candidates {
		if p.usable(c.endpoint) {
			total += c.weight
		}
	}
	if total == 0 {
		return nil
	}
	at := p.draw(total)
	for _, c := range p.members.candidates {
		if !p.usable(c.endpoint) {
			continue
		}
		if at < c.weight {
			return c.endpoint
		}
		at -= c.weight
	}
	// Another goroutine ejected one between the two loops.
	return nil
}

// lastResort is the ejected member whose ejection ends first, of those that were
// not tried.
func (p *Picker) lastResort() *Endpoint {
	if p.count == MaxAttempts {
		return nil
	}
	var first *Endpoint
	var until int64
	for _, c := range p.members.candidates {
		ends := c.endpoint.ejectedUntil.Load()
		if (first == nil || ends < until) && !p.wasTried(c.endpoint) {
			first, until = c.endpoint, ends
		}
	}
	return first
}

func (p *Picker) wasTried(e *Endpoint) bool { return slices.Contains(p.tried[:p.count], e) }

func (p *Picker) usable(e *Endpoint) bool {
	return !e.ejectedAt(p.now) && !p.wasTried(e)
}

// draw returns a number below n and steps the random number (splitmix64), so
// that one given number decides the whole order.
func (p *Picker) draw(n uint64) uint64 {
	at, _ := bits.Mul64(p.random, n)
	p.random += 0x9e3779b97f4a7c15
	z := p.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	p.random = z ^ z>>31
	return at
}

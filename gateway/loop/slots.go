//go:build linux

package loop

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// side is one end of a connection.
type side uint8

const (
	client side = iota
	upstream
)

func (s side) other() side { return s ^ 1 }

// state is how far a connection has come.
type state uint8

const (
	free state = iota
	// waiting for the rest of the hello.
	waiting
	// connecting to an endpoint.
	connecting
	// joined to an endpoint.
	joined
	// lingering: it was refused, and is being read until its client has had time
	// to read why.
	lingering
	// dialling ahead of anybody who asks for it, and ready for whoever does. Such
	// a connection has an endpoint's socket alone, and a pool that it belongs to.
	dialling
	ready
)

// socket is one end's socket, with what is known of it: that nothing is known to
// be readable means that an event will tell.
type socket struct {
	fd                              int32
	readable, writable              bool
	hung, broken                    bool
	watched, watchedWrites, isThere bool
}

// connection is one connection from accept to its end. It lives in a slot, which
// is used again.
type connection struct {
	generation, slot uint32
	state            state
	// timed: its endpoint's socket ends when nothing is acknowledged.
	timed bool
	// counted: it is counted with its source network.
	counted bool
	// big: it moves many bytes, or did. queued: it has more to do.
	big, queued bool
	// keptAlive: both sockets were told when to probe.
	keptAlive bool
	attempts  uint8
	sockets   [2]socket
	// flows are the two directions, by the side that they come from.
	flows [2]flow

	route    *table.Route
	endpoint *table.Endpoint
	table    *table.Table
	// opening is what it needs until it is joined, and a while longer if its
	// endpoint's socket was opened ahead; nil afterwards.
	opening *opening
	// pool is the one of a connection that is opened ahead.
	pool *pool
	// refusal is why it lingers.
	refusal *engine.Refusal

	// start is when it was accepted, deadline when it must have moved on, both in
	// Unix nanoseconds; no deadline is 0.
	start, deadline int64
	peer, source    netip.AddrPort
	serverName      string

	// previous and next are in the list that it is in: of those that wait, or of
	// those that are joined.
	previous, next *connection
	listed         bool
	// visit is when a joined one is looked at again; moved is what it had moved when
	// it was, idleSince since when it has moved no more.
	visit, idleSince int64
	moved            uint64
}

// slots is where connections are. Slots are used again, which keeps the collector
// out of it.
type slots struct {
	chunks [][]connection
	unused []*connection
	inUse  int
}

const chunkSize = 64

// take returns an unused slot.
func (s *slots) take() *connection {
	if len(s.unused) == 0 {
		s.grow()
	}
	c := s.unused[len(s.unused)-1]
	s.unused = s.unused[:len(s.unused)-1]
	s.inUse++
	return c
}

func (s *slots) grow() {
	chunk := make([]connection, chunkSize)
	base := uint32(len(s.chunks) * chunkSize)
	for i := range chunk {
		// Generation 0 is that of listeners.
		chunk[i].slot, chunk[i].generation = base+uint32(i), 1
	}
	s.chunks = append(s.chunks, chunk)
	for i := len(chunk) - 1; i >= 0; i-- {
		s.unused = append(s.unused, &chunk[i])
	}
}

// give makes a slot unused: whatever still comes for its connection is stale.
func (s *slots) give(c *connection) {
	generation := c.generation + 1
	if generation == 0 {
		generation = 1
	}
	*c = connection{slot: c.slot, generation: generation}
	s.unused = append(s.unused, c)
	s.inUse--
}

// find returns the connection of a token, nil if it has ended.
func (s *slots) find(slot, generation uint32) *connection {
	chunk := int(slot / chunkSize)
	if chunk >= len(s.chunks) {
		return nil
	}
	c := &s.chunks[chunk][slot%chunkSize]
	if c.generation != generation || c.state == free {
		return nil
	}
	return c
}

// queue is connections by their tokens, first come, first served. The zero queue is
// empty.
type queue struct {
	tokens []token
	// head is the first of them; those before it have gone.
	head int
}

func (q *queue) length() int { return len(q.tokens) - q.head }

func (q *queue) push(t token) {
	if q.head > 0 && len(q.tokens) == cap(q.tokens) {
		q.tokens = q.tokens[:copy(q.tokens, q.tokens[q.head:])]
		q.head = 0
	}
	q.tokens = append(q.tokens, t)
}

func (q *queue) pop() token {
	t := q.tokens[q.head]
	q.head++
	return t
}

// list is connections in the order in which they came to it.
type list struct{ first, last *connection }

func (l *list) push(c *connection) {
	c.previous, c.next, c.listed = l.last, nil, true
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
}

// remove takes a connection off the list, if it is on it.
func (l *list) remove(c *connection) {
	if !c.listed {
		return
	}
	c.listed = false
	if c.previous == nil {
		l.first = c.next
	} else {
		c.previous.next = c.next
	}
	if c.next == nil {
		l.last = c.previous
	} else {
		c.next.previous = c.previous
	}
	c.previous, c.next = nil, nil
}

//go:build linux

package loop

import (
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// flood is a kernel in which senders never end and receivers always have room.
type flood struct{ kernel }

func (flood) read(_ int, b []byte) (int, syscall.Errno)        { return len(b), 0 }
func (flood) write(_ int, b []byte) (int, syscall.Errno)       { return len(b), 0 }
func (flood) pipe() (read, write, size int, err syscall.Errno) { return 1, 2, 1 << 20, 0 }
func (flood) splice(_, _, most int) (int, syscall.Errno)       { return most, 0 }

// Of many big connections that all have more to move, a turn moves about one share, so
// that whoever is small waits for no more than that; and all come up equally often.
func TestBigConnectionsTakeTurns(t *testing.T) {
	const connections, rounds = 10, 5
	l := newLoop(&engine.Config{}, &shared{}, flood{})
	route := &table.Route{Counters: new(table.Counters)}
	var all []*connection
	for i := range connections {
		c := l.slots.take()
		c.state, c.big, c.route, c.endpoint = joined, true, route, new(table.Endpoint)
		for s := range c.sockets {
			c.sockets[s] = socket{fd: int32(10 + 2*i + s), isThere: true, watched: true, writable: true}
		}
		c.sockets[client].readable = true
		c.flows[client].full = spliceAfter
		all = append(all, c)
	}
	var events []event
	for _, c := range all {
		events = append(events, event{token: tokenOf(c.generation, c.slot, client), readable: true})
	}
	moved := func() (total uint64) {
		for _, c := range all {
			total += c.flows[client].moved
		}
		return total
	}
	for turn := range connections * rounds {
		before := moved()
		// That there is more is told again and again; it is no more for that.
		l.turn(epoch, events)
		if n := moved() - before; n == 0 || n > 2*turnBytes {
			t.Fatalf("turn %d moves %d bytes; want about %d", turn, n, turnBytes)
		}
	}
	for i, c := range all {
		if got, want := c.flows[client].moved, moved()/connections; got != want {
			t.Errorf("connection %d has moved %d bytes; want %d, as all", i, got, want)
		}
	}
	if l.patience() != 0 {
		t.Error("the loop waits although there is more to do")
	}
	if made := l.pipes.made; made != 1 {
		t.Errorf("%d pipes are used; one is enough for those that take turns", made)
	}
}

//go:build linux

package loop

import (
	"log/slog"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// standing is a kernel in which every connection stands at once.
type standing struct {
	kernel
	dialled int
}

func (k *standing) dial(netip.AddrPort, bool) (int, syscall.Errno) {
	k.dialled++
	return k.dialled, 0
}
func (*standing) outcome(int) syscall.Errno            { return 0 }
func (*standing) watch(int, token, bool) syscall.Errno { return 0 }
func (*standing) userTimeout(int, time.Duration)       {}
func (*standing) reset(int)                            {}

var epoch = time.Unix(1000, 0)

// poolIn is a loop with a pool to one endpoint that wants so many connections.
func poolIn(wants int) (*loop, *pool, *standing) {
	set := table.NewSet(table.Ejection{})
	set.Replace([]*isthmusv1.Endpoint{{Address: "10.0.0.1", Port: 1, Health: isthmusv1.Health_HEALTH_HEALTHY}}, nil)
	cfg := &engine.Config{OpenAhead: 8, MaxConnections: 100, Logger: slog.New(slog.DiscardHandler)}
	k := &standing{}
	l := newLoop(cfg, &shared{}, k)
	l.now = epoch.UnixNano()
	e := set.Endpoints()[0]
	p := l.poolOf(&connection{route: &table.Route{Wildcard: true, Datacenter: "dc2", Endpoints: set}, endpoint: e}, time.Second)
	p.asked[0], p.lastUse = wants, l.now
	return l, p, k
}

// stand has all that were dialled stand.
func stand(l *loop, at time.Time) {
	var events []event
	for i := range l.slots.chunks[0] {
		if c := &l.slots.chunks[0][i]; c.state == dialling {
			events = append(events, event{token: tokenOf(c.generation, c.slot, upstream), writable: true})
		}
	}
	l.turn(at, events)
}

// A far side that restarts ends old ones and young ones at once: the oldest tells
// how patient it was.
func TestTheOldestThatEndsIsLearntFrom(t *testing.T) {
	l, p, k := poolIn(1)
	l.pools.asked = true
	l.turn(epoch, nil)
	stand(l, epoch)
	later := epoch.Add(1400 * time.Millisecond)
	p.asked[0], p.lastUse, l.pools.asked = 2, later.UnixNano(), true
	l.turn(later, nil)
	stand(l, later)
	if len(p.ready) != 2 || k.dialled != 2 {
		t.Fatalf("%d are ready of %d; want 2", len(p.ready), k.dialled)
	}
	var events []event
	for _, c := range p.ready {
		events = append(events, event{token: tokenOf(c.generation, c.slot, upstream), readable: true})
	}
	l.turn(later.Add(100*time.Millisecond), events)
	if p.age != 750*time.Millisecond || p.rest != 0 {
		t.Errorf("the age limit is %v, it rests until %d; want half of what the oldest has reached", p.age, p.rest)
	}
	if got := l.counts.AheadEnded.Load(); got != 2 {
		t.Errorf("%d have ended", got)
	}
}

// A pool to an endpoint that fails tries one at a time, and never more than it may.
func TestAFailingPoolTriesOneAtATime(t *testing.T) {
	l, p, k := poolIn(8)
	l.pools.asked, p.failing = true, true
	l.turn(epoch, nil)
	if k.dialled != 1 {
		t.Errorf("%d are tried at once", k.dialled)
	}
	stand(l, epoch)
	l.pools.asked = true
	l.turn(epoch, nil)
	if k.dialled != 8 {
		t.Errorf("%d were opened after one stood; want all 8", k.dialled)
	}
	stand(l, epoch)
	p.failing, l.pools.asked = true, true
	l.turn(epoch, nil)
	if k.dialled != 8 {
		t.Errorf("%d were opened; the bound is 8", k.dialled)
	}
}

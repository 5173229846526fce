//go:build linux

package loop

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// probed is a kernel that is told of probes and of nothing else.
type probed struct {
	kernel
	told map[int]table.Keepalive
}

func (p *probed) keepAlive(fd int, k table.Keepalive) { p.told[fd] = k }

// Both sockets of a connection that has lived for a while are probed, each after a
// time of its own; the endpoint's as the registration says, if it is far.
func TestBothSocketsAreProbed(t *testing.T) {
	asked := &table.Keepalive{Idle: 7 * time.Second, Interval: 3 * time.Second, Count: 2}
	for _, far := range []bool{false, true} {
		random := uint64(0)
		cfg, err := engine.Config{
			Table:  func() *table.Table { return new(table.Table) },
			Random: func() uint64 { random++; return random },
		}.WithDefaults()
		if err != nil {
			t.Fatal(err)
		}
		kernel := &probed{told: make(map[int]table.Keepalive)}
		l := newLoop(&cfg, &shared{}, kernel)
		c := &connection{route: &table.Route{Wildcard: far}, table: &table.Table{Settings: table.Settings{Keepalive: asked}}}
		c.sockets[client].fd, c.sockets[upstream].fd = 5, 6
		l.look(c)
		near, end := kernel.told[5], kernel.told[6]
		if len(kernel.told) != 2 || near.Idle == end.Idle || near.Idle < 30*time.Second || far != (end == *asked) {
			t.Errorf("far %v: the client is probed as %+v, the endpoint as %+v", far, near, end)
		}
		clear(kernel.told)
		if l.look(c); len(kernel.told) != 0 {
			t.Error("it is told again")
		}
	}
}

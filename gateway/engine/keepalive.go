package engine

import (
	"cmp"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

const (
	// A joined connection that says nothing is probed after probeAfter to twice
	// that, and given up after probeCount probes without an answer: in two minutes
	// to two and a half.
	probeAfter = 30 * time.Second
	probeAgain = 15 * time.Second
	probeCount = 6
)

// Probing is how a joined connection's socket is probed while it says nothing: as
// is asked for, and where nothing is, after a time that the random number decides.
//
// Connections that were opened together must not be probed together: the kernel
// rounds their timers to one moment, and beyond a thousand packets of one moment
// loopback, or a network card's queue, drops the rest. With one time for all, that
// hits the same connections each time, and after as many probes they end, although
// nothing is wrong with them (measured: 1,300 of 9,000, after 150 s).
func Probing(asked *table.Keepalive, random uint64) table.Keepalive {
	k := table.Keepalive{
		Idle:     probeAfter + time.Duration(random%uint64(probeAfter/time.Second+1))*time.Second,
		Interval: probeAgain,
		Count:    probeCount,
	}
	if asked != nil {
		k.Idle = cmp.Or(max(asked.Idle, 0), k.Idle)
		k.Interval = cmp.Or(max(asked.Interval, 0), k.Interval)
		k.Count = cmp.Or(max(asked.Count, 0), k.Count)
	}
	return k
}

// Probing is that of the endpoint's socket: the registration's word is for
// connections to other datacenters.
func (c *Config) Probing(route *table.Route, settings table.Settings) table.Keepalive {
	if route.Near() {
		return Probing(nil, c.Random())
	}
	return Probing(settings.Keepalive, c.Random())
}

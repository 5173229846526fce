package engine

import (
	"slices"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Counts is what an engine counts over all routes. Several may be added up, so
// that those who count do not share one. It is safe for concurrent use.
type Counts struct {
	// Accepted is every connection that was accepted, Open those that are, of
	// which HalfOpen wait for their hello.
	Accepted       atomic.Uint64
	Open, HalfOpen atomic.Int64
	// ConnectFailures is attempts at endpoints that failed, Ejections how many
	// endpoints were ejected.
	ConnectFailures, Ejections atomic.Uint64
	// BytesIn is from clients to endpoints, BytesOut back.
	BytesIn, BytesOut atomic.Uint64

	// AheadReady and those behind it are as in [table.AheadStats].
	AheadReady                                                      atomic.Int64
	AheadUsed, AheadMissed, AheadExpired, AheadEnded, AheadRepeated atomic.Uint64

	ended [maxReasons]atomic.Uint64
}

// maxReasons is room for all of [table.Reasons].
const maxReasons = 32

var reasons = table.Reasons()

// End counts a connection that has ended.
func (c *Counts) End(reason table.Reason) {
	c.Open.Add(-1)
	c.ended[slices.Index(reasons, reason)].Add(1)
}

// Ended is how many connections have ended for a reason.
func (c *Counts) Ended(reason table.Reason) uint64 {
	return c.ended[slices.Index(reasons, reason)].Load()
}

// AddTo adds what was counted to stats, whose Ended must be a map.
func (c *Counts) AddTo(stats *table.EngineStats) {
	stats.Accepted += c.Accepted.Load()
	stats.Open += c.Open.Load()
	stats.HalfOpen += c.HalfOpen.Load()
	stats.ConnectFailures += c.ConnectFailures.Load()
	stats.Ejections += c.Ejections.Load()
	stats.BytesIn += c.BytesIn.Load()
	stats.BytesOut += c.BytesOut.Load()
	stats.Ahead.Ready += c.AheadReady.Load()
	stats.Ahead.Used += c.AheadUsed.Load()
	stats.Ahead.Missed += c.AheadMissed.Load()
	stats.Ahead.Expired += c.AheadExpired.Load()
	stats.Ahead.Ended += c.AheadEnded.Load()
	stats.Ahead.Repeated += c.AheadRepeated.Load()
	for i, reason := range reasons {
		if n := c.ended[i].Load(); n > 0 {
			stats.Ended[reason] += n
		}
	}
}

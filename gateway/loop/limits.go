//go:build linux

package loop

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

const (
	// spareDescriptors are left to the rest of the process.
	spareDescriptors = 64
	// perConnection and perPipe are what each takes.
	perConnection, perPipe = 2, 2
)

// limitByDescriptors lowers the limits to what the process has descriptors for:
// to refuse a connection is better than to have none left for an endpoint.
func (e *Engine) limitByDescriptors(loops int) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		e.cfg.Logger.Warn("the limit of descriptors is not known", "err", err)
		return
	}
	pipes := loops * maxPipes * perPipe
	rest := int64(min(limit.Cur, 1<<40)) - int64(inUse()+spareDescriptors+pipes)
	most := int(max(rest/perConnection, 1))
	if most >= e.cfg.MaxConnections {
		return
	}
	e.cfg.Logger.Warn("the limit of descriptors allows fewer connections", "descriptors", limit.Cur, "configured", e.cfg.MaxConnections, "connections", most)
	lower(&e.cfg, most)
}

// lower lets there be no more connections than most. Of those, as many may wait for
// their hello as was configured, but no larger part than goes without saying.
func lower(cfg *engine.Config, most int) {
	cfg.MaxConnections = most
	cfg.MaxHalfOpen = min(cfg.MaxHalfOpen, engine.DefaultMaxHalfOpen(most))
}

// inUse is how many descriptors the process has open; 0 if that is not told.
func inUse() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

//go:build linux

package loop

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

// Too few descriptors lower what may wait for its hello no further than they must.
func TestFewerConnectionsLetFewerWait(t *testing.T) {
	for _, test := range []struct {
		name                  string
		configured, most, may int
	}{
		{"the default keeps its part", 7500, 4000, 3000},
		{"what fits stays as configured", 100, 4000, 100},
		{"more than fits is lowered", 9999, 4000, 3000},
		{"one may always wait", 7500, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := engine.Config{MaxConnections: 10_000, MaxHalfOpen: test.configured}
			lower(&cfg, test.most)
			if cfg.MaxConnections != test.most || cfg.MaxHalfOpen != test.may {
				t.Errorf("%d connections, of which %d may wait; want %d and %d", cfg.MaxConnections, cfg.MaxHalfOpen, test.most, test.may)
			}
		})
	}
}

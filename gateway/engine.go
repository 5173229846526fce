package gateway

import (
	"context"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Engine accepts connections and relays them by a table.
type Engine interface {
	// Serve accepts from the listener until Drain, and then returns nil. It is
	// called once for each listener, at any time. When the listener is closed by
	// another than Drain, it returns an error that is [net.ErrClosed], and the
	// connections go on.
	Serve(listener *engine.Listener) error
	// Drain closes the listeners of this process, waits until the connections
	// have ended or ctx has, ends those that are left, and returns how many.
	Drain(ctx context.Context) (cut uint64)
	// Stats returns what was counted so far.
	Stats() table.EngineStats
}

var _ Engine = (*relay.Engine)(nil)

// newRelay is the engine of a Config that names none.
func newRelay(cfg engine.Config) (Engine, error) { return relay.New(cfg) }

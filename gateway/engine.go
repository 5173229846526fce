package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"

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

// ErrNoEngine indicates the name of an engine that this system does not have.
var ErrNoEngine = errors.New("there is no such engine on this system")

// NewEngine makes an engine.
type NewEngine func(engine.Config) (Engine, error)

// namedEngine is an engine by its name.
type namedEngine struct {
	name string
	make NewEngine
}

// portable is the engine that every system has.
var portable = namedEngine{"relay", func(cfg engine.Config) (Engine, error) { return relay.New(cfg) }}

// Engines are the names of the engines that this system has, its default first.
func Engines() []string {
	var names []string
	for _, e := range engines {
		names = append(names, e.name)
	}
	return names
}

// EngineNamed returns what makes the engine of a name. The error is [ErrNoEngine].
func EngineNamed(name string) (NewEngine, error) {
	for _, e := range engines {
		if e.name == name {
			return e.make, nil
		}
	}
	return nil, fmt.Errorf("%q: %w; it has %s", name, ErrNoEngine, strings.Join(Engines(), ", "))
}

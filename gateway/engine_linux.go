package gateway

import (
	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/loop"
)

var _ Engine = (*loop.Engine)(nil)

// engines are those of this system, the default first.
var engines = []namedEngine{
	{"loop", func(cfg engine.Config) (Engine, error) { return loop.New(cfg) }},
	portable,
}

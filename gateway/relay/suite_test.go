package relay_test

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

func TestEngine(t *testing.T) {
	enginetest.RunEngine(t, func(cfg engine.Config) (enginetest.Engine, error) { return relay.New(cfg) })
}

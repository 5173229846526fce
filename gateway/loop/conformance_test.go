//go:build linux

package loop_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/loop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEngine(t *testing.T) {
	enginetest.RunEngine(t, func(cfg engine.Config) (enginetest.Engine, error) { return loop.New(cfg) }, enginetest.LateKeepalive)
}

package relay_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEngine(t *testing.T) {
	enginetest.RunEngine(t, func(cfg engine.Config) (enginetest.Engine, error) { return relay.New(cfg) })
}

func TestNothingIsOpenedAhead(t *testing.T) {
	if _, err := relay.New(engine.Config{OpenAhead: 1}); !errors.Is(err, engine.ErrNoOpenAhead) {
		t.Errorf("got %v", err)
	}
}

package gateway_test

import (
	"errors"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

// The engine is told which algorithm to use, by a setting that is auto unless it is
// given.
func TestTheEngineIsToldOfCongestionControl(t *testing.T) {
	auto, err := engine.CongestionControl(engine.CongestionAuto)
	if err != nil {
		t.Fatal(err)
	}
	if auto == "" {
		t.Skip("!!! NOT TESTED WHETHER CONGESTION CONTROL REACHES THE ENGINE: the system's is not BBR !!!")
	}
	told := errors.New("told")
	for setting, want := range map[string]string{"": auto, engine.CongestionAuto: auto, engine.CongestionSystem: ""} {
		var got engine.Config
		_, err := gateway.New(gateway.Config{
			Datacenter: "dc1", Log: newRoutes(t).log, Listen: []string{"127.0.0.1:0"}, CongestionControl: setting,
			NewEngine: func(cfg engine.Config) (gateway.Engine, error) { got = cfg; return nil, told },
		})
		if !errors.Is(err, told) || got.CongestionControl != want {
			t.Errorf("%q: the engine is told of %q (%v); want %q", setting, got.CongestionControl, err, want)
		}
	}
}

package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

func TestCongestionControlIsOneThatThereIs(t *testing.T) {
	said := &strings.Builder{}
	a := newApp(said, said, func(string) string { return "" })
	status := a.main(t.Context(), []string{"gateway", "--listen", "127.0.0.1:0", "--congestion-control", "cubic"})
	if status == 0 || !strings.Contains(said.String(), `--congestion-control: there is no such congestion control: "cubic"; it is auto or system`) {
		t.Errorf("it ends with %d and says %s", status, said)
	}
}

// What the flag says reaches the gateway, which knows best what there is.
func TestCongestionControlReachesTheGateway(t *testing.T) {
	p := testParts(t, memlog.New(memlog.Options{}).Connect("test"))
	_, _, err := gatewayPart(p, gatewaySettings{datacenter: "dc1", listen: []string{"127.0.0.1:0"}, congestionControl: "cubic"})
	if !errors.Is(err, engine.ErrCongestionControl) {
		t.Errorf("got %v", err)
	}
}

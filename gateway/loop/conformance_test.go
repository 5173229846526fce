//go:build linux

package loop_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/loop"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is this engine, for the suites that every engine is held to.
var rig = enginetest.Rig{Start: start}

func TestConformance(t *testing.T) { enginetest.Run(t, rig) }

func TestTools(t *testing.T) { enginetest.RunTools(t, rig) }

// start starts an engine that ends with the test.
func start(t *testing.T, setup enginetest.Setup) netip.AddrPort {
	t.Helper()
	tab := setup.Table()
	e, err := loop.New(engine.Config{Table: func() *table.Table { return tab }, HelloTimeout: setup.HelloTimeout})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := engine.Adopt(l)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(listener) }()
	t.Cleanup(func() {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		e.Drain(over)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if stats := e.Stats(); stats.Open != 0 || stats.HalfOpen != 0 {
			t.Errorf("%d connections and %d waiting are left after the drain", stats.Open, stats.HalfOpen)
		}
	})
	return listener.AddrPort()
}

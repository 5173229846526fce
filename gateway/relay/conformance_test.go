package relay_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is this engine, for the suites that every engine is held to.
var rig = enginetest.Rig{
	Start: func(t *testing.T, setup enginetest.Setup) netip.AddrPort {
		return start(t, relay.Config{Config: engine.Config{Table: fixed(setup.Table()), HelloTimeout: setup.HelloTimeout}}).address
	},
}

func TestConformance(t *testing.T) { enginetest.Run(t, rig) }

func TestTools(t *testing.T) { enginetest.RunTools(t, rig) }

func fixed(t *table.Table) func() *table.Table { return func() *table.Table { return t } }

// listen is a listener on a free port of loopback.
func listen(t *testing.T) *engine.Listener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := engine.Adopt(l)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// running is an engine that listens on loopback until the test ends.
type running struct {
	*relay.Engine
	address netip.AddrPort
	records chan *table.Record
}

func start(t *testing.T, config relay.Config) *running {
	t.Helper()
	r := &running{records: make(chan *table.Record, 20000)}
	config.Record = func(record *table.Record) { r.records <- record }
	e, err := relay.NewForTest(config)
	if err != nil {
		t.Fatal(err)
	}
	listener := listen(t)
	r.Engine, r.address = e, listener.AddrPort()
	served := make(chan error, 1)
	go func() { served <- e.Serve(listener) }()
	t.Cleanup(func() {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		e.Drain(over)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		stats := e.Stats()
		if stats.Open != 0 || stats.HalfOpen != 0 {
			t.Errorf("%d connections and %d waiting are left after the drain", stats.Open, stats.HalfOpen)
		}
		var ended uint64
		for _, n := range stats.Ended {
			ended += n
		}
		if ended != stats.Accepted {
			t.Errorf("%d connections were accepted, %d ended", stats.Accepted, ended)
		}
	})
	return r
}

package embed_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/bustest"
	"github.com/isthmus-mesh/isthmus/bus/embed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T, url string) *bus.JetStream {
	t.Helper()
	// Long enough for any stall of a busy machine: whatever is asked once must be
	// answered.
	log, err := bus.Connect(url, bus.Options{Name: t.Name(), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return log
}

func TestConformanceOfOneServer(t *testing.T) {
	s, err := embed.Start(embed.Options{StoreDir: t.TempDir(), Host: testHost()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	bustest.Run(t, connect(t, s.URL()))
}

func TestConformanceOfACluster(t *testing.T) {
	c, err := embed.StartCluster(3, embed.Options{StoreDir: t.TempDir(), Host: testHost()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	bustest.Run(t, replicated{connect(t, c.URL())})
}

// replicated makes every stream on three servers.
type replicated struct{ bus.Log }

func (r replicated) Create(ctx context.Context, config bus.StreamConfig) (bus.StreamState, error) {
	config.Replicas = 3
	return r.Log.Create(ctx, config)
}

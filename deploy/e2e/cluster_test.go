package e2e_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bus/embed"
)

// TestElectionUnderLoad stops the server of a three-node cluster that leads the
// routes, then the one that leads the catalog.
func TestElectionUnderLoad(t *testing.T) {
	w := newWorld(t, 0)
	cluster, err := embed.StartCluster(3, embed.Options{StoreDir: w.path("nats")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	w.nats, w.replicas = cluster.URL(), "3"
	w.startControl()
	w.startData()
	t.Logf("all is up: a change takes %s", w.change().Round(time.Millisecond))
	for _, stream := range []string{"ROUTES_dc1", "CATALOG_dc1"} {
		t.Run(stream, func(t *testing.T) {
			l := w.startLoad(t, true)
			l.more(t, settled)
			leader := cluster.StreamLeader(stream)
			if leader < 0 {
				t.Fatal("the stream has no leader")
			}
			cluster.StopOne(leader)
			elected := w.change()
			l.more(t, settled)
			if err := cluster.Start(leader); err != nil {
				t.Fatal(err)
			}
			whole := w.change()
			l.more(t, settled)
			l.verdict(t, "leader of %s stopped: a change took %s, and %s with the server back",
				stream, elected.Round(time.Millisecond), whole.Round(time.Millisecond))
		})
	}
}

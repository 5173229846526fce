package ads_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
)

// A stream ends when it has lived its time, but not while something is unanswered; then
// the Envoy connects anew, perhaps to another node.
func TestStreamsLiveTheirTime(t *testing.T) {
	for _, protocol := range []string{"delta", "state of the world"} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener, connections := bufconn.Listen(1<<20), 0
				n := serve(t, ads.Config{StreamAge: 30 * time.Minute, Jitter: func() float64 { return 0.75 }}, listener)
				n.client = n.as("passthrough:///node", grpc.WithTransportCredentials(insecure.NewCredentials()),
					grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
						connections++
						return listener.DialContext(ctx)
					}))
				n.withAPI()
				began := time.Now()
				answer, end := n.unansweredBy(protocol)
				time.Sleep(33*time.Minute + time.Second)
				synctest.Wait()
				if connections != 1 {
					t.Fatalf("%d connections", connections)
				}
				answer()
				end(codes.Unavailable, "lived its time")
				if age := time.Since(began); age != 33*time.Minute+time.Second {
					t.Errorf("it ended after %s", age)
				}
				answer, end = n.unansweredBy(protocol)
				answer()
				if connections != 2 {
					t.Errorf("%d connections, want another one", connections)
				}
				began = time.Now()
				end(codes.Unavailable, "lived its time")
				if age := time.Since(began); age != 33*time.Minute {
					t.Errorf("it ended after %s, want 30 minutes and half of the fifth that they may differ", age)
				}
			})
		})
	}
}

// unansweredBy begins a stream whose last response is not answered, and returns what
// answers it, and what wants its end.
func (n *node) unansweredBy(protocol string) (answer func(), end func(codes.Code, string)) {
	n.t.Helper()
	if protocol == "delta" {
		e := n.patient("mg")
		e.subscribe(xdsnode.Cluster, "*")
		r := e.unanswered(xdsnode.Cluster, []string{"api"}, nil)
		return func() { e.acknowledge(r) }, e.wantEnd
	}
	stream, err := n.client.StreamAggregatedResources(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	e := n.whole(stream, "mg")
	e.subscribe(xdsnode.Cluster)
	e.versions[xdsnode.Cluster] = e.receive(xdsnode.Cluster, "api").GetVersionInfo()
	return func() { e.ask(xdsnode.Cluster, "") }, e.wantEnd
}

// Without an age streams live for ever.
func TestStreamsWithoutAnAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := bubble(t, ads.Config{}, insecure.NewCredentials()).withAPI()
		e := n.patient("mg")
		e.subscribe(xdsnode.Cluster, "*")
		e.want(xdsnode.Cluster, []string{"api"}, nil)
		time.Sleep(24 * time.Hour)
		n.change(name("db", nil))
		e.want(xdsnode.Cluster, []string{"db"}, nil)
	})
}

// Envoys may ping: a node that permits what grpc does by itself ends the streams of those
// that do so every few seconds.
func TestPingsArePermitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := bubble(t, ads.Config{}, insecure.NewCredentials(),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second, PermitWithoutStream: true})).withAPI()
		e := n.patient("mg")
		e.subscribe(xdsnode.Cluster, "*")
		e.want(xdsnode.Cluster, []string{"api"}, nil)
		time.Sleep(10 * time.Minute)
		n.change(name("db", nil))
		e.want(xdsnode.Cluster, []string{"db"}, nil)
	})
}

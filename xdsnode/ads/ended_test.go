package ads_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
)

// narrow has a client take no more than it reads.
func narrow() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithInitialWindowSize(64 << 10), grpc.WithInitialConnWindowSize(64 << 10)}
}

// large is an endpoint set that is more than a narrow client takes unread.
func large(name string) values {
	addresses := make([]string, 5_000)
	for i := range addresses {
		addresses[i] = fmt.Sprintf("10.1.%d.%d", i/250, i%250)
	}
	return set(name, addresses...)
}

// stuck has a stream in the midst of a response that its client does not read: the node
// sends one however large it is, and then no other.
func (n *node) stuck() *envoy {
	n.t.Helper()
	e := n.patient("mg")
	e.subscribe(xdsnode.Assignment, "api")
	e.subscribe(xdsnode.Cluster, "*")
	synctest.Wait()
	return e
}

// Of a proxy that is registered as another service's, its old client is sent nothing
// more, not one word of what the new one has, though it was busy when that happened.
// (Which of two things a stream does first is chance; so there are many streams.)
func TestRegisteredAnewTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
		live := holding(issue(t, ca, isthmusv1.ServiceXDS, "dc1"))
		for range 12 {
			n := bubble(t, ads.Config{Identity: known(live)}, showing(holding(issue(t, ca, "web", "dc1")), "dc1"), narrow()...)
			n.change(all(proxyOf("n1", "mg", isthmusv1.InstanceKindMeshGateway, "web"), name("api", nil), large("api")))
			e := n.stuck()
			e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: string(xdsnode.Assignment), ResponseNonce: "1"})
			n.change(all(proxyOf("n1", "mg", isthmusv1.InstanceKindMeshGateway, "secret"), set("api", "10.9.9.9")))
			synctest.Wait()
			e.unanswered(xdsnode.Assignment, []string{"api"}, nil) // These were on their way.
			e.unanswered(xdsnode.Cluster, []string{"api"}, nil)
			e.wantEnd(codes.PermissionDenied, "registered anew")
		}
	})
}

// A client whose root is taken away before its first word hears nothing but that.
func TestIdentityEndsBeforeTheFirstWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, next := newCA(t, identity.DevCAConfig{TrustDomain: testDomain}), newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
		live := holding(issue(t, ca, isthmusv1.ServiceXDS, "dc1"))
		n := bubble(t, ads.Config{Identity: known(live)}, showing(holding(issue(t, ca, "web", "dc1")), "dc1"))
		n.change(all(proxyOf("n1", "mg", isthmusv1.InstanceKindMeshGateway, "web"), name("api", nil)))
		e := n.patient("mg")
		synctest.Wait() // The node has looked at its certificate, and waits for a word.
		live.Take(issue(t, next, isthmusv1.ServiceXDS, "dc1"), nil)
		n.server.Recheck()
		e.subscribe(xdsnode.Cluster, "*")
		e.wantEnd(codes.Unauthenticated, "")
	})
}

// A client that does not read loses its stream too, at the moment when its certificate
// expires.
func TestIdentityEndsOfOneThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain, LeafTTL: time.Hour})
		own := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
		w, node, web := newWords(), issue(t, own, isthmusv1.ServiceXDS, "dc1"), issue(t, ca, "web", "dc1")
		live := holding(trusting(t, node, isthmusv1.ServiceXDS, node, web))
		n := bubble(t, ads.Config{Identity: known(live), Reports: w}, showing(holding(trusting(t, web, "web", node, web)), "dc1"), narrow()...)
		n.change(all(proxyOf("n1", "mg", isthmusv1.InstanceKindMeshGateway, "web"), name("api", nil), large("api")))
		n.stuck()
		if w.now() == nil {
			t.Fatal("it is not connected")
		}
		time.Sleep(time.Hour + closingTime)
		synctest.Wait()
		if said := w.now(); said != nil {
			t.Errorf("its stream is still there: %v", said)
		}
	})
}

// A stream that asks for nothing is not kept, by whatever protocol.
func TestSilentStreamsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := bubble(t, ads.Config{}, insecure.NewCredentials()).withAPI()
		silent := n.patient("mg")
		whole, err := n.client.StreamAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e := n.patient("mg")
		e.subscribe(xdsnode.Cluster, "*")
		e.want(xdsnode.Cluster, []string{"api"}, nil)
		time.Sleep(time.Minute)
		silent.wantEnd(codes.DeadlineExceeded, "asked for nothing")
		n.whole(whole, "mg").wantEnd(codes.DeadlineExceeded, "asked for nothing")
		e.subscribe(xdsnode.Listener, "*")
		e.want(xdsnode.Listener, []string{"default:10.0.0.1:8443"}, nil)
	})
}

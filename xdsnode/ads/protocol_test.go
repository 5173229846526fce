package ads_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
)

func (e *envoy) unsubscribe(t xdsnode.Type, names ...string) {
	e.t.Helper()
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: string(t), ResourceNamesUnsubscribe: names})
}

func (e *envoy) refuse(r *discovery.DeltaDiscoveryResponse, why string) {
	e.t.Helper()
	e.send(&discovery.DeltaDiscoveryRequest{
		TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ErrorDetail: grpcstatus.New(codes.InvalidArgument, why).Proto(),
	})
}

// Names may be asked for beside everything. One that is given up then is sent once more,
// or said to be gone: its client does not know whether it is among everything. When
// everything is given up, what was asked for by name stays.
func TestDeltaEverythingAndNames(t *testing.T) {
	n := newNode(t).withAPI()
	db := values{isthmusv1.NameKey(&isthmusv1.ServiceRef{Name: "db"}, ""): nil}
	n.change(name("db", nil))
	e := n.connect("mg", "")
	e.subscribe(xdsnode.Cluster, "*", "api", "nobody")
	e.want(xdsnode.Cluster, []string{"api", "db"}, []string{"nobody"})
	e.unsubscribe(xdsnode.Cluster, "api", "nobody", "phantom")
	e.want(xdsnode.Cluster, []string{"api"}, nil)
	e.subscribe(xdsnode.Cluster, "api", "later")
	e.want(xdsnode.Cluster, []string{"api"}, []string{"later"})

	e.unsubscribe(xdsnode.Cluster, "*")
	e.quiet()
	n.change(db) // Which is of nobody's concern any more.
	e.quiet()
	n.change(all(name("db", nil), name("later", nil)))
	e.want(xdsnode.Cluster, []string{"later"}, nil)
	e.subscribe(xdsnode.Cluster, "*")
	e.want(xdsnode.Cluster, []string{"db"}, nil) // It has the others.
	e.unsubscribe(xdsnode.Cluster, "*", "api", "later")
	e.quiet()
	e.subscribe(xdsnode.Cluster, "*")
	e.want(xdsnode.Cluster, []string{"api", "db", "later"}, nil)
}

// A client that has more than 4 MiB of names and versions may say so.
func TestDeltaManyInitialVersions(t *testing.T) {
	n := newNode(t).withAPI()
	client := n.as(n.address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	e := n.connectBy(client, "mg", "")
	had := map[string]string{}
	for i := range 60_000 {
		had[fmt.Sprintf("service-%06d.default.dc1.internal.11111111-2222-3333-4444-555555555555.consul", i)] = "0123456789abcdef01234567"
	}
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: string(xdsnode.Cluster), ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: had})
	e.want(xdsnode.Cluster, []string{"api"}, nil)
	r, err := e.stream.Recv()
	if err != nil || len(r.GetRemovedResources()) != len(had) {
		t.Errorf("%d of %d are said to be gone: %v", len(r.GetRemovedResources()), len(had), err)
	}
}

// Who an Envoy is, its first request says: what later ones say of that counts for nothing.
func TestNodeOfTheFirstRequest(t *testing.T) {
	n := newNode(t)
	n.change(all(gateway("n1"), name("api", nil)))
	n.change(values{isthmusv1.ProxyKey("", "n1", "", "web"): &isthmusv1.ProxyRoutes{
		Node: "n1", Id: "web", Kind: isthmusv1.InstanceKindProxy, Service: &isthmusv1.ServiceRef{Name: "web"}, Address: "10.0.0.9", Port: 21000,
	}})
	e := n.connect("mg", "n1")
	e.subscribe(xdsnode.Cluster, "*")
	e.want(xdsnode.Cluster, []string{"api"}, nil)
	e.node = introduced("web", "n1")
	e.subscribe(xdsnode.Listener, "*")
	e.want(xdsnode.Listener, []string{"default:10.0.0.1:8443"}, nil)

	w := n.connectWhole("mg")
	w.subscribe(xdsnode.Cluster)
	w.want(xdsnode.Cluster, "api")
	w.node = introduced("web", "n1")
	w.subscribe(xdsnode.Listener)
	w.want(xdsnode.Listener, "default:10.0.0.1:8443")
}

// A nonce is of one type, and of one response: an answer with that of another one answers
// nothing, and what it asks for besides is heard.
func TestNoncesAreOfTheirType(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.connect("mg", "")
	e.subscribe(xdsnode.Cluster, "*")
	clusters := e.unanswered(xdsnode.Cluster, []string{"api"}, nil)
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: string(xdsnode.Assignment), ResponseNonce: clusters.GetNonce(), ResourceNamesSubscribe: []string{"api"}})
	assignments := e.unanswered(xdsnode.Assignment, []string{"api"}, nil)
	n.change(all(name("db", nil), set("api", "10.1.0.2")))
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: string(xdsnode.Cluster), ResponseNonce: assignments.GetNonce()})
	e.refuse(&discovery.DeltaDiscoveryResponse{TypeUrl: string(xdsnode.Assignment), Nonce: clusters.GetNonce()}, "stale")
	e.acknowledge(clusters)
	e.want(xdsnode.Cluster, []string{"db"}, nil)
	e.acknowledge(assignments)
	e.want(xdsnode.Assignment, []string{"api"}, nil)
	e.acknowledge(assignments) // Once more.
	e.quiet()
}

// A refusal keeps back nothing of another type, nor of another proxy.
func TestRefusalsBlockNothingElse(t *testing.T) {
	n := newNode(t).withAPI()
	n.change(gateway("n2"))
	e := n.connect("mg", "n1")
	e.subscribe(xdsnode.Cluster, "*")
	e.refuse(e.unanswered(xdsnode.Cluster, []string{"api"}, nil), "no")
	e.subscribe(xdsnode.Assignment, "api")
	e.refuse(e.unanswered(xdsnode.Assignment, []string{"api"}, nil), "no")
	e.subscribe(xdsnode.Listener, "*")
	e.want(xdsnode.Listener, []string{"default:10.0.0.1:8443"}, nil)
	other := n.connect("mg", "n2")
	other.subscribe(xdsnode.Cluster, "*")
	other.want(xdsnode.Cluster, []string{"api"}, nil)
	n.change(name("db", nil))
	e.want(xdsnode.Cluster, []string{"db"}, nil)
	other.want(xdsnode.Cluster, []string{"db"}, nil)
}

// An Envoy that does not read gets what is newest when it does, and keeps no other one
// from what changes meanwhile, nor the node from going on.
func TestOneThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := bubble(t, ads.Config{}, insecure.NewCredentials(), narrow()...)
		n.change(all(gateway("n1"), name("api", nil), large("api")))
		slow := n.stuck()
		quick := n.patient("mg")
		quick.subscribe(xdsnode.Cluster, "*")
		quick.want(xdsnode.Cluster, []string{"api"}, nil)
		for i := range 20 {
			service := fmt.Sprintf("s%02d", i)
			n.change(all(name(service, nil), set("api", fmt.Sprintf("10.2.0.%d", i+1))))
			quick.want(xdsnode.Cluster, []string{service}, nil)
		}
		slow.want(xdsnode.Assignment, []string{"api"}, nil)
		slow.want(xdsnode.Cluster, []string{"api"}, nil)
		synctest.Wait()
		got := map[string]int{}
		for range 2 {
			r, err := slow.stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			got[r.GetTypeUrl()] += len(r.GetResources())
			slow.acknowledge(r)
		}
		if got[string(xdsnode.Cluster)] != 20 || got[string(xdsnode.Assignment)] != 1 {
			t.Errorf("it catches up with %v", got)
		}
		slow.quiet()
	})
}

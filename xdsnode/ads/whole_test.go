package ads_test

import (
	"context"
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// wholeEnvoy is a raw client of the protocol that sends all of a type at a time.
type wholeEnvoy struct {
	t      *testing.T
	stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	node   *core.Node
	// asked are the names and what was had last, by type.
	names            map[xdsnode.Type][]string
	versions, nonces map[xdsnode.Type]string
}

func (n *node) connectWhole(id string) *wholeEnvoy {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	n.t.Cleanup(cancel)
	stream, err := n.client.StreamAggregatedResources(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	return n.whole(stream, id)
}

func (n *node) whole(stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient, id string) *wholeEnvoy {
	return &wholeEnvoy{
		t: n.t, stream: stream, node: &core.Node{Id: id}, names: map[xdsnode.Type][]string{},
		versions: map[xdsnode.Type]string{}, nonces: map[xdsnode.Type]string{},
	}
}

func (e *wholeEnvoy) wantEnd(code codes.Code, words string) {
	e.t.Helper()
	_, err := e.stream.Recv()
	wantEnd(e.t, err, code, words)
}

// ask sends a request with what it has, which acknowledges that.
func (e *wholeEnvoy) ask(t xdsnode.Type, refusal string) {
	e.t.Helper()
	r := &discovery.DiscoveryRequest{
		TypeUrl: string(t), Node: e.node, ResourceNames: e.names[t], VersionInfo: e.versions[t], ResponseNonce: e.nonces[t],
	}
	e.node = nil
	if refusal != "" {
		r.ErrorDetail = grpcstatus.New(codes.InvalidArgument, refusal).Proto()
	}
	if err := e.stream.Send(r); err != nil {
		e.t.Fatal(err)
	}
}

func (e *wholeEnvoy) subscribe(t xdsnode.Type, names ...string) {
	e.t.Helper()
	e.names[t] = names
	e.ask(t, "")
}

// receive wants a response with the resources, and does not answer it.
func (e *wholeEnvoy) receive(t xdsnode.Type, names ...string) *discovery.DiscoveryResponse {
	e.t.Helper()
	r, err := e.stream.Recv()
	if err != nil {
		e.t.Fatal(err)
	}
	var got []string
	for _, packed := range r.GetResources() {
		m, err := packed.UnmarshalNew()
		if err != nil {
			e.t.Fatal(err)
		}
		switch m := m.(type) {
		case *clusterv3.Cluster:
			got = append(got, m.GetName())
		case *endpointv3.ClusterLoadAssignment:
			got = append(got, m.GetClusterName())
		case *listenerv3.Listener:
			got = append(got, m.GetName())
		}
	}
	if r.GetTypeUrl() != string(t) || !slices.Equal(got, names) {
		e.t.Fatalf("got %s of %v, want %s of %v", r.GetTypeUrl(), got, t, names)
	}
	e.nonces[t] = r.GetNonce()
	return r
}

func (e *wholeEnvoy) want(t xdsnode.Type, names ...string) {
	e.t.Helper()
	e.versions[t] = e.receive(t, names...).GetVersionInfo()
	e.ask(t, "")
}

// start begins a stream that has all of a gateway with one name.
func (e *wholeEnvoy) start() *wholeEnvoy {
	e.t.Helper()
	e.subscribe(xdsnode.Cluster)
	e.want(xdsnode.Cluster, "api")
	e.subscribe(xdsnode.Assignment, "api")
	e.want(xdsnode.Assignment, "api")
	e.subscribe(xdsnode.Listener)
	e.want(xdsnode.Listener, "default:10.0.0.1:8443")
	return e
}

func TestWholeFollows(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.connectWhole("mg").start()
	n.change(set("api", "10.1.0.2"))
	e.want(xdsnode.Assignment, "api")
	// Another name comes with its cluster, and its endpoints when they are asked for: a new
	// name is answered whatever else is the same.
	n.change(name("db", nil))
	e.want(xdsnode.Cluster, "api", "db")
	e.subscribe(xdsnode.Assignment, "api", "db")
	e.want(xdsnode.Assignment, "api", "db")
	// Fewer names are no question.
	e.subscribe(xdsnode.Assignment, "api")
	n.change(values{isthmusv1.NameKey(&isthmusv1.ServiceRef{Name: "db"}, ""): nil})
	e.want(xdsnode.Cluster, "api")
	n.change(set("api", "10.1.0.3"))
	e.want(xdsnode.Assignment, "api")
}

// A cluster that changed takes its endpoints along.
func TestWholeSendsEndpointsWithTheirCluster(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.connectWhole("mg").start()
	limited := gateway("n1")
	for _, v := range limited {
		v.(*isthmusv1.ProxyRoutes).Gateway.Limits = &isthmusv1.UpstreamLimits{MaxConnections: proto.Uint32(7)}
	}
	n.change(limited)
	e.want(xdsnode.Cluster, "api")
	e.want(xdsnode.Assignment, "api")
}

// What was refused is not sent again before it changes, and a slow client gets what is
// newest.
func TestWholeRefusedAndSlow(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.connectWhole("mg").start()
	n.change(set("api", "10.1.0.2"))
	e.receive(xdsnode.Assignment, "api")
	e.ask(xdsnode.Assignment, "malformed")
	n.change(name("db", nil)) // Which comes next, and nothing before it.
	e.want(xdsnode.Cluster, "api", "db")
	n.change(set("api", "10.1.0.3"))
	slow := e.receive(xdsnode.Assignment, "api").GetVersionInfo()
	n.change(set("api", "10.1.0.4"))
	n.change(set("api", "10.1.0.5"))
	e.versions[xdsnode.Assignment] = slow
	e.ask(xdsnode.Assignment, "")
	e.want(xdsnode.Assignment, "api")
	n.change(set("api", "10.1.0.5")) // It is the same.
	n.change(values{isthmusv1.NameKey(&isthmusv1.ServiceRef{Name: "db"}, ""): nil})
	e.want(xdsnode.Cluster, "api")
}

// A client that comes from another node is sent nothing that it has.
func TestWholeSendsNothingAgain(t *testing.T) {
	first := newNode(t).withAPI().connectWhole("mg").start()
	other := newNode(t).withAPI()
	e := other.connectWhole("mg")
	e.versions, e.names = first.versions, first.names
	for _, typ := range ofGateway {
		e.ask(typ, "")
	}
	other.change(set("api", "10.1.0.9"))
	e.want(xdsnode.Assignment, "api")
}

// What was given up and is asked for again is answered; a cluster that was asked for by
// its name and goes is missing in an answer.
func TestWholeGivesUpAndAsksAgain(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.connectWhole("mg").start()
	e.subscribe(xdsnode.Assignment)
	e.subscribe(xdsnode.Assignment, "api")
	e.want(xdsnode.Assignment, "api")

	n.change(name("db", nil))
	e.want(xdsnode.Cluster, "api", "db")
	named := n.connectWhole("mg")
	named.subscribe(xdsnode.Cluster, "api", "db")
	named.want(xdsnode.Cluster, "api", "db")
	n.change(values{isthmusv1.NameKey(&isthmusv1.ServiceRef{Name: "db"}, ""): nil})
	named.want(xdsnode.Cluster, "api")
}

// A client that comes back, and gets another cluster than it has, gets its endpoints too.
func TestWholeEndpointsOfAClusterAfterAReturn(t *testing.T) {
	n := newNode(t).withAPI()
	first := n.connectWhole("mg").start()
	e := n.connectWhole("mg")
	e.versions[xdsnode.Cluster], e.versions[xdsnode.Assignment] = "another", first.versions[xdsnode.Assignment]
	e.subscribe(xdsnode.Cluster)
	e.want(xdsnode.Cluster, "api")
	e.subscribe(xdsnode.Assignment, "api")
	e.want(xdsnode.Assignment, "api")
}

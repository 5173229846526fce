package ads_test

import (
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

func TestDeltaFollows(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.start()
	n.change(set("api", "10.1.0.1", "10.1.0.2"))
	e.want(xdsnode.Assignment, []string{"api"}, nil)
	n.change(set("api", "10.1.0.1", "10.1.0.2"))
	e.quiet()

	n.change(name("api", &isthmusv1.NameRoute{Sni: "API"})) // Envoy reads names in lower case.
	e.quiet()
	n.change(all(name("db", nil)))
	e.want(xdsnode.Cluster, []string{"db"}, nil)
	e.subscribe(xdsnode.Assignment, "db")
	e.want(xdsnode.Assignment, []string{"db"}, nil)

	// A listener makes way in the same response for another; what it led to is taken away
	// when that was answered.
	settings := gateway("n1")
	for _, v := range settings {
		v.(*isthmusv1.ProxyRoutes).GetGateway().GetBinds()[0].Port = 9443
	}
	n.change(all(settings, values{isthmusv1.NameKey(&isthmusv1.ServiceRef{Name: "db"}, ""): nil}))
	e.want(xdsnode.Listener, []string{"default:10.0.0.1:9443"}, []string{"default:10.0.0.1:8443"})
	e.want(xdsnode.Cluster, nil, []string{"db"})
	e.want(xdsnode.Assignment, nil, []string{"db"})
	e.quiet()
}

// Nothing is named before it was taken in: a listener waits for the answer for the
// clusters that it leads to, and these for the listener that leads to them no more.
func TestDeltaOrder(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.start()
	wildcard := func(dc string) values {
		return values{isthmusv1.WildcardKey(dc): &isthmusv1.WildcardRoute{Suffix: "." + dc, Datacenter: dc, Endpoints: ref(dc)}}
	}
	n.change(wildcard("dc2"))
	clusters := e.unanswered(xdsnode.Cluster, []string{"dc2"}, nil)
	e.subscribe(xdsnode.Assignment, "dc2") // As Envoy does before it answers.
	e.want(xdsnode.Assignment, []string{"dc2"}, nil)
	e.quiet()
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: clusters.GetTypeUrl(), ResponseNonce: clusters.GetNonce()})
	listener := e.unanswered(xdsnode.Listener, []string{"default:10.0.0.1:8443"}, nil)
	n.change(values{isthmusv1.WildcardKey("dc2"): nil})
	n.change(set("api", "10.1.0.7"))
	e.want(xdsnode.Assignment, []string{"api"}, nil) // Which nothing waits for.
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: listener.GetTypeUrl(), ResponseNonce: listener.GetNonce()})
	e.want(xdsnode.Listener, []string{"default:10.0.0.1:8443"}, nil)
	e.want(xdsnode.Cluster, nil, []string{"dc2"})
	e.want(xdsnode.Assignment, nil, []string{"dc2"})
}

// One resource that is refused keeps back no other that it came with.
func TestDeltaFindsWhatIsRefused(t *testing.T) {
	n := newNode(t).withAPI()
	n.change(all(name("b", nil), name("c", nil), name("d", nil)))
	e := n.connect("mg", "")
	e.subscribe(xdsnode.Assignment, "api", "b", "c", "d")
	refuse := func(r *discovery.DeltaDiscoveryResponse) {
		e.send(&discovery.DeltaDiscoveryRequest{
			TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ErrorDetail: grpcstatus.New(codes.InvalidArgument, "c is bad").Proto(),
		})
	}
	refuse(e.unanswered(xdsnode.Assignment, []string{"api", "b", "c", "d"}, nil))
	e.want(xdsnode.Assignment, []string{"api", "b"}, nil)
	refuse(e.unanswered(xdsnode.Assignment, []string{"c", "d"}, nil))
	refuse(e.unanswered(xdsnode.Assignment, []string{"c"}, nil))
	e.want(xdsnode.Assignment, []string{"d"}, nil)
	e.quiet()
	n.change(set("c", "10.1.0.3"))
	e.want(xdsnode.Assignment, []string{"c"}, nil)
}

// An Envoy that comes back, and gets another cluster than it has, gets its endpoints too,
// though it says that it has them.
func TestDeltaEndpointsOfAClusterAfterAReturn(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.connect("mg", "")
	e.subscribe(xdsnode.Assignment, "api")
	version := e.want(xdsnode.Assignment, []string{"api"}, nil).GetResources()[0].GetVersion()
	back := n.connect("mg", "")
	back.send(&discovery.DeltaDiscoveryRequest{
		TypeUrl: string(xdsnode.Cluster), ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: map[string]string{"api": "another"},
	})
	back.want(xdsnode.Cluster, []string{"api"}, nil)
	back.send(&discovery.DeltaDiscoveryRequest{
		TypeUrl: string(xdsnode.Assignment), ResourceNamesSubscribe: []string{"api"}, InitialResourceVersions: map[string]string{"api": version},
	})
	back.want(xdsnode.Assignment, []string{"api"}, nil)
}

// A node that is told to stop does, though a client has not said a word.
func TestStopsWithSilentClients(t *testing.T) {
	n := newNode(t).withAPI()
	n.connect("mg", "")
	n.start()
	n.stop() // The test's end waits for it.
}

// A cluster that was sent again has its endpoints sent again, though they are the same.
func TestDeltaSendsEndpointsWithTheirCluster(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.start()
	limited := gateway("n1")
	for _, v := range limited {
		v.(*isthmusv1.ProxyRoutes).Gateway.Limits = &isthmusv1.UpstreamLimits{MaxConnections: proto.Uint32(7)}
	}
	n.change(limited)
	e.want(xdsnode.Cluster, []string{"api"}, nil)
	e.want(xdsnode.Assignment, []string{"api"}, nil)
	e.quiet()
}

// An Envoy that comes from another node, or comes back, is sent nothing that it has.
func TestDeltaSendsNothingAgain(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.connect("mg", "")
	had := map[xdsnode.Type]map[string]string{}
	for _, typ := range ofGateway {
		subscribe := "*"
		if typ == xdsnode.Assignment {
			subscribe = "api"
		}
		e.subscribe(typ, subscribe)
		r, err := e.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
		had[typ] = map[string]string{}
		for _, x := range r.GetResources() {
			had[typ][x.GetName()] = x.GetVersion()
		}
	}
	other := newNode(t).withAPI()
	back := other.connect("mg", "")
	for _, typ := range ofGateway {
		r := &discovery.DeltaDiscoveryRequest{TypeUrl: string(typ), ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: had[typ]}
		if typ == xdsnode.Assignment {
			r.ResourceNamesSubscribe = []string{"api"}
		}
		back.send(r)
	}
	back.quiet()
	// What it has that is gone is taken away.
	late := other.connect("mg", "")
	late.send(&discovery.DeltaDiscoveryRequest{
		TypeUrl: string(xdsnode.Cluster), ResourceNamesSubscribe: []string{"*"},
		InitialResourceVersions: map[string]string{"api": had[xdsnode.Cluster]["api"], "old": "1"},
	})
	late.want(xdsnode.Cluster, nil, []string{"old"})
}

// What an Envoy refuses is not sent again before it changes, and keeps back nothing.
func TestDeltaRefused(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.start()
	n.change(set("api", "10.1.0.2"))
	r := e.unanswered(xdsnode.Assignment, []string{"api"}, nil)
	e.send(&discovery.DeltaDiscoveryRequest{
		TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ErrorDetail: grpcstatus.New(codes.InvalidArgument, "malformed").Proto(),
	})
	e.quiet()
	n.change(name("db", nil))
	e.want(xdsnode.Cluster, []string{"db"}, nil)
	n.change(set("api", "10.1.0.3"))
	e.want(xdsnode.Assignment, []string{"api"}, nil)
}

// A slow Envoy gets what is newest, not each step.
func TestDeltaCoalesces(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.start()
	n.change(set("api", "10.1.0.2"))
	first := e.unanswered(xdsnode.Assignment, []string{"api"}, nil)
	for _, address := range []string{"10.1.0.3", "10.1.0.4", "10.1.0.5"} {
		n.change(set("api", address))
	}
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: first.GetTypeUrl(), ResponseNonce: first.GetNonce()})
	r := e.want(xdsnode.Assignment, []string{"api"}, nil)
	m, err := r.GetResources()[0].GetResource().UnmarshalNew()
	if err != nil || !strings.Contains(m.(interface{ String() string }).String(), "10.1.0.5") {
		t.Errorf("%v, %v", m, err)
	}
	e.quiet()
}

// Asked for again, a resource is sent again; what was given up is not.
func TestDeltaResubscribe(t *testing.T) {
	n := newNode(t).withAPI()
	e := n.start()
	e.subscribe(xdsnode.Assignment, "api")
	e.want(xdsnode.Assignment, []string{"api"}, nil)
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: string(xdsnode.Assignment), ResourceNamesUnsubscribe: []string{"api"}})
	e.quiet() // It was read.
	n.change(set("api", "10.1.0.9"))
	e.quiet()
	e.subscribe(xdsnode.Assignment, "api")
	e.want(xdsnode.Assignment, []string{"api"}, nil)
}

// A stream that is not served ends, and says why.
func TestDeltaRefusesStreams(t *testing.T) {
	n := newNode(t)
	early := n.connect("mg", "")
	early.subscribe(xdsnode.Cluster, "*")
	early.wantEnd(codes.Unavailable, "not read all routes yet")
	n.change(all(gateway("n1"), gateway("n2"), values{
		isthmusv1.ProxyKey("", "n1", "", "web"): &isthmusv1.ProxyRoutes{Node: "n1", Id: "web", Kind: "ingress-gateway"},
	}))
	for _, test := range []struct {
		id, node string
		code     codes.Code
		words    string
	}{
		{"", "", codes.InvalidArgument, "names no node"},
		{"nobody", "", codes.NotFound, "no such proxy"},
		{"mg", "", codes.FailedPrecondition, "n1/mg, n2/mg"},
		{"web", "n1", codes.FailedPrecondition, "not served"},
	} {
		e := n.connect(test.id, test.node)
		e.subscribe(xdsnode.Cluster, "*")
		e.wantEnd(test.code, test.words)
	}
	e := n.connect("mg", "n2")
	e.subscribe(xdsnode.Cluster, "*")
	e.want(xdsnode.Cluster, nil, nil) // There is none, which is said.
	n.change(values{isthmusv1.ProxyKey("", "n2", "", "mg"): nil})
	e.wantEnd(codes.NotFound, "registered no more")
	e = n.connect("mg", "")
	e.subscribe(xdsnode.Cluster, "*")
	e.want(xdsnode.Cluster, nil, nil)
	n.stop()
	e.wantEnd(codes.Unavailable, "stopping")
}

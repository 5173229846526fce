package ads_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
)

const patience = 30 * time.Second

// node is an xds node on a real connection.
type node struct {
	t        *testing.T
	server   *ads.Server
	client   discovery.AggregatedDiscoveryServiceClient
	sequence uint64
	// stop tells it to stop.
	stop context.CancelFunc
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, server: ads.NewServer(nil)}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It blocks on nothing.
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n.stop = cancel
	ended := make(chan error, 1)
	go func() { ended <- n.server.Serve(ctx, listener) }()
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the node ended with %v", err)
		}
		_ = connection.Close()
	})
	n.client = discovery.NewAggregatedDiscoveryServiceClient(connection)
	return n
}

// change writes values, nil for none, in one transaction.
func (n *node) change(values map[isthmusv1.Key]proto.Message) {
	n.t.Helper()
	n.sequence++
	t := &isthmusv1.Transaction{Stream: "ROUTES_dc1", Incarnation: "i", Sequence: n.sequence, Reset: n.sequence == 1}
	for key, value := range values {
		t.Changes = append(t.Changes, isthmusv1.Change{Key: key, Value: value, Tombstone: value == nil, Sequence: n.sequence})
	}
	n.server.Apply(t)
	if err := n.server.Emit(n.t.Context(), nil); err != nil {
		n.t.Fatal(err)
	}
}

type values = map[isthmusv1.Key]proto.Message

func gateway(node string) values {
	return values{isthmusv1.ProxyKey("", node, "", "mg"): &isthmusv1.ProxyRoutes{
		Node: node, Id: "mg", Kind: isthmusv1.InstanceKindMeshGateway,
		Gateway: &isthmusv1.GatewaySettings{Binds: []*isthmusv1.GatewayBind{{Name: "default", Address: "10.0.0.1", Port: 8443}}},
	}}
}

func ref(name string) *isthmusv1.EndpointSetRef {
	return &isthmusv1.EndpointSetRef{Datacenter: "dc1", Scope: isthmusv1.Scope_SCOPE_LAN, Service: &isthmusv1.ServiceRef{Name: name}}
}

func name(name string, more *isthmusv1.NameRoute) values {
	route := &isthmusv1.NameRoute{Sni: name, Service: &isthmusv1.ServiceRef{Name: name}, Endpoints: ref(name)}
	proto.Merge(route, more)
	return values{isthmusv1.NameKey(route.GetService(), ""): route}
}

func set(name string, addresses ...string) values {
	s := &isthmusv1.EndpointSet{Ref: ref(name), Chunks: 1}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, &isthmusv1.Endpoint{Address: a, Port: 80, Health: isthmusv1.Health_HEALTH_HEALTHY, Weight: 1})
	}
	return values{ref(name).ID().Key(0): s}
}

func all(parts ...values) values {
	out := values{}
	for _, part := range parts {
		maps.Copy(out, part)
	}
	return out
}

// envoy is a raw client: it asks and answers as a test tells it to.
type envoy struct {
	t      *testing.T
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	// node introduces it, in its first request.
	node *core.Node
}

func (n *node) connect(id, on string) *envoy {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	n.t.Cleanup(cancel)
	stream, err := n.client.DeltaAggregatedResources(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	e := &envoy{t: n.t, stream: stream, node: &core.Node{Id: id}}
	if on != "" {
		e.node.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"node_name": structpb.NewStringValue(on)}}
	}
	return e
}

func (e *envoy) send(r *discovery.DeltaDiscoveryRequest) {
	e.t.Helper()
	r.Node, e.node = e.node, nil
	if err := e.stream.Send(r); err != nil {
		e.t.Fatal(err)
	}
}

func (e *envoy) subscribe(t xdsnode.Type, names ...string) {
	e.t.Helper()
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: string(t), ResourceNamesSubscribe: names})
}

// want receives one response, says what it has to hold, and acknowledges it.
func (e *envoy) want(t xdsnode.Type, names, gone []string) *discovery.DeltaDiscoveryResponse {
	e.t.Helper()
	r := e.unanswered(t, names, gone)
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
	return r
}

func (e *envoy) unanswered(t xdsnode.Type, names, gone []string) *discovery.DeltaDiscoveryResponse {
	e.t.Helper()
	r, err := e.stream.Recv()
	if err != nil {
		e.t.Fatal(err)
	}
	var got []string
	for _, x := range r.GetResources() {
		got = append(got, x.GetName())
	}
	if r.GetTypeUrl() != string(t) || !slices.Equal(got, names) || !slices.Equal(r.GetRemovedResources(), gone) {
		e.t.Fatalf("got %s of %v without %v, want %s of %v without %v", r.GetTypeUrl(), got, r.GetRemovedResources(), t, names, gone)
	}
	return r
}

// wantEnd wants the stream to end with a code and words.
func (e *envoy) wantEnd(code codes.Code, words string) {
	e.t.Helper()
	_, err := e.stream.Recv()
	if grpcstatus.Code(err) != code || !strings.Contains(err.Error(), words) {
		e.t.Errorf("the stream ends with %v, want %s and %q", err, code, words)
	}
}

// start begins a stream that has all of a gateway with one name.
func (n *node) start() *envoy {
	n.t.Helper()
	e := n.connect("mg", "")
	e.subscribe(xdsnode.Cluster, "*")
	e.want(xdsnode.Cluster, []string{"api"}, nil)
	e.subscribe(xdsnode.Assignment, "api")
	e.want(xdsnode.Assignment, []string{"api"}, nil)
	e.subscribe(xdsnode.Listener, "*")
	e.want(xdsnode.Listener, []string{"default:10.0.0.1:8443"}, nil)
	return e
}

// quiet proves that nothing else was sent: what is asked for now comes next.
func (e *envoy) quiet() {
	e.t.Helper()
	e.subscribe(xdsnode.Assignment, "nobody")
	e.want(xdsnode.Assignment, nil, []string{"nobody"})
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: string(xdsnode.Assignment), ResourceNamesUnsubscribe: []string{"nobody"}})
}

func (n *node) withAPI() *node {
	n.t.Helper()
	n.change(all(gateway("n1"), name("api", nil), set("api", "10.1.0.1")))
	return n
}

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
	for _, typ := range xdsnode.Types() {
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
	for _, typ := range xdsnode.Types() {
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
		isthmusv1.ProxyKey("", "n1", "", "web"): &isthmusv1.ProxyRoutes{Node: "n1", Id: "web", Kind: isthmusv1.InstanceKindProxy},
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

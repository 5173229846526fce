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
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
)

const patience = 30 * time.Second

// ofGateway are the types of what a mesh gateway is served.
var ofGateway = []xdsnode.Type{xdsnode.Cluster, xdsnode.Assignment, xdsnode.Listener}

// node is an xds node on a real connection.
type node struct {
	t        *testing.T
	server   *ads.Server
	client   discovery.AggregatedDiscoveryServiceClient
	address  string
	sequence uint64
	// stop tells it to stop.
	stop context.CancelFunc
}

func newNode(t *testing.T) *node {
	t.Helper()
	return newNodeOf(t, ads.Config{}, insecure.NewCredentials())
}

// newNodeOf is a node, and a client of it that shows itself as the credentials say.
func newNodeOf(t *testing.T, cfg ads.Config, as credentials.TransportCredentials) *node {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It blocks on nothing.
	if err != nil {
		t.Fatal(err)
	}
	n := serve(t, cfg, listener)
	n.address = listener.Addr().String()
	n.client = n.as(listener.Addr().String(), grpc.WithTransportCredentials(as))
	return n
}

// serve runs a node until the test ends.
func serve(t *testing.T, cfg ads.Config, listener net.Listener) *node {
	t.Helper()
	n := &node{t: t, server: ads.NewServer(cfg)}
	ctx, cancel := context.WithCancel(t.Context())
	n.stop = cancel
	ended := make(chan error, 1)
	go func() { ended <- n.server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the node ended with %v", err)
		}
	})
	return n
}

// as is a client of the node on a connection of its own.
func (n *node) as(target string, options ...grpc.DialOption) discovery.AggregatedDiscoveryServiceClient {
	n.t.Helper()
	connection, err := grpc.NewClient(target, options...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = connection.Close() })
	return discovery.NewAggregatedDiscoveryServiceClient(connection)
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
	return n.connectBy(n.client, id, on)
}

func (n *node) connectBy(client discovery.AggregatedDiscoveryServiceClient, id, on string) *envoy {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	n.t.Cleanup(cancel)
	stream, err := client.DeltaAggregatedResources(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	return &envoy{t: n.t, stream: stream, node: introduced(id, on)}
}

// introduced is a node as Consul's users have it in their bootstraps.
func introduced(id, on string) *core.Node {
	node := &core.Node{Id: id}
	if on != "" {
		node.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"node_name": structpb.NewStringValue(on)}}
	}
	return node
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
	e.acknowledge(r)
	return r
}

func (e *envoy) acknowledge(r *discovery.DeltaDiscoveryResponse) {
	e.t.Helper()
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
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
	wantEnd(e.t, err, code, words)
}

func wantEnd(t *testing.T, err error, code codes.Code, words string) {
	t.Helper()
	if grpcstatus.Code(err) != code || !strings.Contains(err.Error(), words) {
		t.Errorf("the stream ends with %v, want %s and %q", err, code, words)
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

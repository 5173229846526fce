package ads_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-mesh/isthmus/deploy/freeport"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// freePort is one that nobody listens at.
func freePort(t *testing.T) uint32 {
	t.Helper()
	return uint32(freeport.Hold(t).Port())
}

// unlucky is a sidecar with whatever may be in a catalog, of which an Envoy refuses much.
func unlucky(t *testing.T, dir string) values {
	t.Helper()
	service := &isthmusv1.ServiceRef{Name: "edge"}
	public, first := freePort(t), freePort(t)
	own, err := json.Marshal(map[string]string{
		"max_request_headers_kb":   "4000000",
		"envoy_local_cluster_json": `{"name":"local_app","type":"EDS","eds_cluster_config":{"eds_config":{"ads":{},"resource_api_version":"V3"}},"connect_timeout":"1s"}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &isthmusv1.ProxyRoutes{
		Node: "n1", Id: "edge", Kind: isthmusv1.InstanceKindProxy, Service: service, SpiffeId: isthmusv1.SPIFFEID(service, "dc1", testDomain),
		Address: "127.0.0.1", Port: public, Local: &isthmusv1.Local{Protocol: "http", MaxInboundConnections: 1}, RoutesetHash: "h",
		LocalServiceAddress: "localhost", LocalServicePort: 70_000, ConfigJson: own,
		Expose: &isthmusv1.Expose{Paths: []*isthmusv1.ExposePath{
			{Path: "/a", ListenerPort: public, Protocol: "http"}, {Path: "/b", ListenerPort: 70_000}, {Path: "", ListenerPort: freePort(t), LocalPathPort: 70_000},
			{Path: "/health", ListenerPort: freePort(t), LocalPathPort: 81, Protocol: "http"},
		}},
		Binds: []*isthmusv1.Bind{
			{Route: "a", Address: "127.0.0.1", Port: first}, {Route: "b", Address: "127.0.0.1", Port: first}, {Route: "b", Address: "127.0.0.1", Port: public},
			{Route: "b", Address: "localhost", Port: 1}, {Route: "b", Port: 0}, {Route: "b", Port: 70_000}, {Route: "b", Address: "fe80::1%lo", Port: 1},
			{Route: "a", SocketPath: dir + "/" + strings.Repeat("x", 108)}, {Route: "a", SocketPath: dir + "/m", SocketMode: "7777"},
			{Route: "a", SocketPath: dir + "/s", SocketMode: "0600"}, {Route: "b", SocketPath: dir + "/s"},
			{Route: "c", Address: "::1", Port: first}, {Route: "a", Address: "0:0:0:0:0:0:0:1", Port: first}, {Route: "nobody", Address: "127.0.0.1", Port: 1},
		},
	}
	routes := &isthmusv1.RouteSet{Service: service, Hash: "h"}
	for i, protocol := range []string{"http", "tcp", "grpc"} {
		id := string(rune('a' + i))
		routes.Routes = append(routes.Routes, &isthmusv1.Route{
			Id: id, Destination: &isthmusv1.ServiceRef{Name: id}, Datacenter: "dc9", Protocol: protocol, Chain: &isthmusv1.Chain{
				Start: "resolver:" + id, IsDefault: protocol != "http",
				Nodes: []*isthmusv1.ChainNode{{Name: "resolver:" + id, Node: &isthmusv1.ChainNode_Resolver{Resolver: &isthmusv1.ChainResolver{Target: id}}}},
			},
			Targets: []*isthmusv1.Target{{Id: id, Service: &isthmusv1.ServiceRef{Name: id}, Datacenter: "dc9", Sni: id + ".default.dc9.internal." + testDomain}},
			Config: &isthmusv1.UpstreamConfig{PassiveHealthCheck: &isthmusv1.PassiveHealthCheck{
				EnforcingConsecutive_5Xx: proto.Uint32(1000), MaxEjectionPercent: proto.Uint32(1000), Interval: durationpb.New(-time.Second), BaseEjectionTime: durationpb.New(0),
			}},
		})
	}
	routes.Routes[1].Config.EnvoyClusterJson = `{"name":"x","connect_timeout":"0s"}`
	routes.Routes[2].Config.EnvoyListenerJson = fmt.Sprintf(`{"name":"y","address":{"socket_address":{"address":"127.0.0.1","port_value":%d}}}`, 70_000)
	return values{
		isthmusv1.ProxyKey("", "n1", "", "edge"): p, isthmusv1.RouteSetKey(service, "h"): routes,
		isthmusv1.InboundKey(service): &isthmusv1.Inbound{Service: service, Protocol: "http", DefaultAction: "deny", TrustDomain: testDomain},
	}
}

// wholeVersion is the version of all that a proxy is served, which is of each type.
func (n *node) wholeVersion(id string, w *words) string {
	n.t.Helper()
	return n.wholeVersionOf(id, w, len(xdsnode.Types()))
}

// wholeVersionOf is that of a proxy that has resources of that many types.
func (n *node) wholeVersionOf(id string, w *words, types int) string {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	defer cancel()
	stream, err := n.client.DeltaAggregatedResources(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	e := &envoy{t: n.t, stream: stream, node: introduced(id, "n1")}
	for _, t := range xdsnode.Types() {
		e.subscribe(t, "*")
		r, err := e.stream.Recv()
		if err != nil {
			n.t.Fatal(err)
		}
		if len(r.GetResources()) > 0 {
			types--
		}
		e.acknowledge(r)
	}
	if types != 0 {
		n.t.Fatalf("%d types more have resources than expected", -types)
	}
	e.quiet()
	return w.now().GetVersion()
}

// An Envoy takes whatever may be in a catalog, by both protocols: what it would refuse is
// left out, and stated. What is left is active at once: nothing waits for what never
// comes, though the datacenter is unknown.
func TestEnvoyTakesTheUnlucky(t *testing.T) {
	for _, protocol := range []string{"DELTA_GRPC", "GRPC"} {
		t.Run(protocol, func(t *testing.T) {
			ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
			w := newWords()
			n, address, _ := secureNode(t, ca, w, 0)
			n.change(unlucky(t, t.TempDir()))
			leaf := issue(t, ca, "edge", "dc1")
			n.client = n.as(address.String(), grpc.WithTransportCredentials(showing(holding(leaf), "dc1")))
			whole := n.wholeVersion("edge", w)
			startEnvoyAs(t, "edge", protocol, address, leaf)
			said := w.until(t, "it has all", func(s *isthmusv1.ProxyStatus, _ int) bool {
				return s.GetLastNack() != nil || s.GetCurrent() && s.GetVersion() == whole
			})
			if said.GetLastNack() != nil {
				t.Errorf("it refuses %v", said.GetLastNack())
			}
		})
	}
}

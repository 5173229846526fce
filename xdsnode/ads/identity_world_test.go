package ads_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
)

// testDomain is the trust domain of the datacenter.
const testDomain = "11111111-2222-3333-4444-555555555555.consul"

func newCA(t *testing.T, config identity.DevCAConfig) *identity.DevCA {
	t.Helper()
	ca, err := identity.NewDevCA(config)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *identity.DevCA, service, datacenter string) *identity.Identity {
	t.Helper()
	leaf, err := ca.Issue(nameOf(service, datacenter))
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func nameOf(service, datacenter string) identity.Name {
	return identity.Name{Service: &isthmusv1.ServiceRef{Name: service}, Datacenter: datacenter}
}

// trusting is an identity with more roots than its own.
func trusting(t *testing.T, leaf *identity.Identity, service string, roots ...*identity.Identity) *identity.Identity {
	t.Helper()
	key, err := leaf.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	m := identity.Material{Chain: leaf.ChainPEM(), Key: key}
	for _, of := range roots {
		m.Roots = append(m.Roots, of.RootsPEM()...)
	}
	out, err := identity.New(nameOf(service, "dc1"), m, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// known is how a node with a certificate knows Envoys.
func known(live *identity.Live) *ads.Identity {
	return &ads.Identity{
		TLS: live.ServerConfig(identity.Parameters{}),
		Client: func(state tls.ConnectionState) (string, time.Time, error) {
			uri, until, err := live.Client(state)
			return fmt.Sprint(uri), until, err
		},
	}
}

// holding is a Live that has an identity.
func holding(leaf *identity.Identity) *identity.Live {
	live := identity.NewLive(nil)
	live.Take(leaf, nil)
	return live
}

// showing is a client that shows a certificate, and looks at the node's as an Envoy does.
func showing(live *identity.Live, datacenter string) credentials.TransportCredentials {
	node := isthmusv1.SPIFFEID(&isthmusv1.ServiceRef{Name: isthmusv1.ServiceXDS}, datacenter, testDomain)
	return credentials.NewTLS(live.ClientConfig("", []string{node}, identity.Parameters{}))
}

// proxyOf is a registered proxy of a service of dc1.
func proxyOf(node, id, kind, service string) values {
	ref := &isthmusv1.ServiceRef{Name: service}
	routes := &isthmusv1.ProxyRoutes{
		Node: node, Id: id, Kind: kind, Service: ref, SpiffeId: isthmusv1.SPIFFEID(ref, "dc1", testDomain),
	}
	if kind == isthmusv1.InstanceKindMeshGateway {
		routes.Gateway = &isthmusv1.GatewaySettings{Binds: []*isthmusv1.GatewayBind{{Name: "default", Address: "10.0.0.1", Port: 8443}}}
	}
	return values{isthmusv1.ProxyKey("", node, "", id): routes}
}

// ask opens a stream and asks for clusters; it returns what comes of that.
func ask(ctx context.Context, client discovery.AggregatedDiscoveryServiceClient, node *core.Node) error {
	stream, err := client.DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: string(xdsnode.Cluster), ResourceNamesSubscribe: []string{"*"}}); err != nil {
		_, err = stream.Recv() // Which says why.
		return err
	}
	_, err = stream.Recv()
	return err
}

// presenting shows an identity, whatever the node shows.
func presenting(t *testing.T, leaf *identity.Identity) *tls.Config {
	t.Helper()
	key, err := leaf.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(leaf.ChainPEM(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certificate}} //nolint:gosec // What is tried is the node.
}

// patient opens a stream that lives as long as the test.
func (n *node) patient(id string) *envoy { return n.patientOn(id, "") }

func (n *node) patientOn(id, on string) *envoy {
	n.t.Helper()
	stream, err := n.client.DeltaAggregatedResources(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return &envoy{t: n.t, stream: stream, node: introduced(id, on)}
}

// closingTime is more than a refused client has before its connection is closed.
const closingTime = 2 * time.Second

// bubble is a node and a client in a bubble of fake time, where everything ends with the
// test.
func bubble(t *testing.T, cfg ads.Config, as credentials.TransportCredentials, options ...grpc.DialOption) *node {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	n := serve(t, cfg, listener)
	n.client = n.as("passthrough:///node", append(options, grpc.WithTransportCredentials(as),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))...)
	return n
}

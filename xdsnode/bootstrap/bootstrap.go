package bootstrap

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// ErrNoNodes indicates that no xds node was named.
var ErrNoNodes = errors.New("no xds node is named")

// xdsCluster is the cluster of the xds nodes.
const xdsCluster = "isthmus_xds"

const (
	connectTimeout = 5 * time.Second
	// pingInterval and pingTimeout find a node that has gone without a word. Nodes
	// permit pings that often.
	pingInterval = 30 * time.Second
	pingTimeout  = 10 * time.Second
)

// Config says who an Envoy is, and whom it asks.
type Config struct {
	// ID of the proxy, and Node that it is registered on; empty where the ID is unique.
	ID, Node string
	// Nodes are the addresses of xds nodes, HOST:PORT each.
	Nodes []HostPort
	// Admin is where Envoy's own admin server listens; zero: nowhere.
	Admin netip.AddrPort
}

// HostPort is the address of an xds node; a host may be a name.
type HostPort struct {
	Host string
	Port uint16
}

// JSON is the bootstrap, ready to be written to a file. Possible error: [ErrNoNodes].
func JSON(c Config) ([]byte, error) {
	if len(c.Nodes) == 0 {
		return nil, ErrNoNodes
	}
	b := &bootstrapv3.Bootstrap{
		Node: node(c),
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: &core.ApiConfigSource{
				ApiType: core.ApiConfigSource_DELTA_GRPC, TransportApiVersion: core.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
				GrpcServices: []*core.GrpcService{{
					TargetSpecifier: &core.GrpcService_EnvoyGrpc_{EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: xdsCluster}},
				}},
			},
			LdsConfig: byADS(), CdsConfig: byADS(),
		},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{nodes(c.Nodes)}},
	}
	if c.Admin.IsValid() {
		b.Admin = &bootstrapv3.Admin{Address: socket(c.Admin.Addr().String(), c.Admin.Port())}
	}
	return indented(b)
}

// node names the proxy as `consul connect envoy` does (Consul
// command/connect/envoy/bootstrap_tpl.go).
func node(c Config) *core.Node {
	fields := map[string]*structpb.Value{
		"namespace": structpb.NewStringValue("default"), "partition": structpb.NewStringValue("default"),
	}
	if c.Node != "" {
		fields["node_name"] = structpb.NewStringValue(c.Node)
	}
	return &core.Node{Id: c.ID, Cluster: c.ID, Metadata: &structpb.Struct{Fields: fields}}
}

// byADS has a type come by the one stream, and be waited for without end: an Envoy
// that went on without would serve nothing.
func byADS() *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion: core.ApiVersion_V3, InitialFetchTimeout: durationpb.New(0),
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
}

// nodes is the cluster of the xds nodes.
func nodes(at []HostPort) *clusterv3.Cluster {
	kind := clusterv3.Cluster_STATIC
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, n := range at {
		if _, err := netip.ParseAddr(n.Host); err != nil {
			kind = clusterv3.Cluster_STRICT_DNS
		}
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socket(n.Host, n.Port)}},
		})
	}
	return &clusterv3.Cluster{
		Name: xdsCluster, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: kind}, ConnectTimeout: durationpb.New(connectTimeout),
		DnsLookupFamily: clusterv3.Cluster_V4_PREFERRED,
		LoadAssignment:  &endpointv3.ClusterLoadAssignment{ClusterName: xdsCluster, Endpoints: []*endpointv3.LocalityLbEndpoints{locality}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(&httpv3.HttpProtocolOptions{
				UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
					ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &core.Http2ProtocolOptions{
						ConnectionKeepalive: &core.KeepaliveSettings{Interval: durationpb.New(pingInterval), Timeout: durationpb.New(pingTimeout)},
					}},
				}},
			}),
		},
	}
}

func socket(host string, port uint16) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: host, PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func packed(m proto.Message) *anypb.Any {
	out := &anypb.Any{}
	if err := out.MarshalFrom(m); err != nil {
		panic(fmt.Sprintf("bootstrap: %T: %v", m, err)) // It is made of constants.
	}
	return out
}

// indented is a message as JSON whose bytes do not depend on the library's build.
func indented(m proto.Message) ([]byte, error) {
	compact, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("bootstrap of %s: %w", cmp.Or(m.(*bootstrapv3.Bootstrap).GetNode().GetId(), "a proxy"), err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

package bootstrap

import (
	"fmt"
	"net/netip"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const (
	// xdsCluster is the cluster of the xds nodes, and adminCluster that of the Envoy's own
	// admin server, where statistics are served elsewhere too.
	xdsCluster   = "isthmus_xds"
	adminCluster = "self_admin"
)

const (
	connectTimeout = 5 * time.Second
	// pingInterval and pingTimeout find a node that has gone without a word. Nodes
	// permit pings that often.
	pingInterval = 30 * time.Second
	pingTimeout  = 10 * time.Second
	// nodesAgain is when a node is asked anew that has gone: many Envoys do it at once.
	nodesAgain, nodesAgainAtMost = 500 * time.Millisecond, 5 * time.Second
	// secretsAgain is when the socket is asked anew, by one Envoy.
	secretsAgain, secretsAgainAtMost = 100 * time.Millisecond, time.Second
)

// clusters are those that an Envoy starts with.
func (c *Config) clusters() parts {
	out := parts{marshal(c.nodes())}
	if c.SDS != "" {
		out = append(out, marshal(secrets(c.SDS)))
	}
	if c.Stats.served() {
		out = append(out, marshal(&clusterv3.Cluster{
			Name: adminCluster, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}, ConnectTimeout: durationpb.New(connectTimeout),
			LoadAssignment: assignment(adminCluster, socket(c.Admin.Addr().String(), c.Admin.Port())),
		}))
	}
	return out
}

// nodes is the cluster of the xds nodes.
func (c *Config) nodes() *clusterv3.Cluster {
	kind := clusterv3.Cluster_STATIC
	var at []*core.Address
	for _, n := range c.Nodes {
		if _, err := netip.ParseAddr(n.Host); err != nil {
			kind = clusterv3.Cluster_STRICT_DNS
		}
		at = append(at, socket(n.Host, n.Port))
	}
	out := &clusterv3.Cluster{
		Name: xdsCluster, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: kind}, ConnectTimeout: durationpb.New(connectTimeout),
		DnsLookupFamily: clusterv3.Cluster_V4_PREFERRED, LoadAssignment: assignment(xdsCluster, at...),
		TypedExtensionProtocolOptions: http2(&core.Http2ProtocolOptions{
			ConnectionKeepalive: &core.KeepaliveSettings{Interval: durationpb.New(pingInterval), Timeout: durationpb.New(pingTimeout)},
		}),
	}
	if c.mutual() {
		out.TransportSocket = &core.TransportSocket{
			Name: "envoy.transport_sockets.tls", ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: packed(c.mutualTLS())},
		}
	}
	return out
}

// mutualTLS shows the proxy's own leaf, and wants the leaf of an xds node of its own
// datacenter: an exact SPIFFE ID that a root vouches for, whatever the node's address is.
func (c *Config) mutualTLS() *tlsv3.UpstreamTlsContext {
	node := isthmusv1.SPIFFEID(&isthmusv1.ServiceRef{Name: isthmusv1.ServiceXDS}, c.Datacenter, c.TrustDomain)
	return &tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		AlpnProtocols:                  []string{"h2"},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{secret(isthmusv1.SecretLeaf)},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: &tlsv3.CertificateValidationContext{
				MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
					SanType: tlsv3.SubjectAltNameMatcher_URI,
					Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: node}},
				}},
			},
			ValidationContextSdsSecretConfig: secret(isthmusv1.SecretRoots),
		}},
	}}
}

// secret is had from the socket, and waited for without end.
func secret(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &core.ConfigSource{
		ResourceApiVersion: core.ApiVersion_V3, InitialFetchTimeout: durationpb.New(0),
		ConfigSourceSpecifier: &core.ConfigSource_ApiConfigSource{ApiConfigSource: &core.ApiConfigSource{
			ApiType: core.ApiConfigSource_DELTA_GRPC, TransportApiVersion: core.ApiVersion_V3,
			GrpcServices: []*core.GrpcService{byCluster(isthmusv1.ClusterSDS, secretsAgain, secretsAgainAtMost)},
		}},
	}}
}

// secrets is the cluster of the socket where secrets are had.
func secrets(path string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: isthmusv1.ClusterSDS, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}, ConnectTimeout: durationpb.New(connectTimeout),
		LoadAssignment:                assignment(isthmusv1.ClusterSDS, &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: path}}}),
		TypedExtensionProtocolOptions: http2(&core.Http2ProtocolOptions{}),
	}
}

// admin is Envoy's own admin server.
func (c *Config) admin() *bootstrapv3.Admin {
	return &bootstrapv3.Admin{
		Address: socket(c.Admin.Addr().String(), c.Admin.Port()),
		AccessLog: []*accesslogv3.AccessLog{{
			Name: "envoy.access_loggers.file",
			ConfigType: &accesslogv3.AccessLog_TypedConfig{
				TypedConfig: packed(&filelogv3.FileAccessLog{Path: c.AdminAccessLog}),
			},
		}},
	}
}

func assignment(cluster string, at ...*core.Address) *endpointv3.ClusterLoadAssignment {
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, address := range at {
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}},
		})
	}
	return &endpointv3.ClusterLoadAssignment{ClusterName: cluster, Endpoints: []*endpointv3.LocalityLbEndpoints{locality}}
}

// http2 has a cluster spoken to by HTTP/2, which gRPC needs.
func http2(options *core.Http2ProtocolOptions) map[string]*anypb.Any {
	return map[string]*anypb.Any{
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(&httpv3.HttpProtocolOptions{
			UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: options},
			}},
		}),
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
		panic(fmt.Sprintf("bootstrap: %T: %v", m, err)) // Every string in it was checked to be UTF-8.
	}
	return out
}

package resource

import (
	"cmp"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsinspector "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	snicluster "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const (
	// connectTimeout is Consul's, of whatever has none of its own.
	connectTimeout = 5 * time.Second
	// connectAttempts is how many endpoints a mesh gateway tries for a connection.
	// Consul's tries one (differences.md: "A gateway's next endpoint").
	connectAttempts = 3
	// dnsRefreshRate is Consul's.
	dnsRefreshRate = 10 * time.Second
)

// GatewayListeners are the listeners of a mesh gateway (Consul
// agent/xds/listeners.go, makeMeshGatewayListener): one for each bind, named
// NAME:ADDRESS:PORT. Each reads the server name and leads names of another datacenter
// to the cluster of that datacenter, and any other to the cluster of that very name. So
// names of the own datacenter need no filter chain, and one that there is no cluster of
// is refused by closing the connection.
func GatewayListeners(gateway *isthmusv1.GatewaySettings, wildcards []*isthmusv1.WildcardRoute) []*Resource {
	wildcards = slices.SortedFunc(slices.Values(wildcards), func(a, b *isthmusv1.WildcardRoute) int {
		return cmp.Compare(a.GetSuffix(), b.GetSuffix())
	})
	out := make([]*Resource, len(gateway.GetBinds()))
	for i, bind := range gateway.GetBinds() {
		out[i] = pack(gatewayListener(bind, wildcards))
	}
	return out
}

func gatewayListener(bind *isthmusv1.GatewayBind, wildcards []*isthmusv1.WildcardRoute) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:    ListenerName(bind.GetName(), bind.GetAddress(), bind.GetPort()),
		Address: socket(bind.GetAddress(), bind.GetPort()),
		ListenerFilters: []*listenerv3.ListenerFilter{{
			Name:       "envoy.filters.listener.tls_inspector",
			ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: packed(&tlsinspector.TlsInspector{})},
		}},
	}
	for _, w := range wildcards {
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: []string{"*." + WildcardCluster(w)}},
			Filters:          []*listenerv3.Filter{tcpProxy("mesh_gateway_remote."+bind.GetName()+"."+w.GetDatacenter(), WildcardCluster(w))},
		})
	}
	l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
		Filters: []*listenerv3.Filter{
			filter("envoy.filters.network.sni_cluster", &snicluster.SniCluster{}),
			tcpProxy("mesh_gateway_local."+bind.GetName(), ""),
		},
	})
	return l
}

func tcpProxy(stat, cluster string) *listenerv3.Filter {
	return filter("envoy.filters.network.tcp_proxy", &tcpproxy.TcpProxy{
		StatPrefix: stat, ClusterSpecifier: &tcpproxy.TcpProxy_Cluster{Cluster: cluster},
		MaxConnectAttempts: wrapperspb.UInt32(connectAttempts),
	})
}

func filter(name string, config proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(config)}}
}

// WildcardCluster is the name of another datacenter's cluster at a mesh gateway:
// dc2.internal.TRUST-DOMAIN.
func WildcardCluster(w *isthmusv1.WildcardRoute) string {
	return strings.TrimPrefix(w.GetSuffix(), ".")
}

// NameCluster is the cluster of a name of the own datacenter at a mesh gateway. It is
// named by the server name in lower case, as Envoy reads that. hosts is its set where
// that has host names, and else nil.
func NameCluster(n *isthmusv1.NameRoute, gateway *isthmusv1.GatewaySettings, hosts *isthmusv1.EndpointSet) *Resource {
	timeout := connectTimeout
	if t := gateway.GetConnectTimeout().AsDuration(); t > 0 {
		timeout = t
	}
	if t := n.GetConnectTimeout().AsDuration(); t > 0 {
		timeout = t
	}
	return pack(gatewayCluster(strings.ToLower(n.GetSni()), timeout, gateway, hosts))
}

// RemoteCluster is the cluster of another datacenter at a mesh gateway: its gateways.
func RemoteCluster(w *isthmusv1.WildcardRoute, gateway *isthmusv1.GatewaySettings, hosts *isthmusv1.EndpointSet) *Resource {
	timeout := connectTimeout
	if t := gateway.GetConnectTimeout().AsDuration(); t > 0 {
		timeout = t
	}
	c := gatewayCluster(WildcardCluster(w), timeout, gateway, hosts)
	if k := gateway.GetRemoteKeepalive(); k != nil {
		c.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &core.TcpKeepalive{
			KeepaliveTime: positive(k.GetTimeSeconds()), KeepaliveInterval: positive(k.GetIntervalSeconds()), KeepaliveProbes: positive(k.GetProbes()),
		}}
	}
	return pack(c)
}

// gatewayCluster passes bytes on. Panic routing is off: a dead endpoint is no better
// than none (Consul leaves it at 50 %).
func gatewayCluster(name string, timeout time.Duration, gateway *isthmusv1.GatewaySettings, hosts *isthmusv1.EndpointSet) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:             name,
		ConnectTimeout:   durationpb.New(timeout),
		OutlierDetection: &clusterv3.OutlierDetection{},
		CommonLbConfig:   &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{}},
		CircuitBreakers:  breakers(gateway.GetLimits()),
	}
	if hosts == nil {
		byAssignment(c)
	} else {
		byName(c, gateway.GetDnsDiscoveryType(), hosts)
	}
	return c
}

// byAssignment has the endpoints of a cluster come by themselves.
func byAssignment(c *clusterv3.Cluster) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: byADS(nil)}
}

// byName has Envoy look up the endpoints of a cluster; those with an IP address are
// among them. logical_dns takes one endpoint, the first that is healthy.
func byName(c *clusterv3.Cluster, discovery string, set *isthmusv1.EndpointSet) {
	endpoints := slices.DeleteFunc(slices.Clone(set.GetEndpoints()), func(e *isthmusv1.Endpoint) bool { return !usable(e) })
	lookedUp(c, clusterv3.Cluster_STRICT_DNS)
	if discovery == "logical_dns" {
		lookedUp(c, clusterv3.Cluster_LOGICAL_DNS)
		first := max(slices.IndexFunc(endpoints, func(e *isthmusv1.Endpoint) bool { return e.GetHealth() == isthmusv1.Health_HEALTH_HEALTHY }), 0)
		endpoints = endpoints[first : first+1]
	}
	c.LoadAssignment = assignment(c.GetName(), endpoints)
}

// lookedUp has an Envoy look up the host names of a cluster.
func lookedUp(c *clusterv3.Cluster, how clusterv3.Cluster_DiscoveryType) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: how}
	c.DnsRefreshRate = durationpb.New(dnsRefreshRate) //nolint:staticcheck // Of the two ways that Envoy 1.40 takes, the one that Consul's Envoys show.
	c.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
}

// breakers are limits as Envoy takes them; nil where none are set.
func breakers(limits *isthmusv1.UpstreamLimits) *clusterv3.CircuitBreakers {
	if limits == nil {
		return nil
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: limit(limits.MaxConnections), MaxPendingRequests: limit(limits.MaxPendingRequests), MaxRequests: limit(limits.MaxConcurrentRequests),
	}}}
}

// limit is a limit that was set, and positive a number that is one; nil is Envoy's own.
func limit(n *uint32) *wrapperspb.UInt32Value {
	if n == nil {
		return nil
	}
	return wrapperspb.UInt32(*n)
}

func positive(n uint32) *wrapperspb.UInt32Value {
	if n == 0 {
		return nil
	}
	return wrapperspb.UInt32(n)
}

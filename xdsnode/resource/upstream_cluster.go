package resource

import (
	"cmp"
	"fmt"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	upstreamhttp "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// targetCluster is the cluster of one target (Consul agent/xds/clusters.go,
// makeUpstreamClustersForDiscoveryChain). Panic routing is off, as in Consul: of
// endpoints that are all dead none is tried, and failover takes over.
func targetCluster(name string, route *isthmusv1.Route, r *isthmusv1.ChainResolver, t *isthmusv1.Target, o *Outbound, sets Sets) (*clusterv3.Cluster, *isthmusv1.Problem) {
	c := &clusterv3.Cluster{
		Name: name, AltStatName: name,
		ConnectTimeout:   durationpb.New(connectTimeout),
		CircuitBreakers:  presentBreakers(route.GetConfig().GetLimits()),
		OutlierDetection: outliers(route.GetConfig().GetPassiveHealthCheck()),
		CommonLbConfig:   &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{}},
		TransportSocket:  upstreamTLS(t.GetSni(), t.GetSpiffeIds(), o.tls),
	}
	if route.GetDestinationType() == preparedQuery {
		// Nothing comes after it, and dead endpoints are not among its results.
		c.AltStatName, c.CommonLbConfig = "", nil
	}
	if d := t.GetConnectTimeout(); d.AsDuration() > 0 {
		c.ConnectTimeout = d
	}
	if isHTTP2(route.GetProtocol()) {
		c.TypedExtensionProtocolOptions = explicitHTTP2()
	}
	if set := targetSet(t, sets); HasHostname(set) {
		byName(c, "strict_dns", set)
		c.LoadAssignment = targetAssignment(name, t, sets)
	} else {
		byAssignment(c)
		c.EdsClusterConfig.EdsConfig = byADS(o.fetchTimeout)
	}
	if err := applyLoadBalancer(c, r.GetLoadBalancerJson()); err != nil {
		return c, invalidSetting("the load balancer of service-resolver/"+strings.ToLower(t.GetService().GetName()), err)
	}
	return c, nil
}

// aggregateCluster leads to the first of several clusters that has a live endpoint.
func aggregateCluster(name string, r *isthmusv1.ChainResolver, members []string) *clusterv3.Cluster {
	timeout := r.GetConnectTimeout()
	if timeout.AsDuration() <= 0 {
		timeout = durationpb.New(connectTimeout)
	}
	return &clusterv3.Cluster{
		Name: name, AltStatName: name, ConnectTimeout: timeout, LbPolicy: clusterv3.Cluster_CLUSTER_PROVIDED,
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.aggregate", TypedConfig: packed(&aggregate.ClusterConfig{Clusters: members}),
		}},
	}
}

// failoverName is Consul's for the clusters among which an aggregate one chooses; the
// first is the target's own.
func failoverName(i int, base string) string { return fmt.Sprintf("failover-target~%d~%s", i, base) }

// presentBreakers are limits as Envoy takes them; empty where none are set, as Consul's
// clusters have them.
func presentBreakers(limits *isthmusv1.UpstreamLimits) *clusterv3.CircuitBreakers {
	if b := breakers(limits); b != nil {
		return b
	}
	return &clusterv3.CircuitBreakers{}
}

// outliers ejects endpoints that fail: as asked for, else as Envoy does by itself.
func outliers(p *isthmusv1.PassiveHealthCheck) *clusterv3.OutlierDetection {
	if p == nil {
		return &clusterv3.OutlierDetection{}
	}
	return &clusterv3.OutlierDetection{
		Consecutive_5Xx:          positive(p.GetMaxFailures()),
		Interval:                 lasting(p.GetInterval()),
		EnforcingConsecutive_5Xx: percent(p.EnforcingConsecutive_5Xx),
		MaxEjectionPercent:       percent(p.MaxEjectionPercent),
		BaseEjectionTime:         lasting(p.GetBaseEjectionTime()),
	}
}

// lasting is a time that is one, held to what an Envoy takes, and percent a part of all:
// nobody ejects more than that.
func lasting(d *durationpb.Duration) *durationpb.Duration {
	if d.AsDuration() <= 0 {
		return nil
	}
	return durationpb.New(min(d.AsDuration(), longestTimeout))
}

func percent(n *uint32) *wrapperspb.UInt32Value {
	if n == nil {
		return nil
	}
	return wrapperspb.UInt32(min(*n, 100))
}

func explicitHTTP2() map[string]*anypb.Any {
	return map[string]*anypb.Any{httpOptions: packed(&upstreamhttp.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamhttp.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &upstreamhttp.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreamhttp.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &core.Http2ProtocolOptions{}},
		}},
	})}
}

const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// targetSet is the endpoints of a target, of all its sets together; nil when there are
// none.
func targetSet(t *isthmusv1.Target, sets Sets) *isthmusv1.EndpointSet {
	switch refs := t.GetEndpointSets(); len(refs) {
	case 0:
		return nil
	case 1:
		return sets(refs[0])
	default:
		out := &isthmusv1.EndpointSet{}
		for _, ref := range refs {
			out.Endpoints = append(out.Endpoints, sets(ref).GetEndpoints()...)
		}
		return out
	}
}

// TargetEndpoints is the assignment of a target's cluster: each of its sets is tried when
// those before have no live endpoint. Behind gateways an endpoint is a gateway, and is
// healthy if that and a backend are (differences.md: "A gateway's own health").
func TargetEndpoints(cluster string, t *isthmusv1.Target, sets Sets) *Resource {
	return pack(targetAssignment(cluster, t, sets))
}

func targetAssignment(cluster string, t *isthmusv1.Target, sets Sets) *endpointv3.ClusterLoadAssignment {
	dead := t.GetBackend() != nil && sets(t.GetBackend()).GetAvailability() != isthmusv1.Availability_AVAILABILITY_HEALTHY
	out := &endpointv3.ClusterLoadAssignment{ClusterName: cluster}
	for _, ref := range t.GetEndpointSets() {
		for _, locality := range assignment(cluster, sets(ref).GetEndpoints()).GetEndpoints() {
			locality.Priority = uint32(len(out.GetEndpoints()))
			for _, e := range locality.GetLbEndpoints() {
				if dead {
					e.HealthStatus = core.HealthStatus_UNHEALTHY
				}
			}
			out.Endpoints = append(out.Endpoints, locality)
		}
	}
	return out
}

// localCluster is the application beside the proxy, as somebody wrote it or as it is made
// here.
func localCluster(p *isthmusv1.ProxyRoutes, c config) (*Resource, *isthmusv1.Problem) {
	text := c.text("envoy_local_cluster_json")
	custom, err := readCluster(text)
	if text != "" && err == nil {
		return pack(custom), nil
	}
	var problem *isthmusv1.Problem
	if text != "" {
		problem = invalidSetting("envoy_local_cluster_json", err)
	}
	at, err := localAddress(p)
	if err != nil {
		return nil, leftOut("the application of proxy "+p.GetId(), err)
	}
	return pack(application(localApp, at, p.GetLocal())), problem
}

// localApp is Consul's name of it.
const localApp = "local_app"

// application is the cluster of the application (Consul agent/xds/clusters.go,
// makeAppCluster). A host name is looked up (differences.md: "A host name as
// local_service_address").
func application(name string, at *core.Address, local *isthmusv1.Local) *clusterv3.Cluster {
	out := &clusterv3.Cluster{
		Name: name, ConnectTimeout: durationpb.New(connectTimeout),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: at}},
			}},
		}}},
	}
	if a := at.GetSocketAddress().GetAddress(); a != "" && !isIP(a) {
		lookedUp(out, clusterv3.Cluster_STRICT_DNS)
	}
	if d := milliseconds(local.GetConnectTimeoutMs()); d != nil {
		out.ConnectTimeout = d
	}
	if n := local.GetMaxInboundConnections(); n > 0 {
		out.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{MaxConnections: wrapperspb.UInt32(n)}}}
	}
	if isHTTP2(local.GetProtocol()) {
		out.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptions: packed(&upstreamhttp.HttpProtocolOptions{
			UpstreamProtocolOptions: &upstreamhttp.HttpProtocolOptions_UseDownstreamProtocolConfig{
				UseDownstreamProtocolConfig: &upstreamhttp.HttpProtocolOptions_UseDownstreamHttpConfig{
					HttpProtocolOptions: &core.Http1ProtocolOptions{}, Http2ProtocolOptions: &core.Http2ProtocolOptions{},
				},
			},
		})}
	}
	return out
}

func localAddress(p *isthmusv1.ProxyRoutes) (*core.Address, error) {
	if path := p.GetLocalServiceSocketPath(); path != "" {
		return pipeOf(path, "")
	}
	return local(p, p.GetLocalServicePort())
}

// local is a port of the application.
func local(p *isthmusv1.ProxyRoutes, port uint32) (*core.Address, error) {
	if port > maxPort {
		return nil, fmt.Errorf("%d: %w", port, errNoPort)
	}
	return socket(cmp.Or(p.GetLocalServiceAddress(), loopback), port), nil
}

func pipe(path string, mode uint32) *core.Address {
	return &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: path, Mode: mode}}}
}

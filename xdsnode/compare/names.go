package compare

import (
	"regexp"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// clusterNames are the fields that hold a cluster's name.
var clusterNames = map[protoreflect.FullName]bool{
	clusterName: true,
	"envoy.config.cluster.v3.Cluster.alt_stat_name":                                             true,
	"envoy.config.endpoint.v3.ClusterLoadAssignment.cluster_name":                               true,
	"envoy.config.route.v3.RouteAction.cluster":                                                 true,
	"envoy.config.route.v3.RouteAction.RequestMirrorPolicy.cluster":                             true,
	"envoy.config.route.v3.WeightedCluster.ClusterWeight.name":                                  true,
	"envoy.extensions.clusters.aggregate.v3.ClusterConfig.clusters":                             true,
	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.cluster":                            true,
	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight.name": true,
}

// hashed is a cluster's name with eight digits before the target's own, behind what
// tells the members of a failover apart. Consul puts them there where a mode or another
// setting of the source made the chain another one (agent/xds/naming.go); we, where
// several upstreams lead to one target.
var hashed = regexp.MustCompile(`^(failover-target~\d+~)?[0-9a-f]{8}~`)

func withoutHash(name string) string { return hashed.ReplaceAllString(name, "$1") }

package resource

import (
	"cmp"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// assignmentsOf is the assignment that a cluster waits for.
func assignmentsOf(c *clusterv3.Cluster) []string {
	if c.GetEdsClusterConfig() == nil {
		return nil
	}
	return []string{cmp.Or(c.GetEdsClusterConfig().GetServiceName(), c.GetName())}
}

// routesOf are the route configurations that a listener waits for, sorted.
func routesOf(l *listenerv3.Listener) []string {
	var out []string
	for _, chain := range append(slices.Clone(l.GetFilterChains()), l.GetDefaultFilterChain()) {
		for _, f := range chain.GetFilters() {
			m := &hcm.HttpConnectionManager{}
			if f.GetTypedConfig().MessageIs(m) && f.GetTypedConfig().UnmarshalTo(m) == nil && m.GetRds() != nil {
				out = append(out, m.GetRds().GetRouteConfigName())
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

package resource

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// What listeners are made of, for the tests.

func NetworkIntentions(in *isthmusv1.Inbound) *listenerv3.Filter { return networkIntentions(in) }

func HTTPIntentions(in *isthmusv1.Inbound) *hcm.HttpFilter { return httpIntentions(in) }

func RoutesOf(name string, route *isthmusv1.Route, clusterOf func(string) string) *Resource {
	return pack(routeConfiguration(name, route, clusterOf))
}

func ApplyLoadBalancer(c *clusterv3.Cluster, lb []byte) error { return applyLoadBalancer(c, lb) }

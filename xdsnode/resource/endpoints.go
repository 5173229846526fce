package resource

import (
	"net/netip"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// EndpointsOf is the assignment of a cluster: every endpoint with its own health and
// weight, in the order of the set. A set that is not there is empty, and an empty
// assignment is one too: without any, an Envoy would wait for it. An endpoint whose
// address or port is none is left out: an Envoy would refuse all of them for it.
func EndpointsOf(cluster string, set *isthmusv1.EndpointSet) *Resource {
	return pack(assignment(cluster, set.GetEndpoints()))
}

func assignment(cluster string, endpoints []*isthmusv1.Endpoint) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: cluster}
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, e := range endpoints {
		if !usable(e) {
			continue
		}
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socket(e.GetAddress(), e.GetPort())}},
			HealthStatus:        health(e.GetHealth()),
			LoadBalancingWeight: wrapperspb.UInt32(max(e.GetWeight(), 1)),
		})
	}
	if len(locality.GetLbEndpoints()) == 0 {
		return out
	}
	out.Endpoints = []*endpointv3.LocalityLbEndpoints{locality}
	return out
}

const maxPort = 65535

// usable reports whether an endpoint has an address and a port. An IPv6 address of one
// link, with a zone, is none that an Envoy takes.
func usable(e *isthmusv1.Endpoint) bool {
	return e.GetAddress() != "" && !strings.Contains(e.GetAddress(), "%") && e.GetPort() > 0 && e.GetPort() <= maxPort
}

func health(h isthmusv1.Health) core.HealthStatus {
	if h == isthmusv1.Health_HEALTH_HEALTHY {
		return core.HealthStatus_HEALTHY
	}
	return core.HealthStatus_UNHEALTHY
}

func socket(address string, port uint32) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
	}}}
}

// HasHostname reports whether an endpoint of a set is named by a host name, which an
// assignment that is sent by itself cannot hold (Envoy: "malformed IP address").
func HasHostname(set *isthmusv1.EndpointSet) bool {
	for _, e := range set.GetEndpoints() {
		if !usable(e) {
			continue
		}
		if _, err := netip.ParseAddr(e.GetAddress()); err != nil {
			return true
		}
	}
	return false
}

package isthmusv1

import (
	"cmp"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Kinds of instances, as registered.
const (
	InstanceKindProxy       = "connect-proxy"
	InstanceKindMeshGateway = "mesh-gateway"
)

// States of checks.
const (
	CheckPassing  = "passing"
	CheckWarning  = "warning"
	CheckCritical = "critical"
)

func tagged(addresses []*TaggedAddress, tag string) *TaggedAddress {
	for _, a := range addresses {
		if a.GetTag() == tag {
			return a
		}
	}
	return nil
}

// LANAddress is where an instance is reached from its own datacenter: its own
// address, else its node's. The `lan` tag is not used (Consul
// structs.CheckServiceNode.BestAddress).
func LANAddress(node *Node, instance *ServiceInstance) (address string, port uint32) {
	return cmp.Or(instance.GetAddress(), node.GetAddress()), instance.GetPort()
}

// WANAddress is where an instance is reached from another datacenter: its own
// `wan` tag (with that tag's port, or its own where that is 0), else its own
// address, else its node's `wan` tag, else its node's address (Consul
// structs.CheckServiceNode.BestAddress).
func WANAddress(node *Node, instance *ServiceInstance) (address string, port uint32) {
	if wan := tagged(instance.GetTaggedAddresses(), "wan"); wan != nil && wan.GetAddress() != "" {
		return wan.GetAddress(), cmp.Or(wan.GetPort(), instance.GetPort())
	}
	if instance.GetAddress() != "" {
		return instance.GetAddress(), instance.GetPort()
	}
	if wan := tagged(node.GetTaggedAddresses(), "wan"); wan != nil && wan.GetAddress() != "" {
		return wan.GetAddress(), instance.GetPort()
	}
	return node.GetAddress(), instance.GetPort()
}

// InstanceHealth is the health and the weight of an instance: unhealthy if any
// check of it or of its node is critical, if any is not passing and onlyPassing
// is asked, or if its weight is below 1. The weight is the warning weight if
// any check warns, clamped to 1..128.
func InstanceHealth(node *Node, instance *ServiceInstance, onlyPassing bool) (Health, uint32) {
	warning, critical := false, false
	for _, checks := range [2][]*Check{node.GetChecks(), instance.GetChecks()} {
		for _, c := range checks {
			switch strings.ToLower(c.GetStatus()) {
			case CheckPassing:
			case CheckWarning:
				warning = true
			default:
				critical = true
			}
		}
	}
	weight := uint32(1)
	if w := instance.GetWeights(); w != nil {
		weight = w.GetPassing()
		if warning {
			weight = w.GetWarning()
		}
	}
	health := Health_HEALTH_HEALTHY
	if critical || (warning && onlyPassing) || weight < 1 {
		health = Health_HEALTH_UNHEALTHY
	}
	return health, min(max(weight, 1), 128)
}

// Candidates is what a target's endpoint set comes to, with the backend's
// availability (nil when the target is not behind gateways) taken into account:
// an endpoint behind gateways is healthy if its gateway passes and a backend
// passes. The endpoints are the set's own unless a health had to change.
func Candidates(set, backend *EndpointSet) []*Endpoint {
	endpoints := set.GetEndpoints()
	if backend == nil || backend.GetAvailability() == Availability_AVAILABILITY_HEALTHY {
		return endpoints
	}
	out := make([]*Endpoint, len(endpoints))
	for i, e := range endpoints {
		out[i] = e
		if e.GetHealth() == Health_HEALTH_HEALTHY {
			out[i] = proto.CloneOf(e)
			out[i].Health = Health_HEALTH_UNHEALTHY
		}
	}
	return out
}

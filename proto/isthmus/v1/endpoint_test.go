package isthmusv1_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// TestAddressRules: every combination of the four addresses that count, and of
// those that do not (reference 2.2).
func TestAddressRules(t *testing.T) {
	for bits := range 16 {
		node := &isthmusv1.Node{TaggedAddresses: []*isthmusv1.TaggedAddress{{Tag: "lan", Address: "node-lan"}, {Tag: "wan_ipv4", Address: "node-wan-ipv4"}}}
		instance := &isthmusv1.ServiceInstance{Port: 1, TaggedAddresses: []*isthmusv1.TaggedAddress{{Tag: "lan", Address: "lan", Port: 9}, {Tag: "wan_ipv4", Address: "wan-ipv4", Port: 9}}}
		lan, wan := "", ""
		if bits&1 != 0 {
			node.Address, lan, wan = "node", "node", "node"
		}
		if bits&2 != 0 {
			node.TaggedAddresses = append(node.TaggedAddresses, &isthmusv1.TaggedAddress{Tag: "wan", Address: "node-wan"})
			wan = "node-wan"
		}
		if bits&4 != 0 {
			instance.Address, lan, wan = "own", "own", "own"
		}
		if bits&8 != 0 {
			instance.TaggedAddresses = append(instance.TaggedAddresses, &isthmusv1.TaggedAddress{Tag: "wan", Address: "own-wan"})
			wan = "own-wan"
		}
		if got, port := isthmusv1.LANAddress(node, instance); got != lan || port != 1 {
			t.Errorf("%04b: LAN %s:%d, want %s:1", bits, got, port, lan)
		}
		if got, port := isthmusv1.WANAddress(node, instance); got != wan || port != 1 {
			t.Errorf("%04b: WAN %s:%d, want %s:1", bits, got, port, wan)
		}
	}
	instance := &isthmusv1.ServiceInstance{Port: 1, TaggedAddresses: []*isthmusv1.TaggedAddress{{Tag: "wan", Address: "own-wan", Port: 2}}}
	if got, port := isthmusv1.WANAddress(nil, instance); got != "own-wan" || port != 2 {
		t.Errorf("the port of the wan tag: %s:%d", got, port)
	}
	instance.TaggedAddresses[0].Address = ""
	if got, port := isthmusv1.WANAddress(&isthmusv1.Node{Address: "node"}, instance); got != "node" || port != 1 {
		t.Errorf("a wan tag without an address: %s:%d", got, port)
	}
}

func TestInstanceHealth(t *testing.T) {
	const healthy, unhealthy = isthmusv1.Health_HEALTH_HEALTHY, isthmusv1.Health_HEALTH_UNHEALTHY
	for _, test := range []struct {
		node, own   string
		weights     *isthmusv1.Weights
		onlyPassing bool
		health      isthmusv1.Health
		weight      uint32
	}{
		{"passing", "passing", nil, false, healthy, 1},
		{"passing", "passing", nil, true, healthy, 1},
		{"", "", nil, false, unhealthy, 1},
		{"passing", "critical", nil, false, unhealthy, 1},
		{"critical", "passing", nil, false, unhealthy, 1},
		{"passing", "Warning", &isthmusv1.Weights{Passing: 5, Warning: 2}, false, healthy, 2},
		{"warning", "passing", &isthmusv1.Weights{Passing: 5, Warning: 2}, true, unhealthy, 2},
		{"passing", "passing", &isthmusv1.Weights{Passing: 5, Warning: 0}, false, healthy, 5},
		{"passing", "warning", &isthmusv1.Weights{Passing: 5, Warning: 0}, false, unhealthy, 1},
		{"passing", "passing", &isthmusv1.Weights{Passing: 0, Warning: 5}, false, unhealthy, 1},
		{"passing", "passing", &isthmusv1.Weights{Passing: 128}, false, healthy, 128},
		{"passing", "passing", &isthmusv1.Weights{Passing: 70_000}, false, healthy, 128},
	} {
		node := &isthmusv1.Node{Checks: []*isthmusv1.Check{{Status: test.node}}}
		instance := &isthmusv1.ServiceInstance{Checks: []*isthmusv1.Check{{Status: test.own}}, Weights: test.weights}
		health, weight := isthmusv1.InstanceHealth(node, instance, test.onlyPassing)
		if health != test.health || weight != test.weight {
			t.Errorf("%+v: %v, %d", test, health, weight)
		}
	}
	if health, weight := isthmusv1.InstanceHealth(nil, &isthmusv1.ServiceInstance{}, true); health != healthy || weight != 1 {
		t.Errorf("without checks: %v, %d", health, weight)
	}
}

// TestCandidates: behind gateways an endpoint is healthy if its gateway passes
// and a backend passes; the set itself is never written to.
func TestCandidates(t *testing.T) {
	set := &isthmusv1.EndpointSet{Endpoints: []*isthmusv1.Endpoint{
		{Address: "up", Health: isthmusv1.Health_HEALTH_HEALTHY}, {Address: "down", Health: isthmusv1.Health_HEALTH_UNHEALTHY},
	}}
	before := proto.CloneOf(set)
	for _, test := range []struct {
		backend *isthmusv1.EndpointSet
		up      isthmusv1.Health
	}{
		{nil, isthmusv1.Health_HEALTH_HEALTHY},
		{&isthmusv1.EndpointSet{Availability: isthmusv1.Availability_AVAILABILITY_HEALTHY}, isthmusv1.Health_HEALTH_HEALTHY},
		{&isthmusv1.EndpointSet{Availability: isthmusv1.Availability_AVAILABILITY_UNHEALTHY}, isthmusv1.Health_HEALTH_UNHEALTHY},
		{&isthmusv1.EndpointSet{Availability: isthmusv1.Availability_AVAILABILITY_EMPTY}, isthmusv1.Health_HEALTH_UNHEALTHY},
		{&isthmusv1.EndpointSet{}, isthmusv1.Health_HEALTH_UNHEALTHY},
	} {
		got := isthmusv1.Candidates(set, test.backend)
		if len(got) != 2 || got[0].GetAddress() != "up" || got[1].GetAddress() != "down" {
			t.Fatalf("candidates %v", got)
		}
		if got[0].GetHealth() != test.up || got[1].GetHealth() != isthmusv1.Health_HEALTH_UNHEALTHY {
			t.Errorf("backend %v: %v and %v", test.backend.GetAvailability(), got[0].GetHealth(), got[1].GetHealth())
		}
	}
	if !proto.Equal(before, set) {
		t.Error("the set was written to")
	}
}

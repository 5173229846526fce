package sidecar

import (
	"slices"
	"strings"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// resolverRoute is a route whose chain is one resolver: the first target, and
// the others that take over.
func resolverRoute(id string, targets ...*isthmusv1.Target) *isthmusv1.Route {
	resolver := &isthmusv1.ChainResolver{Target: targets[0].GetId()}
	for _, t := range targets[1:] {
		resolver.Failover = append(resolver.Failover, t.GetId())
	}
	node := &isthmusv1.ChainNode{Name: "resolver:" + targets[0].GetId(), Node: &isthmusv1.ChainNode_Resolver{Resolver: resolver}}
	sorted := slices.SortedFunc(slices.Values(targets), func(a, b *isthmusv1.Target) int { return strings.Compare(a.GetId(), b.GetId()) })
	return &isthmusv1.Route{
		Id: id, Protocol: "tcp", Targets: sorted,
		Chain: &isthmusv1.Chain{Start: node.GetName(), Nodes: []*isthmusv1.ChainNode{node}},
	}
}

func TestOrderedTargets(t *testing.T) {
	one, two, three := &isthmusv1.Target{Id: "b"}, &isthmusv1.Target{Id: "c"}, &isthmusv1.Target{Id: "a"}
	started := func(node *isthmusv1.ChainNode) *isthmusv1.Route {
		r := resolverRoute("api", one)
		node.Name = "start"
		r.Chain.Start = "start"
		r.Chain.Nodes = append(r.Chain.Nodes, node)
		return r
	}
	lost := resolverRoute("api", one, two)
	lost.Targets = lost.Targets[:1]
	broken := &isthmusv1.Route{Id: "api", Problems: []*isthmusv1.Problem{
		{Code: "MINOR", Severity: isthmusv1.Severity_SEVERITY_WARNING},
		{Code: "PEERING", Severity: isthmusv1.Severity_SEVERITY_ERROR},
	}}
	tests := []struct {
		name    string
		route   *isthmusv1.Route
		targets []*isthmusv1.Target
		problem string
	}{
		{"one target", resolverRoute("api", one), []*isthmusv1.Target{one}, ""},
		{"failover in the resolver's order", resolverRoute("api", one, two, three), []*isthmusv1.Target{one, two, three}, ""},
		{"a router", started(&isthmusv1.ChainNode{Node: &isthmusv1.ChainNode_Router{}}), nil, CodeNeedsLayer7},
		{"a splitter", started(&isthmusv1.ChainNode{Node: &isthmusv1.ChainNode_Splitter{}}), nil, CodeNeedsLayer7},
		{"a target that is not there", lost, nil, CodeNoRoute},
		{"no chain", &isthmusv1.Route{Id: "api"}, nil, CodeNoRoute},
		{"no chain, and the route's own problem", broken, nil, "PEERING"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			targets, problem := orderedTargets(test.route)
			if !slices.Equal(targets, test.targets) || problem.GetCode() != test.problem {
				t.Errorf("got %v, %v; want %v, %q", targets, problem, test.targets, test.problem)
			}
		})
	}
}

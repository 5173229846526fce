package sidecar

import (
	"slices"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// orderedTargets are the targets of a route that every connection may take, the
// first one first; or the problem that keeps this sidecar from carrying it.
func orderedTargets(route *isthmusv1.Route) ([]*isthmusv1.Target, *isthmusv1.Problem) {
	chain := route.GetChain()
	start := chainNode(chain, chain.GetStart())
	switch node := start.GetNode().(type) {
	case *isthmusv1.ChainNode_Resolver:
		return resolverTargets(route, node.Resolver)
	case *isthmusv1.ChainNode_Router:
		return nil, needsLayer7(route, "a service-router")
	case *isthmusv1.ChainNode_Splitter:
		return nil, needsLayer7(route, "a service-splitter")
	}
	if i := slices.IndexFunc(route.GetProblems(), isError); i >= 0 {
		return nil, route.GetProblems()[i]
	}
	return nil, problem(CodeNoRoute, "", "the route %s has no chain", route.GetId())
}

func isError(p *isthmusv1.Problem) bool {
	return p.GetSeverity() == isthmusv1.Severity_SEVERITY_ERROR
}

func needsLayer7(route *isthmusv1.Route, what string) *isthmusv1.Problem {
	return problem(CodeNeedsLayer7, "run Envoy beside the service, or lead the upstream past it",
		"connections to %s are denied: %s chooses by request, which takes a layer 7 proxy", route.GetId(), what)
}

func chainNode(chain *isthmusv1.Chain, name string) *isthmusv1.ChainNode {
	for _, n := range chain.GetNodes() {
		if n.GetName() == name {
			return n
		}
	}
	return nil
}

// resolverTargets are the resolver's own target and those that take over.
func resolverTargets(route *isthmusv1.Route, resolver *isthmusv1.ChainResolver) ([]*isthmusv1.Target, *isthmusv1.Problem) {
	var out []*isthmusv1.Target
	for _, id := range append([]string{resolver.GetTarget()}, resolver.GetFailover()...) {
		i := slices.IndexFunc(route.GetTargets(), func(t *isthmusv1.Target) bool { return t.GetId() == id })
		if i < 0 {
			return nil, problem(CodeNoRoute, "", "the route %s has no target %s", route.GetId(), id)
		}
		out = append(out, route.GetTargets()[i])
	}
	return out, nil
}

package sidecar

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// state is what connections are served by: immutable, swapped whole.
type state struct {
	view *View
	// listeners are what should be listened on, the public one included.
	listeners []listenerSpec
	upstreams map[string]*upstream
	inbound   *counters

	incoming, outgoing identity.Parameters
	// incomingProblem and outgoingProblem deny a whole direction.
	incomingProblem, outgoingProblem *isthmusv1.Problem

	// problems of all that is served.
	problems []*isthmusv1.Problem
	routes   *isthmusv1.Position
	basis    *isthmusv1.Basis
}

// at is the state at another position: the same for all that it serves.
func (s *state) at(routes *isthmusv1.Position, basis *isthmusv1.Basis) *state {
	next := *s
	next.routes, next.basis = routes, basis
	return &next
}

// setKey names a set of endpoints as one target of one route uses it: what it
// learned of an endpoint holds for that use only, since behind a gateway it is
// about the service too.
type setKey struct {
	route, target string
	set           isthmusv1.SetID
	ejection      table.Ejection
}

// filled is a set and what it was filled with.
type filled struct {
	set       *table.Set
	endpoints []*isthmusv1.Endpoint
}

// builder makes states. It keeps sets and counters from one to the next, so that
// what was learned of endpoints stays.
type builder struct {
	sets     map[setKey]*filled
	counters *counterTable
	hosts    table.Hosts
}

func newBuilder(counters *counterTable, hosts table.Hosts) *builder {
	return &builder{sets: make(map[setKey]*filled), counters: counters, hosts: hosts}
}

// build makes the state that serves a view.
func (b *builder) build(v *View) *state {
	s := &state{
		view:      v,
		upstreams: make(map[string]*upstream, len(v.Routes)),
		inbound:   b.counters.of(Inbound, v.Proxy.GetService().Qualified()),
		problems:  slices.Clone(v.Proxy.GetProblems()),
		routes:    v.Position,
		basis:     v.Basis,
	}
	s.incoming, s.incomingProblem = tlsParameters("Incoming", v.Proxy.GetTlsIncoming())
	s.outgoing, s.outgoingProblem = tlsParameters("Outgoing", v.Proxy.GetTlsOutgoing())
	for _, p := range []*isthmusv1.Problem{s.incomingProblem, s.outgoingProblem} {
		if p != nil {
			s.problems = append(s.problems, p)
		}
	}
	s.problems = append(s.problems, v.Inbound.GetProblems()...)
	s.problems = append(s.problems, inboundProblems(v.Proxy.GetService().Qualified(), v.Inbound)...)
	previous := b.sets
	b.sets = make(map[setKey]*filled, len(previous))
	for _, bind := range v.Proxy.GetBinds() {
		if s.upstreams[bind.GetRoute()] == nil {
			u := b.upstream(v, bind.GetRoute(), previous)
			s.upstreams[bind.GetRoute()] = u
			s.problems = append(s.problems, v.Routes[bind.GetRoute()].GetProblems()...)
			for _, t := range u.targets {
				s.problems = append(s.problems, t.GetProblems()...)
			}
			if u.problem != nil && !slices.ContainsFunc(s.problems, func(p *isthmusv1.Problem) bool { return proto.Equal(p, u.problem) }) {
				s.problems = append(s.problems, u.problem)
			}
		}
	}
	specs, problems := listenerSpecs(v.Proxy)
	s.listeners = specs
	s.problems = append(s.problems, problems...)
	return s
}

func (b *builder) upstream(v *View, id string, previous map[setKey]*filled) *upstream {
	u := &upstream{route: id, count: b.counters.of(Outbound, id)}
	route := v.Routes[id]
	if route == nil {
		u.problem = problem(CodeNoRoute, "", "connections to %s are denied: there is no such route", id)
		return u
	}
	limits := route.GetConfig().GetLimits()
	if limits != nil && limits.MaxConnections != nil {
		u.limit, u.none = limits.GetMaxConnections(), limits.GetMaxConnections() == 0
	}
	var targets []*isthmusv1.Target
	if targets, u.problem = orderedTargets(route); u.problem != nil {
		return u
	}
	for _, t := range targets {
		u.targets = append(u.targets, b.target(v, route, t, previous))
	}
	return u
}

func (b *builder) target(v *View, route *isthmusv1.Route, t *isthmusv1.Target, previous map[setKey]*filled) *target {
	out := &target{Target: t, timeout: defaultConnectTimeout}
	if d := t.GetConnectTimeout().AsDuration(); d > 0 {
		out.timeout = d
	}
	check := route.GetConfig().GetPassiveHealthCheck()
	var backend *isthmusv1.EndpointSet
	if t.GetBackend() != nil {
		backend = orEmpty(v.Sets[t.GetBackend().ID()])
	}
	for _, ref := range t.GetEndpointSets() {
		key := setKey{route: route.GetId(), target: t.GetId(), set: ref.ID(), ejection: table.Ejection{
			Failures: check.GetMaxFailures(), Base: check.GetBaseEjectionTime().AsDuration(),
		}}
		f := previous[key]
		if f == nil {
			f = &filled{set: table.NewSet(key.ejection)}
		}
		candidates := isthmusv1.Candidates(v.Sets[ref.ID()], backend)
		if !sameEndpoints(candidates, f.endpoints) {
			f.endpoints = candidates
			f.set.Replace(candidates, b.hosts)
		}
		b.sets[key] = f
		out.sets = append(out.sets, f.set)
	}
	return out
}

// orEmpty stands for a backend's set that is not there: nothing is behind the
// gateways then.
func orEmpty(set *isthmusv1.EndpointSet) *isthmusv1.EndpointSet {
	if set == nil {
		return new(isthmusv1.EndpointSet)
	}
	return set
}

func sameEndpoints(a, b []*isthmusv1.Endpoint) bool {
	return slices.EqualFunc(a, b, func(a, b *isthmusv1.Endpoint) bool { return a == b || proto.Equal(a, b) })
}

// hostNames are the host names of all healthy endpoints.
func (b *builder) hostNames() []string {
	var out []string
	for _, f := range b.sets {
		out = append(out, f.set.HostNames()...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// refill fills the sets that have host names, after those were looked up.
func (b *builder) refill() {
	for _, f := range b.sets {
		if len(f.set.HostNames()) > 0 {
			f.set.Replace(f.endpoints, b.hosts)
		}
	}
}

// applicationTimeout is how long the application has to accept a connection.
func (s *state) applicationTimeout() time.Duration {
	if ms := s.view.Proxy.GetLocal().GetConnectTimeoutMs(); ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return defaultConnectTimeout
}

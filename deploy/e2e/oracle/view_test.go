package oracle_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Paths as a view says them.
const (
	direct        = "direct"
	localGateway  = "local-gateway"
	remoteGateway = "remote-gateway"
)

// view is what one proxy's upstreams come to: for each place that its chains end
// at, the targets in the order in which they are tried, the first one first.
type view [][]target

// target is one of them.
type target struct {
	SNI  string
	SANs []string
	// Mode that was decided. Consul says it only where a mode of the source made
	// the chain another one, by the name of the cluster; else it is empty.
	Mode string
	// Path by which the endpoints are reached; empty: there are none.
	Path      string
	Timeout   time.Duration
	Endpoints []string
	// Unassigned: Consul never sends endpoints, not even none.
	Unassigned bool
	// Problems that we state, which Consul never does.
	Problems []string
}

// endpoint is one endpoint as a view says it.
func endpoint(address string, port uint32, healthy bool, weight uint32) string {
	health := "healthy"
	if !healthy {
		health = "unhealthy"
	}
	return fmt.Sprintf("%s:%d %s %d", address, port, health, weight)
}

// sort puts a view in an order that says nothing.
func (v view) sort() view {
	for _, targets := range v {
		for _, t := range targets {
			slices.Sort(t.Endpoints)
			slices.Sort(t.SANs)
		}
	}
	slices.SortFunc(v, func(a, b []target) int {
		return cmp.Or(cmp.Compare(a[0].SNI, b[0].SNI), cmp.Compare(len(a), len(b)))
	})
	return v
}

// String is the view in short, as cases state what they want: targets that are
// tried one after another, with the service, its datacenter and its path.
func (v view) String() string {
	var places []string
	for _, targets := range v {
		var text []string
		for _, t := range targets {
			name, _, _ := strings.Cut(t.SNI, ".internal.")
			how := cmp.Or(t.Path, "nowhere")
			text = append(text, strings.Replace(name, ".default", "", 1)+" "+how)
		}
		places = append(places, strings.Join(text, ", else "))
	}
	return strings.Join(places, "; ")
}

// our is our view of a proxy of dc1; ok is false while it has no routes. Called
// within look.
func (s *state) our(node, id string) (v view, ok bool) {
	proxy, ok := s.values[isthmusv1.ProxyKey("", node, "", id)].(*isthmusv1.ProxyRoutes)
	if !ok || proxy.GetRoutesetHash() == "" {
		return nil, false
	}
	set, ok := s.values[isthmusv1.RouteSetKey(proxy.GetService(), proxy.GetRoutesetHash())].(*isthmusv1.RouteSet)
	if !ok {
		return nil, false
	}
	for _, route := range set.GetRoutes() {
		v = append(v, s.ends(route)...)
	}
	return v.sort(), true
}

// ends are the places that a route's chain ends at.
func (s *state) ends(route *isthmusv1.Route) view {
	targets := map[string]*isthmusv1.Target{}
	for _, t := range route.GetTargets() {
		targets[t.GetId()] = t
	}
	var out view
	for _, node := range route.GetChain().GetNodes() {
		r := node.GetResolver()
		if r == nil {
			continue
		}
		place := []target{s.target(targets[r.GetTarget()])}
		for _, id := range r.GetFailover() {
			place = append(place, s.target(targets[id]))
		}
		out = append(out, place)
	}
	return out
}

// paths are ours as a view says them; a target without a path has no endpoints.
var paths = map[isthmusv1.Path]string{
	isthmusv1.Path_PATH_DIRECT: direct, isthmusv1.Path_PATH_LOCAL_GATEWAY: localGateway, isthmusv1.Path_PATH_REMOTE_GATEWAY: remoteGateway,
}

func (s *state) target(t *isthmusv1.Target) target {
	out := target{
		SNI: t.GetSni(), SANs: slices.Clone(t.GetSpiffeIds()), Mode: t.GetDecision().GetMode(),
		Timeout: t.GetConnectTimeout().AsDuration(),
	}
	for _, p := range t.GetProblems() {
		out.Problems = append(out.Problems, p.GetCode())
	}
	backend := s.set(t.GetBackend())
	for _, ref := range t.GetEndpointSets() {
		for _, e := range isthmusv1.Candidates(s.set(ref), backend) {
			out.Endpoints = append(out.Endpoints, ours(e))
		}
	}
	if len(out.Endpoints) > 0 {
		out.Path = paths[t.GetPath()]
	}
	return out
}

func ours(e *isthmusv1.Endpoint) string {
	return endpoint(e.GetAddress(), e.GetPort(), e.GetHealth() == isthmusv1.Health_HEALTH_HEALTHY, e.GetWeight())
}

// set is an endpoint set, all its chunks together; nil for none.
func (s *state) set(ref *isthmusv1.EndpointSetRef) *isthmusv1.EndpointSet {
	if ref == nil {
		return nil
	}
	out := &isthmusv1.EndpointSet{Ref: ref}
	for chunk := uint32(0); ; chunk++ {
		set, ok := s.values[ref.ID().Key(chunk)].(*isthmusv1.EndpointSet)
		if !ok {
			return out
		}
		out.Endpoints, out.Availability = append(out.Endpoints, set.GetEndpoints()...), set.GetAvailability()
	}
}

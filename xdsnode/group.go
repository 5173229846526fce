package xdsnode

import (
	"maps"
	"slices"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// group is the sidecars whose upstreams come to the same: they have one route set and
// equal settings. They share clusters, assignments and routes.
type group struct {
	key      string
	routeSet isthmusv1.Key
	outbound *resource.Outbound
	members  map[isthmusv1.Key]*Proxy

	// shapes are the listeners of each route, but for where they are bound.
	shapes   map[string]*resource.Shape
	problems []*isthmusv1.Problem
	// waits are the assignments that clusters of the table wait for, by name.
	waits map[string]*assignment
	// sets are those of all targets.
	sets  []isthmusv1.SetID
	table table
}

// groupOf is the group of a sidecar, which is made when it is the first in it; nil when
// the sidecar has no upstreams.
func (m *Machine) groupOf(p *isthmusv1.ProxyRoutes) *group {
	if p.GetKind() != isthmusv1.InstanceKindProxy || p.GetRoutesetHash() == "" {
		return nil
	}
	routeSet := isthmusv1.RouteSetKey(p.GetService(), p.GetRoutesetHash())
	outbound, settings := resource.OutboundOf(p)
	key := routeSet.String() + "\x00" + settings
	if g := m.groups[key]; g != nil {
		return g
	}
	g := &group{
		key: key, routeSet: routeSet, outbound: outbound, members: map[isthmusv1.Key]*Proxy{},
		waits: map[string]*assignment{},
	}
	m.groups[key] = g
	if m.byRouteSet[routeSet] == nil {
		m.byRouteSet[routeSet] = map[*group]bool{}
	}
	m.byRouteSet[routeSet][g] = true
	g.update(m)
	return g
}

// drop forgets a group without members.
func (m *Machine) dropGroup(g *group) {
	for _, a := range g.waits {
		m.release(a, g)
	}
	for _, id := range g.sets {
		m.unuse(id, g.leave)
	}
	delete(m.groups, g.key)
	if delete(m.byRouteSet[g.routeSet], g); len(m.byRouteSet[g.routeSet]) == 0 {
		delete(m.byRouteSet, g.routeSet)
	}
}

// update makes all of the group anew, and returns what changed of what it shares, and
// whether its members' listeners did, or what is stated of them.
func (g *group) update(m *Machine) (changes []Change, listeners bool) {
	set, _ := m.values[g.routeSet].(*isthmusv1.RouteSet)
	next, waits := table{}, map[string]*assignment{}
	// True for a set whose endpoints, or their health, stand in a cluster.
	sets := map[isthmusv1.SetID]bool{}
	shapes, stated := map[string]*resource.Shape{}, g.problems
	g.problems = nil
	for i, u := range resource.Upstreams(set, g.outbound, m.endpoints) {
		shape := u.Shape()
		shapes[set.GetRoutes()[i].GetId()] = shape
		g.problems = append(append(g.problems, u.Problems...), shape.Problems...)
		if u.Routes != nil {
			next.put(resource.Route, u.Routes.Name, u.Routes)
		}
		for _, c := range u.Clusters {
			if before := next.of(resource.Cluster)[c.Name]; before != nil {
				if before.Version != c.Version {
					g.problems = append(g.problems, resource.Taken(c.Resource, "another upstream"))
				}
				continue
			}
			next.put(resource.Cluster, c.Name, c.Resource)
			for _, ref := range setsOf(c.Target) {
				sets[ref.ID()] = sets[ref.ID()] || c.Assignment == ""
			}
			if c.Assignment == "" || waits[c.Assignment] != nil {
				continue // Somebody's own cluster may ask for what another one does.
			}
			a := m.acquire(c.Assignment, c.Target, g)
			waits[c.Assignment] = a
			next.put(resource.Assignment, c.Assignment, a.Resource)
		}
	}
	for name, a := range g.waits {
		if waits[name] != a {
			m.release(a, g)
		}
	}
	for id, inCluster := range sets {
		add(&m.use(id).groups, g, inCluster)
	}
	for _, id := range g.sets {
		if _, used := sets[id]; !used {
			m.unuse(id, g.leave)
		}
	}
	listeners = !maps.EqualFunc(g.shapes, shapes, func(a, b *resource.Shape) bool { return a.Version == b.Version }) ||
		!sameProblems(stated, g.problems)
	changes = g.changed(differences(&g.table, &next))
	g.shapes, g.waits, g.table = shapes, waits, next
	g.sets = slices.AppendSeq(make([]isthmusv1.SetID, 0, len(sets)), maps.Keys(sets))
	return changes, listeners
}

// leave is that the group has no targets of a set any more.
func (g *group) leave(u setUses) { delete(u.groups, g) }

// changed tells the members of names of each type.
func (g *group) changed(names map[resource.Type][]string) []Change {
	var out []Change
	for _, t := range resource.Types() {
		out = g.tell(out, t, names[t])
	}
	return out
}

// tell adds that names of a type changed for the members, if there are any of both.
func (g *group) tell(changes []Change, t resource.Type, names []string) []Change {
	if len(names) == 0 || len(g.members) == 0 {
		return changes
	}
	return append(changes, Change{Proxies: g.proxies(), Type: t, Names: names})
}

// proxies are the members, sorted.
func (g *group) proxies() []*Proxy {
	out := slices.AppendSeq(make([]*Proxy, 0, len(g.members)), maps.Values(g.members))
	slices.SortFunc(out, func(a, b *Proxy) int { return a.key.Compare(b.key) })
	return out
}

// setsOf are all sets that a target's endpoints come from, or their health.
func setsOf(t *isthmusv1.Target) []*isthmusv1.EndpointSetRef {
	out := slices.Clone(t.GetEndpointSets())
	if t.GetBackend() != nil {
		out = append(out, t.GetBackend())
	}
	return out
}

// updateGroups takes route sets and endpoint sets that changed. listeners are the
// sidecars whose listeners may be others.
func (m *Machine) updateGroups(d dirt) (changes []Change, listeners map[isthmusv1.Key]*Proxy) {
	groups := map[string]*group{}
	for key := range d.routeSets {
		for g := range m.byRouteSet[key] {
			groups[g.key] = g
		}
	}
	for id := range d.sets {
		groupsOf := m.usesOf(id).groups
		hosts := len(groupsOf) > 0 && resource.HasHostname(m.endpointSet(id))
		for g, inCluster := range groupsOf {
			// Endpoints with host names stand in clusters.
			if hosts || inCluster {
				groups[g.key] = g
			}
		}
	}
	listeners = map[isthmusv1.Key]*Proxy{}
	for _, key := range sortedKeys(groups) {
		more, others := groups[key].update(m)
		changes = append(changes, more...)
		if others {
			maps.Copy(listeners, groups[key].members)
		}
	}
	// After the groups, which may have let some go.
	return append(changes, m.updateAssignments(d.sets)...), listeners
}

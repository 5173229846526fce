package xdsnode

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// Why a proxy is not served.
var (
	// ErrNoProxy indicates that the datacenter has no such proxy.
	ErrNoProxy = errors.New("the datacenter has no such proxy")
	// ErrAmbiguous indicates an ID that proxies of several nodes have.
	ErrAmbiguous = errors.New("proxies of several nodes have this ID; name the node, as in NODE/ID")
	// ErrNotServed indicates a kind of proxy that is not served.
	ErrNotServed = errors.New("this kind of proxy is not served")
)

// Proxy is one proxy and what it is served.
type Proxy struct {
	// Routes are as the stream has them: shared, and not to be written to.
	Routes *isthmusv1.ProxyRoutes

	key isthmusv1.Key
	// fleet or group is what it shares with others: a mesh gateway, or a sidecar with
	// upstreams. own is what it has alone.
	fleet *fleet
	group *group
	own   table
	// public is what its callers meet.
	public []*resource.Resource
	// problems are those of public, and of where it listens for its application.
	problems, bindProblems []*isthmusv1.Problem
	// stated are those that a change has told of.
	stated []*isthmusv1.Problem
}

// Name is NODE/ID.
func (p *Proxy) Name() string { return p.Routes.GetNode() + "/" + p.Routes.GetId() }

// Resource is one that the proxy is served; nil when there is none of that name.
func (p *Proxy) Resource(t resource.Type, name string) *resource.Resource {
	if r := p.own.of(t)[name]; r != nil {
		return r
	}
	return p.shared().of(t)[name]
}

// Names are those of all resources of a type that the proxy is served, sorted.
func (p *Proxy) Names(t resource.Type) []string {
	shared, own := p.shared().of(t), p.own.of(t)
	out := make([]string, 0, len(shared)+len(own))
	for name := range shared {
		out = append(out, name)
	}
	for name := range own {
		if shared[name] == nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Problems are what of the proxy's settings cannot be served as it stands.
func (p *Proxy) Problems() []*isthmusv1.Problem {
	out := slices.Concat(p.problems, p.bindProblems)
	if p.group != nil {
		out = append(out, p.group.problems...)
	}
	return out
}

func (p *Proxy) shared() *table {
	switch {
	case p.fleet != nil:
		return &p.fleet.table
	case p.group != nil:
		return &p.group.table
	}
	return nil
}

// Find returns a proxy by its node and ID, without case; with an empty node by its ID
// alone, where that is unique. Possible errors: [ErrNoProxy], and [ErrAmbiguous] with
// the candidates.
func (m *Machine) Find(node, id string) (*Proxy, error) {
	var found []*Proxy
	for _, p := range m.byID[strings.ToLower(id)] {
		if node == "" || strings.EqualFold(p.Routes.GetNode(), node) {
			found = append(found, p)
		}
	}
	asked := strings.TrimPrefix(node+"/"+id, "/")
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%s: %w", asked, ErrNoProxy)
	case 1:
		if kind := found[0].Routes.GetKind(); kind != isthmusv1.InstanceKindMeshGateway && kind != isthmusv1.InstanceKindProxy {
			return nil, fmt.Errorf("%s is a %s: %w", found[0].Name(), kind, ErrNotServed)
		}
		return found[0], nil
	}
	names := make([]string, len(found))
	for i, p := range found {
		names[i] = p.Name()
	}
	slices.Sort(names)
	return nil, fmt.Errorf("%s: %w: %s", asked, ErrAmbiguous, strings.Join(names, ", "))
}

// updateProxies takes proxies that changed, and what else changes what a proxy has alone:
// the wildcards of mesh gateways, the upstreams of sidecars (listeners), and who may call
// their services.
func (m *Machine) updateProxies(d dirt, listeners map[isthmusv1.Key]*Proxy) []Change {
	var changes []Change
	for _, key := range slices.SortedFunc(maps.Keys(d.proxies), isthmusv1.Key.Compare) {
		changes = append(changes, m.updateProxy(key)...)
	}
	if d.wildcards {
		for key, p := range m.proxies {
			if p.fleet != nil {
				listeners[key] = p
			}
		}
	}
	for inbound := range d.inbounds {
		for key, p := range m.byService[inbound] {
			if !d.proxies[key] {
				p.receive(m)
				listeners[key] = p
			}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(listeners), isthmusv1.Key.Compare) {
		if p := m.proxies[key]; p != nil && !d.proxies[key] {
			changes = append(changes, p.listen(m)...)
		}
	}
	return changes
}

func (m *Machine) updateProxy(key isthmusv1.Key) []Change {
	routes, there := m.values[key].(*isthmusv1.ProxyRoutes)
	p := m.proxies[key]
	var changes []Change
	if p != nil && (!there || p.Routes.GetKind() != routes.GetKind()) {
		// One of another kind is another proxy.
		changes = append(changes, m.remove(p)...)
		p = nil
	}
	if !there {
		return changes
	}
	if p == nil {
		p = &Proxy{key: key}
		m.proxies[key] = p
		id := strings.ToLower(routes.GetId())
		if m.byID[id] == nil {
			m.byID[id] = map[isthmusv1.Key]*Proxy{}
		}
		m.byID[id][key] = p
	} else {
		m.standFor(p, false)
	}
	p.Routes = routes
	m.standFor(p, true)
	changes = append(changes, m.join(p)...)
	p.receive(m)
	return append(changes, p.listen(m)...)
}

// standFor notes which service a sidecar stands for, or does no longer.
func (m *Machine) standFor(p *Proxy, does bool) {
	if p.Routes.GetKind() != isthmusv1.InstanceKindProxy {
		return
	}
	service := isthmusv1.InboundKey(p.Routes.GetService())
	if !does {
		if delete(m.byService[service], p.key); len(m.byService[service]) == 0 {
			delete(m.byService, service)
		}
		return
	}
	if m.byService[service] == nil {
		m.byService[service] = map[isthmusv1.Key]*Proxy{}
	}
	m.byService[service][p.key] = p
}

// remove forgets a proxy that is registered no more.
func (m *Machine) remove(p *Proxy) []Change {
	m.leave(p.fleet, p.group, p)
	m.standFor(p, false)
	delete(m.proxies, p.key)
	id := strings.ToLower(p.Routes.GetId())
	if delete(m.byID[id], p.key); len(m.byID[id]) == 0 {
		delete(m.byID, id)
	}
	return []Change{{Proxies: []*Proxy{p}, Gone: true}}
}

// join puts a proxy among those that it shares with.
func (m *Machine) join(p *Proxy) []Change {
	oldFleet, oldGroup, before := p.fleet, p.group, p.shared()
	if p.Routes.GetKind() == isthmusv1.InstanceKindMeshGateway {
		p.fleet = m.fleetOf(p.Routes.GetGateway())
		p.fleet.members[p.key] = p
	}
	if p.group = m.groupOf(p.Routes); p.group != nil {
		p.group.members[p.key] = p
	}
	if p.fleet == oldFleet && p.group == oldGroup {
		return nil
	}
	// What both have stays; only then what the old ones had alone goes.
	if oldFleet == p.fleet {
		oldFleet = nil
	}
	if oldGroup == p.group {
		oldGroup = nil
	}
	m.leave(oldFleet, oldGroup, p)
	return p.changes(differences(before, p.shared()))
}

// leave takes a proxy out of those that it shared with; one that is empty goes.
func (m *Machine) leave(f *fleet, g *group, p *Proxy) {
	if f != nil {
		if delete(f.members, p.key); len(f.members) == 0 {
			delete(m.fleets, f.key)
		}
	}
	if g != nil {
		if delete(g.members, p.key); len(g.members) == 0 {
			m.dropGroup(g)
		}
	}
}

// receive makes anew what a sidecar's callers meet.
func (p *Proxy) receive(m *Machine) {
	if p.Routes.GetKind() != isthmusv1.InstanceKindProxy {
		return
	}
	inbound, _ := m.values[isthmusv1.InboundKey(p.Routes.GetService())].(*isthmusv1.Inbound)
	p.public, p.problems = resource.Public(p.Routes, inbound)
}

// listen makes anew what a proxy has alone.
func (p *Proxy) listen(m *Machine) []Change {
	own := &alone{binds: map[string]string{}}
	if p.fleet != nil {
		for _, r := range resource.GatewayListeners(p.Routes.GetGateway(), slices.Collect(maps.Values(m.wildcards))) {
			own.put(r)
		}
	}
	for _, r := range p.public {
		own.put(r)
	}
	if p.group != nil {
		for _, bind := range p.Routes.GetBinds() {
			shape := p.group.shapes[bind.GetRoute()]
			if shape == nil {
				continue // The route set is written before the proxy; it may be gone after it.
			}
			if r, problem := shape.Bound(bind); problem != nil {
				own.problems = append(own.problems, problem)
			} else if r != nil {
				own.put(r)
			}
		}
	}
	names := differences(&p.own, &own.table)
	p.own, p.bindProblems = own.table, own.problems
	changes := p.changes(names)
	if problems := p.Problems(); !sameProblems(p.stated, problems) {
		p.stated = problems
		changes = append(changes, Change{Proxies: []*Proxy{p}, Stated: true})
	}
	return changes
}

// alone is what a proxy has alone, in the making: of two that are one to an Envoy the
// first stays.
type alone struct {
	table    table
	problems []*isthmusv1.Problem
	// binds are the names of the listeners at each address.
	binds map[string]string
}

func (a *alone) put(r *resource.Resource) {
	if before := a.table.of(r.Type)[r.Name]; before != nil {
		if before.Version != r.Version {
			a.problems = append(a.problems, resource.Taken(r, "another one"))
		}
		return
	}
	for _, at := range r.Binds {
		if by, taken := a.binds[at]; taken {
			a.problems = append(a.problems, resource.Taken(r, by))
			return
		}
	}
	for _, at := range r.Binds {
		a.binds[at] = r.Name
	}
	a.table.put(r.Type, r.Name, r)
	if r.Type != resource.Cluster {
		return
	}
	for _, name := range r.Refs {
		// One that somebody wrote asks for endpoints that nobody here knows: there are none.
		a.table.put(resource.Assignment, name, resource.EndpointsOf(name, nil))
	}
}

func sameProblems(a, b []*isthmusv1.Problem) bool {
	return slices.EqualFunc(a, b, func(a, b *isthmusv1.Problem) bool { return proto.Equal(a, b) })
}

// changes are those of names of each type.
func (p *Proxy) changes(names map[resource.Type][]string) []Change {
	var out []Change
	for _, t := range resource.Types() {
		if len(names[t]) > 0 {
			out = append(out, Change{Proxies: []*Proxy{p}, Type: t, Names: names[t]})
		}
	}
	return out
}

package xdsnode

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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

	key       isthmusv1.Key
	fleet     *fleet
	listeners map[string]*resource.Resource
}

// Name is NODE/ID.
func (p *Proxy) Name() string { return p.Routes.GetNode() + "/" + p.Routes.GetId() }

// Resource is one that the proxy is served; nil when there is none of that name.
func (p *Proxy) Resource(t resource.Type, name string) *resource.Resource { return p.table(t)[name] }

// Names are those of all resources of a type that the proxy is served, sorted.
func (p *Proxy) Names(t resource.Type) []string { return sortedKeys(p.table(t)) }

func (p *Proxy) table(t resource.Type) map[string]*resource.Resource {
	if t == resource.Listener {
		return p.listeners
	}
	if p.fleet == nil {
		return nil
	}
	return p.fleet.table[t]
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
		if kind := found[0].Routes.GetKind(); kind != isthmusv1.InstanceKindMeshGateway {
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

// updateProxies takes proxies that changed, and the listeners of mesh gateways.
func (m *Machine) updateProxies(d dirt) []Change {
	var changes []Change
	for _, key := range slices.SortedFunc(maps.Keys(d.proxies), isthmusv1.Key.Compare) {
		changes = append(changes, m.updateProxy(key)...)
	}
	if !d.wildcards {
		return changes
	}
	for _, key := range slices.SortedFunc(maps.Keys(m.proxies), isthmusv1.Key.Compare) {
		if p := m.proxies[key]; p.fleet != nil && !d.proxies[key] {
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
	}
	p.Routes = routes
	if routes.GetKind() == isthmusv1.InstanceKindMeshGateway {
		changes = append(changes, m.join(p)...)
	}
	return append(changes, p.listen(m)...)
}

// remove forgets a proxy that is registered no more.
func (m *Machine) remove(p *Proxy) []Change {
	m.leave(p)
	delete(m.proxies, p.key)
	id := strings.ToLower(p.Routes.GetId())
	if delete(m.byID[id], p.key); len(m.byID[id]) == 0 {
		delete(m.byID, id)
	}
	return []Change{{Proxies: []*Proxy{p}, Gone: true}}
}

// join puts a mesh gateway into the fleet of its settings.
func (m *Machine) join(p *Proxy) []Change {
	before := p.fleet
	f := m.fleetOf(p.Routes.GetGateway())
	if f == before {
		return nil
	}
	m.leave(p)
	p.fleet = f
	f.members[p.key] = p
	// All of it may be other than it was.
	var changes []Change
	for _, t := range []resource.Type{resource.Cluster, resource.Assignment} {
		names := maps.Clone(f.table[t])
		if before != nil {
			maps.Copy(names, before.table[t])
		}
		if len(names) > 0 {
			changes = append(changes, Change{Proxies: []*Proxy{p}, Type: t, Names: sortedKeys(names)})
		}
	}
	return changes
}

// listen makes the listeners anew.
func (p *Proxy) listen(m *Machine) []Change {
	next := map[string]*resource.Resource{}
	if p.fleet != nil {
		for _, r := range resource.GatewayListeners(p.Routes.GetGateway(), slices.Collect(maps.Values(m.wildcards))) {
			next[r.Name] = r
		}
	}
	var names []string
	for name, r := range next {
		if before := p.listeners[name]; before == nil || before.Version != r.Version {
			names = append(names, name)
		}
	}
	for name := range p.listeners {
		if next[name] == nil {
			names = append(names, name)
		}
	}
	p.listeners = next
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return []Change{{Proxies: []*Proxy{p}, Type: resource.Listener, Names: names}}
}

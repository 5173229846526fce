package xdsnode

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// Machine holds what every Envoy of the datacenter is served. It is not safe for
// concurrent use.
type Machine struct {
	values  map[isthmusv1.Key]proto.Message
	proxies map[isthmusv1.Key]*Proxy
	// byID are the proxies by their ID in lower case.
	byID map[string]map[isthmusv1.Key]*Proxy
	// wildcards are those of all other datacenters that have mesh gateways.
	wildcards map[isthmusv1.Key]*isthmusv1.WildcardRoute
	// fleets are the mesh gateways by what they share.
	fleets map[string]*fleet
	// uses is who uses each endpoint set.
	uses map[isthmusv1.SetID]*setUses

	// groups are the sidecars by what they share; byRouteSet finds them.
	groups     map[string]*group
	byRouteSet map[isthmusv1.Key]map[*group]bool
	// assignments are those of all groups.
	assignments map[string]*assignment
	// byService are the sidecars of each service, by the key of who may call it.
	byService map[isthmusv1.Key]map[isthmusv1.Key]*Proxy

	dirty  dirt
	routes *isthmusv1.Position
	basis  *isthmusv1.Basis
}

// dirt is what was applied, and is not in the resources yet.
type dirt struct {
	proxies, routes, routeSets, inbounds map[isthmusv1.Key]bool
	sets                                 map[isthmusv1.SetID]bool
	// wildcards: the filter chains of every mesh gateway may be others.
	wildcards bool
}

// clean is room for the next changes.
func (d dirt) clean() dirt {
	return dirt{
		proxies: emptied(d.proxies), routes: emptied(d.routes), routeSets: emptied(d.routeSets),
		inbounds: emptied(d.inbounds), sets: emptied(d.sets),
	}
}

// keptDirt is how many entries a map may have had to be used again: to clear one costs
// what it has room for, which a large change would make every small one after it pay.
const keptDirt = 64

func emptied[K comparable](m map[K]bool) map[K]bool {
	if m == nil || len(m) > keptDirt {
		return map[K]bool{}
	}
	clear(m)
	return m
}

// NewMachine returns a machine that has seen nothing.
func NewMachine() *Machine {
	return &Machine{
		values: map[isthmusv1.Key]proto.Message{}, proxies: map[isthmusv1.Key]*Proxy{}, fleets: map[string]*fleet{},
		byID: map[string]map[isthmusv1.Key]*Proxy{}, wildcards: map[isthmusv1.Key]*isthmusv1.WildcardRoute{},
		uses:   map[isthmusv1.SetID]*setUses{},
		groups: map[string]*group{}, byRouteSet: map[isthmusv1.Key]map[*group]bool{},
		assignments: map[string]*assignment{},
		byService:   map[isthmusv1.Key]map[isthmusv1.Key]*Proxy{}, dirty: dirt{}.clean(),
	}
}

// Apply takes a transaction of the routes stream.
func (m *Machine) Apply(t *isthmusv1.Transaction) {
	m.routes = t.Position()
	if t.Reset {
		for key := range m.values {
			m.set(key, nil)
		}
	}
	for _, c := range t.Changes {
		if basis, ok := c.Value.(*isthmusv1.Basis); ok {
			m.basis = basis
		}
		switch {
		case c.Tombstone:
			m.set(c.Key, nil)
		case c.Value != nil:
			m.set(c.Key, c.Value)
		}
	}
	if basis := t.End.GetBasis(); basis != nil {
		m.basis = basis
	}
}

// set keeps a value, nil for none, and notes what it may change.
func (m *Machine) set(key isthmusv1.Key, value proto.Message) {
	before := m.values[key]
	switch key.Kind {
	case isthmusv1.KindProxy:
		m.dirty.proxies[key] = true
	case isthmusv1.KindRouteSet:
		m.dirty.routeSets[key] = true
	case isthmusv1.KindInbound:
		m.dirty.inbounds[key] = true
	case isthmusv1.KindName, isthmusv1.KindWildcard:
		m.dirty.routes[key] = true
		if key.Kind == isthmusv1.KindWildcard {
			m.dirty.wildcards = true
			if w, ok := value.(*isthmusv1.WildcardRoute); ok {
				m.wildcards[key] = w
			} else {
				delete(m.wildcards, key)
			}
		}
		if ref := endpointsOf(before); ref != nil {
			m.unuse(ref.ID(), func(u setUses) { delete(u.names, key) })
		}
		if ref := endpointsOf(value); ref != nil {
			add(&m.use(ref.ID()).names, key, true)
		}
	case isthmusv1.KindEndpoint:
		set, ok := value.(*isthmusv1.EndpointSet)
		if !ok {
			set, ok = before.(*isthmusv1.EndpointSet)
		}
		if ok {
			m.dirty.sets[set.GetRef().ID()] = true
		}
	default:
		return // Nothing is made of it.
	}
	if value == nil {
		delete(m.values, key)
		return
	}
	m.values[key] = value
}

func endpointsOf(value proto.Message) *isthmusv1.EndpointSetRef {
	switch v := value.(type) {
	case *isthmusv1.NameRoute:
		return v.GetEndpoints()
	case *isthmusv1.WildcardRoute:
		return v.GetEndpoints()
	}
	return nil
}

// Position is how far the machine is in the routes stream, and the basis of the routes
// there.
func (m *Machine) Position() (*isthmusv1.Position, *isthmusv1.Basis) { return m.routes, m.basis }

// RouteSet is what a sidecar's upstreams come to, as the stream has it; nil for none.
func (m *Machine) RouteSet(p *Proxy) *isthmusv1.RouteSet {
	set, _ := m.values[isthmusv1.RouteSetKey(p.Routes.GetService(), p.Routes.GetRoutesetHash())].(*isthmusv1.RouteSet)
	return set
}

// Change is what changed for some proxies.
type Change struct {
	// Proxies that are served the resources.
	Proxies []*Proxy
	Type    resource.Type
	// Names of resources that are new, others, or gone.
	Names []string
	// Gone: the proxies are registered no more; then there is nothing else.
	Gone bool
	// Stated: [Proxy.Problems] are others; then there is nothing else.
	Stated bool
}

// Ready brings the resources up to date, and returns what has changed since it was last
// called.
func (m *Machine) Ready() []Change {
	d := m.dirty
	defer func() { m.dirty = d.clean() }()
	for id := range d.sets {
		for key := range m.usesOf(id).names {
			d.routes[key] = true
		}
	}
	var changes []Change
	for _, key := range sortedKeys(m.fleets) {
		changes = append(changes, m.fleets[key].update(m, d.routes)...)
	}
	more, listeners := m.updateGroups(d)
	return append(append(changes, more...), m.updateProxies(d, listeners)...)
}

// endpoints is an endpoint set with all its chunks; nil when it is not there.
func (m *Machine) endpoints(ref *isthmusv1.EndpointSetRef) *isthmusv1.EndpointSet {
	if ref == nil {
		return nil
	}
	return m.endpointSet(ref.ID())
}

// endpointSet is the same by the set's identity.
func (m *Machine) endpointSet(id isthmusv1.SetID) *isthmusv1.EndpointSet {
	first, ok := m.values[id.Key(0)].(*isthmusv1.EndpointSet)
	if !ok || first.GetChunks() <= 1 {
		return first
	}
	whole := &isthmusv1.EndpointSet{Ref: first.GetRef(), Availability: first.GetAvailability(), Chunks: 1}
	for chunk := range first.GetChunks() {
		part, there := m.values[id.Key(chunk)].(*isthmusv1.EndpointSet)
		if !there {
			break // The rest is written first, or is no more.
		}
		whole.Endpoints = append(whole.Endpoints, part.GetEndpoints()...)
	}
	return whole
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

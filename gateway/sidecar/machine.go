package sidecar

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Why there is nothing to serve.
var (
	// ErrNoProxy indicates that the routes hold no such proxy.
	ErrNoProxy = errors.New("the datacenter has no such proxy")
	// ErrAmbiguous indicates an ID that several nodes have.
	ErrAmbiguous = errors.New("several proxies have this ID; name one as NODE/ID")
	// ErrNotSidecar indicates a proxy of another kind than connect-proxy.
	ErrNotSidecar = errors.New("it is not a sidecar")
)

// Machine is what one proxy serves, out of ROUTES_<dc>: a pure machine that
// [bus.Drive] applies transactions to. Its cost follows what concerns the proxy;
// of all else it only keeps the values.
type Machine struct {
	// proxy is NODE/ID or ID, in lower case.
	proxy string
	// found is the key of the proxy, once it is known.
	found isthmusv1.Key

	values map[isthmusv1.Key]proto.Message
	// used are the keys that the last view was made of.
	used  map[isthmusv1.Key]bool
	stale bool

	routes *isthmusv1.Position
	basis  *isthmusv1.Basis
}

// NewMachine makes a machine for a proxy, named NODE/ID or, where that is
// unique, ID. Names match without case.
func NewMachine(proxyName string) *Machine {
	return &Machine{
		proxy:  strings.ToLower(proxyName),
		values: make(map[isthmusv1.Key]proto.Message),
		stale:  true,
	}
}

// keeps reports whether values of the kind may concern a sidecar.
func keeps(kind isthmusv1.Kind) bool {
	switch kind {
	case isthmusv1.KindProxy, isthmusv1.KindRouteSet, isthmusv1.KindEndpoint, isthmusv1.KindInbound, isthmusv1.KindMesh:
		return true
	}
	return false
}

// Apply takes a transaction of the routes stream.
func (m *Machine) Apply(t *isthmusv1.Transaction) {
	m.routes = t.Position()
	if t.Reset {
		clear(m.values)
		m.stale = true
	}
	for _, c := range t.Changes {
		if basis, ok := c.Value.(*isthmusv1.Basis); ok && c.Key.Kind == isthmusv1.KindBasis {
			m.basis = basis
		}
		if !keeps(c.Key.Kind) {
			continue
		}
		if c.Tombstone {
			delete(m.values, c.Key)
		} else if c.Value != nil {
			m.values[c.Key] = c.Value
		}
		// Any proxy may be the one, or make a bare ID ambiguous, while it is sought.
		m.stale = m.stale || m.used[c.Key] || c.Key.Kind == isthmusv1.KindProxy && m.found.IsZero()
	}
	if basis := t.End.GetBasis(); basis != nil {
		m.basis = basis
	}
}

// Stale reports whether the last [Machine.View] may not be the present one.
func (m *Machine) Stale() bool { return m.stale }

// Position is how far the machine is in the routes stream, and the basis of the
// routes there.
func (m *Machine) Position() (*isthmusv1.Position, *isthmusv1.Basis) { return m.routes, m.basis }

// View is what the proxy serves: values as they stand in the stream, shared and
// not to be written to.
type View struct {
	Proxy *isthmusv1.ProxyRoutes
	// Routes of its upstreams, by id.
	Routes map[string]*isthmusv1.Route
	// Inbound is nil while the service has none.
	Inbound *isthmusv1.Inbound
	// Mesh is nil while the datacenter has none.
	Mesh *isthmusv1.MeshRoutes
	// Sets are the endpoint sets that the routes refer to, all chunks of each.
	Sets map[isthmusv1.SetID]*isthmusv1.EndpointSet
	// Position and Basis are those of the machine at that time.
	Position *isthmusv1.Position
	Basis    *isthmusv1.Basis
}

// Name is NODE/ID.
func (v *View) Name() string { return v.Proxy.GetNode() + "/" + v.Proxy.GetId() }

// View makes the present view. Possible errors: [ErrNoProxy] and [ErrAmbiguous],
// with the candidates, and [ErrNotSidecar].
func (m *Machine) View() (*View, error) {
	m.stale = false
	m.used = make(map[isthmusv1.Key]bool)
	key, err := m.find()
	m.found = key
	if err != nil {
		return nil, err
	}
	v := &View{
		Routes:   make(map[string]*isthmusv1.Route),
		Sets:     make(map[isthmusv1.SetID]*isthmusv1.EndpointSet),
		Position: m.routes,
		Basis:    m.basis,
	}
	v.Proxy, _ = use[*isthmusv1.ProxyRoutes](m, key)
	if kind := v.Proxy.GetKind(); kind != isthmusv1.InstanceKindProxy {
		return nil, fmt.Errorf("%s is a %s: %w", v.Name(), kind, ErrNotSidecar)
	}
	v.Inbound, _ = use[*isthmusv1.Inbound](m, isthmusv1.InboundKey(v.Proxy.GetService()))
	v.Mesh, _ = use[*isthmusv1.MeshRoutes](m, isthmusv1.MeshKey())
	if hash := v.Proxy.GetRoutesetHash(); hash != "" {
		set, _ := use[*isthmusv1.RouteSet](m, isthmusv1.RouteSetKey(v.Proxy.GetService(), hash))
		for _, route := range set.GetRoutes() {
			v.Routes[route.GetId()] = route
			m.useSets(v, route)
		}
	}
	return v, nil
}

func (m *Machine) useSets(v *View, route *isthmusv1.Route) {
	for _, target := range route.GetTargets() {
		for _, ref := range target.GetEndpointSets() {
			v.Sets[ref.ID()] = m.set(ref)
		}
		if target.GetBackend() != nil {
			v.Sets[target.GetBackend().ID()] = m.set(target.GetBackend())
		}
	}
}

// set joins the chunks of an endpoint set; nil when it is not there.
func (m *Machine) set(ref *isthmusv1.EndpointSetRef) *isthmusv1.EndpointSet {
	id := ref.ID()
	first, ok := use[*isthmusv1.EndpointSet](m, id.Key(0))
	if !ok || first.GetChunks() <= 1 {
		return first
	}
	whole := &isthmusv1.EndpointSet{
		Ref: first.GetRef(), Availability: first.GetAvailability(), Chunks: 1,
		Endpoints: slices.Clone(first.GetEndpoints()),
	}
	for chunk := uint32(1); chunk < first.GetChunks(); chunk++ {
		more, _ := use[*isthmusv1.EndpointSet](m, id.Key(chunk))
		whole.Endpoints = append(whole.Endpoints, more.GetEndpoints()...)
	}
	return whole
}

// use returns a value that the view depends on, whether it is there or not.
func use[M proto.Message](m *Machine, key isthmusv1.Key) (M, bool) {
	m.used[key] = true
	value, ok := m.values[key].(M)
	return value, ok
}

// find returns the key of the proxy. One that was found stays the one, though
// another node should come to have the same ID.
func (m *Machine) find() (isthmusv1.Key, error) {
	if _, ok := m.values[m.found]; ok {
		return m.found, nil
	}
	var found []isthmusv1.Key
	for key := range m.values {
		if key.Kind == isthmusv1.KindProxy && m.named(key.Parts()) {
			found = append(found, key)
		}
	}
	switch len(found) {
	case 0:
		return isthmusv1.Key{}, fmt.Errorf("%s: %w; it has %s", m.proxy, ErrNoProxy, m.candidates())
	case 1:
		return found[0], nil
	}
	isthmusv1.SortKeys(found)
	names := make([]string, len(found))
	for i, key := range found {
		names[i] = strings.Join(key.Parts(), "/")
	}
	return isthmusv1.Key{}, fmt.Errorf("%s: %w (%s)", m.proxy, ErrAmbiguous, strings.Join(names, ", "))
}

// mostCandidates is how many proxies are listed where none is the one.
const mostCandidates = 10

// candidates are the proxies that there are, for people.
func (m *Machine) candidates() string {
	var names []string
	for key, value := range m.values {
		if proxy, ok := value.(*isthmusv1.ProxyRoutes); ok && proxy.GetKind() == isthmusv1.InstanceKindProxy {
			names = append(names, strings.Join(key.Parts(), "/"))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	if more := len(names) - mostCandidates; more > 0 {
		names = append(names[:mostCandidates], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

func (m *Machine) named(parts []string) bool {
	return len(parts) == 2 && (strings.Join(parts, "/") == m.proxy || parts[1] == m.proxy)
}

// usedValues are the values that the last view was made of, by key, in order.
func (m *Machine) usedValues() ([]isthmusv1.Key, []proto.Message) {
	keys := slices.Collect(maps.Keys(m.used))
	isthmusv1.SortKeys(keys)
	var present []isthmusv1.Key
	var values []proto.Message
	for _, key := range keys {
		if value, ok := m.values[key]; ok {
			present, values = append(present, key), append(values, value)
		}
	}
	return present, values
}

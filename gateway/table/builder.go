package table

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Builder makes tables out of the transactions of a routes stream. A change of
// endpoints swaps one set, a change of a name makes a table that shares all but
// that name. It is not safe for concurrent use; the tables and sets that it
// gives out are.
type Builder struct {
	ejection Ejection

	// values are the values of the stream that a gateway needs, by key; the
	// messages are shared and never written to.
	values map[isthmusv1.Key]proto.Message
	// linked are the sets that a route refers to.
	linked map[isthmusv1.SetID]*link
	// routes by the key of the value that they came from.
	routes map[isthmusv1.Key]*routeLink

	hosts map[string][]netip.Addr
	// named are the linked sets with host names.
	named map[isthmusv1.SetID]*Set
	// own is nil unless a registration is followed.
	own   *ownBuilder
	table *Table
}

// link is a set and how many routes refer to it.
type link struct {
	set   *Set
	users int
}

type routeLink struct {
	route *Route
	set   isthmusv1.SetID
}

// NewBuilder returns a builder of an empty table, whose sets eject by the rule.
func NewBuilder(ejection Ejection) *Builder {
	return &Builder{
		ejection: ejection,
		values:   make(map[isthmusv1.Key]proto.Message),
		linked:   make(map[isthmusv1.SetID]*link),
		routes:   make(map[isthmusv1.Key]*routeLink),
		hosts:    make(map[string][]netip.Addr),
		named:    make(map[isthmusv1.SetID]*Set),
		table:    new(Table),
	}
}

// Table returns the present table.
func (b *Builder) Table() *Table { return b.table }

// Apply takes a transaction and returns the table after it. Sets are swapped
// meanwhile; they come before the names that need them, as the resolver writes
// them.
func (b *Builder) Apply(t *isthmusv1.Transaction) *Table {
	gone := make(map[isthmusv1.Key]bool)
	if t.Reset {
		for key := range b.values {
			gone[key] = true
		}
	}
	for _, c := range t.Changes {
		switch {
		case !needed(c.Key.Kind):
		case c.Tombstone:
			gone[c.Key] = true
		case c.Value != nil:
			delete(gone, c.Key)
		}
	}
	dirty := b.takeSets(t, gone)
	edit := b.takeNames(t, gone)
	for id := range dirty {
		b.refill(id)
	}
	b.table = b.table.With(edit.set, edit.drop)
	if b.own.take(t) {
		b.setOwn()
	}
	b.table.Routes = t.Position()
	// Only the last of several transactions that make one difference has a
	// basis; until then the table is still that of the basis before.
	if basis := t.End.GetBasis(); basis != nil || t.Reset {
		b.table.Basis = basis
	}
	return b.table
}

// needed reports whether a gateway has a use for the kind.
func needed(kind isthmusv1.Kind) bool {
	switch kind {
	case isthmusv1.KindEndpoint, isthmusv1.KindName, isthmusv1.KindWildcard, isthmusv1.KindMesh:
		return true
	}
	return false
}

// takeSets takes the chunks of endpoint sets, and returns the sets that they
// changed.
func (b *Builder) takeSets(t *isthmusv1.Transaction, gone map[isthmusv1.Key]bool) map[isthmusv1.SetID]bool {
	dirty := make(map[isthmusv1.SetID]bool)
	for key := range gone {
		if chunk, ok := b.values[key].(*isthmusv1.EndpointSet); ok {
			dirty[chunk.GetRef().ID()] = true
			delete(b.values, key)
		}
	}
	for _, c := range t.Changes {
		if chunk, ok := c.Value.(*isthmusv1.EndpointSet); ok && !c.Tombstone {
			dirty[chunk.GetRef().ID()] = true
			b.values[c.Key] = chunk
		}
	}
	return dirty
}

// changed is the routes to set and the names to drop.
type changed struct {
	set  []*Route
	drop []string
}

// takeNames takes names, wildcards and the mesh.
func (b *Builder) takeNames(t *isthmusv1.Transaction, gone map[isthmusv1.Key]bool) changed {
	var edit changed
	for _, c := range t.Changes {
		if c.Tombstone || c.Value == nil || c.Key.Kind == isthmusv1.KindEndpoint || !needed(c.Key.Kind) {
			continue
		}
		b.values[c.Key] = c.Value
		name, draft, ok := draftOf(c.Value)
		if !ok {
			continue
		}
		before := b.routes[c.Key]
		link := &routeLink{set: name.ID()}
		draft.Endpoints = b.link(link.set)
		draft.Counters = new(Counters)
		if before != nil {
			if before.route.Name == draft.Name {
				draft.Counters = before.route.Counters
			} else {
				edit.drop = append(edit.drop, before.route.Name)
			}
			b.unlink(before.set)
		}
		link.route = draft
		b.routes[c.Key] = link
		edit.set = append(edit.set, draft)
	}
	for key := range gone {
		delete(b.values, key)
		if before := b.routes[key]; before != nil {
			edit.drop = append(edit.drop, before.route.Name)
			b.unlink(before.set)
			delete(b.routes, key)
		}
	}
	return edit
}

// draftOf returns a route without its set and counters, and the set's name.
func draftOf(value proto.Message) (*isthmusv1.EndpointSetRef, *Route, bool) {
	switch v := value.(type) {
	case *isthmusv1.NameRoute:
		return v.GetEndpoints(), &Route{
			Name:           strings.ToLower(v.GetSni()),
			ConnectTimeout: max(v.GetConnectTimeout().AsDuration(), 0),
		}, true
	case *isthmusv1.WildcardRoute:
		return v.GetEndpoints(), &Route{
			Name:       "*." + strings.ToLower(strings.TrimPrefix(v.GetSuffix(), ".")),
			Wildcard:   true,
			Datacenter: v.GetDatacenter(),
		}, true
	}
	return nil, nil, false
}

// link returns the set for one more route.
func (b *Builder) link(id isthmusv1.SetID) *Set {
	l := b.linked[id]
	if l == nil {
		l = &link{set: NewSet(b.ejection)}
		b.linked[id] = l
		b.refill(id)
	}
	l.users++
	return l.set
}

func (b *Builder) unlink(id isthmusv1.SetID) {
	l := b.linked[id]
	if l.users--; l.users == 0 {
		delete(b.linked, id)
		delete(b.named, id)
	}
}

// refill gives a set that is in use the endpoints of its chunks.
func (b *Builder) refill(id isthmusv1.SetID) {
	l := b.linked[id]
	if l == nil {
		return
	}
	l.set.Replace(b.endpoints(id), b.lookup)
	if len(l.set.HostNames()) > 0 {
		b.named[id] = l.set
	} else {
		delete(b.named, id)
	}
}

func (b *Builder) lookup(host string) []netip.Addr { return b.hosts[host] }

// endpoints joins the chunks of a set. Chunks change together, so that none is
// missing between transactions.
func (b *Builder) endpoints(id isthmusv1.SetID) []*isthmusv1.Endpoint {
	first, _ := b.values[id.Key(0)].(*isthmusv1.EndpointSet)
	if first.GetChunks() <= 1 {
		return first.GetEndpoints()
	}
	var out []*isthmusv1.Endpoint
	for i := range first.GetChunks() {
		chunk, _ := b.values[id.Key(i)].(*isthmusv1.EndpointSet)
		out = append(out, chunk.GetEndpoints()...)
	}
	return out
}

// HostNames returns the host names that the sets in use need, sorted. They are
// resolved by the caller, and given with [Builder.Resolve].
func (b *Builder) HostNames() []string {
	names := make(map[string]bool)
	for _, set := range b.named {
		for _, host := range set.HostNames() {
			names[host] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Resolve says what a host name stands for, and swaps the sets that have it if
// that is new. Without addresses the last ones stay: a name server that does not
// answer is no reason to stop using what worked.
func (b *Builder) Resolve(host string, addresses []netip.Addr) (changed bool) {
	addresses = slices.Clone(addresses)
	slices.SortFunc(addresses, netip.Addr.Compare)
	addresses = slices.Compact(addresses)
	if len(addresses) == 0 || slices.Equal(b.hosts[host], addresses) {
		return false
	}
	b.hosts[host] = addresses
	for id, set := range b.named {
		if _, ok := slices.BinarySearch(set.HostNames(), host); ok {
			b.refill(id)
		}
	}
	return true
}

// Mesh returns what the datacenter's nodes are told; nil when not known.
func (b *Builder) Mesh() *isthmusv1.MeshRoutes {
	mesh, _ := b.values[isthmusv1.MeshKey()].(*isthmusv1.MeshRoutes)
	return mesh
}

// KeyValue is one value of the stream.
type KeyValue struct {
	Key   isthmusv1.Key
	Value proto.Message
}

// Values returns what the present table was made of, sorted by key: names,
// wildcards, the mesh, the endpoint sets in use, and the registration that is
// followed. A Reset transaction of
// these makes the same table.
func (b *Builder) Values() []KeyValue {
	out := make([]KeyValue, 0, len(b.routes))
	for key, value := range b.values {
		if chunk, ok := value.(*isthmusv1.EndpointSet); ok && b.linked[chunk.GetRef().ID()] == nil {
			continue
		}
		out = append(out, KeyValue{key, value})
	}
	if own, ok := b.own.value(); ok {
		out = append(out, own)
	}
	slices.SortFunc(out, func(a, c KeyValue) int { return a.Key.Compare(c.Key) })
	return out
}

// EndpointReport is what was seen of one address, over all sets.
type EndpointReport struct {
	Name        string
	Connections uint64
	Failures    uint64
	Ejected     bool
}

// EndpointReports returns a report for each endpoint in use, sorted by name.
func (b *Builder) EndpointReports(now time.Time) []EndpointReport {
	byName := make(map[string]*EndpointReport)
	for _, l := range b.linked {
		for _, e := range l.set.Endpoints() {
			r := byName[e.Name]
			if r == nil {
				r = &EndpointReport{Name: e.Name}
				byName[e.Name] = r
			}
			r.Connections += e.Counters.Connections.Load()
			r.Failures += e.Counters.Failures.Load()
			r.Ejected = r.Ejected || e.Ejected(now)
		}
	}
	out := make([]EndpointReport, 0, len(byName))
	for _, r := range byName {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, c EndpointReport) int { return cmp.Compare(a.Name, c.Name) })
	return out
}

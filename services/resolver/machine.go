package resolver

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// RulesVersion is the version of the rules by which routes are made. It is
// recorded with every basis, and a resolver with older rules does not write
// after one with newer rules. It rises when equal catalogs come to give other
// routes.
const RulesVersion = 5

// Output is one value of ROUTES_<datacenter>.
type Output struct {
	Key isthmusv1.Key
	// Value is nil in a tombstone. It is shared and must not be written to.
	Value proto.Message
}

// Update is what changed between two calls of [Machine.Ready].
type Update struct {
	// Changes in the order of emission: values by [isthmusv1.Key.Compare], then
	// tombstones. Empty when the catalogs' changes changed no route.
	Changes []Output
	// Basis is the position of every catalog that the routes were made from.
	Basis *isthmusv1.Basis
}

// Machine holds the catalogs and the routes made from them. Make it with [New].
type Machine struct {
	datacenter string
	catalogs   map[string]*catalog
	index      index

	// The units by what they are about.
	proxies   map[isthmusv1.Key]*unit
	services  map[string]*unit
	routeSets map[isthmusv1.Key]*unit
	sets      map[isthmusv1.SetID]*unit

	outputs map[isthmusv1.Key]proto.Message
	// touched holds what each key written since the last Ready had then.
	touched map[isthmusv1.Key]proto.Message
	basis   *isthmusv1.Basis
}

// New makes the machine of a datacenter. Its name is lower-cased.
func New(datacenter string) *Machine {
	m := &Machine{
		datacenter: strings.ToLower(datacenter),
		catalogs:   map[string]*catalog{},
		index:      index{topics: map[fact]*topic{}},
		proxies:    map[isthmusv1.Key]*unit{},
		services:   map[string]*unit{},
		routeSets:  map[isthmusv1.Key]*unit{},
		sets:       map[isthmusv1.SetID]*unit{},
		outputs:    map[isthmusv1.Key]proto.Message{},
		touched:    map[isthmusv1.Key]proto.Message{},
	}
	m.index.enqueue(&unit{rank: rankRoot, job: meshJob{}})
	m.index.enqueue(&unit{rank: rankRoot, job: wildcardsJob{}})
	return m
}

// Apply takes in a transaction of any CATALOG_* stream; other streams are
// ignored. With Reset it replaces all that was held of the stream.
func (m *Machine) Apply(t *isthmusv1.Transaction) {
	class, dc, ok := isthmusv1.ParseStreamName(t.Stream)
	if !ok || class != isthmusv1.ClassCatalog {
		return
	}
	dc = strings.ToLower(dc)
	c := m.catalogs[dc]
	if c == nil {
		c = newCatalog(dc, m.changed)
		m.catalogs[dc] = c
	}
	had := m.hasCatalog(dc)
	c.stream, c.position = t.Stream, t.Position()
	if t.Reset {
		c.keep(t.Changes)
	}
	for i := range t.Changes {
		c.apply(&t.Changes[i])
	}
	if had != m.hasCatalog(dc) {
		m.index.changed(datacentersFact())
	}
}

// RemoveStream forgets a departed datacenter's catalog.
func (m *Machine) RemoveStream(name string) {
	class, dc, ok := isthmusv1.ParseStreamName(name)
	c := m.catalogs[strings.ToLower(dc)]
	if !ok || class != isthmusv1.ClassCatalog || c == nil {
		return
	}
	c.keep(nil)
	delete(m.catalogs, c.datacenter)
	m.index.changed(datacentersFact())
}

// hasCatalog reports whether a datacenter's catalog is here, with anything in it.
func (m *Machine) hasCatalog(datacenter string) bool {
	c := m.catalogs[datacenter]
	return c != nil && len(c.values) > 0
}

// changed queues whoever depends on a fact. A proxy or service of the own
// datacenter that is new has nobody yet, and gets a unit.
func (m *Machine) changed(f fact) {
	m.index.changed(f)
	if f.datacenter != m.datacenter {
		return
	}
	switch f.kind {
	case ofValue:
		if v := m.catalogs[f.datacenter].values[f.key]; v != nil && isRouted(v.instance().GetKind()) && m.proxies[f.key] == nil {
			u := &unit{rank: rankRoot, job: &proxyJob{key: f.key}}
			m.proxies[f.key] = u
			m.index.enqueue(u)
		}
	case ofMembers:
		name := f.key.Parts()[0]
		if b := m.catalogs[f.datacenter].services[name]; b != nil && m.services[name] == nil {
			u := &unit{rank: rankRoot, job: &serviceJob{name: name, ref: anyMember(b)}}
			m.services[name] = u
			m.index.enqueue(u)
		}
	}
}

// anyMember names the service of a bag by any of its members; the spelling does
// not matter, as whoever uses it asks how the service is spelled.
func anyMember(b *bag[*value]) *isthmusv1.ServiceRef {
	for v := range b.all() {
		ref := destinationOf(v.instance())
		return newRef(strings.ToLower(ref.GetPartition()), strings.ToLower(ref.GetNamespace()), strings.ToLower(ref.GetName()))
	}
	return nil
}

// whole reports whether the own catalog can name things.
func (m *Machine) whole() bool {
	c := m.catalogs[m.datacenter]
	if c == nil || c.values[isthmusv1.MeshFactsKey()] == nil {
		return false
	}
	v := &view{machine: m, datacenter: m.datacenter}
	return v.trustDomain() != ""
}

// advance brings the outputs up to what was applied, if the catalog is whole.
func (m *Machine) advance() bool {
	if !m.whole() {
		return false
	}
	m.settle()
	positions := make([]*isthmusv1.Position, 0, len(m.catalogs))
	for _, c := range m.catalogs {
		positions = append(positions, c.position)
	}
	slices.SortFunc(positions, func(a, b *isthmusv1.Position) int { return cmp.Compare(a.GetStream(), b.GetStream()) })
	m.basis = &isthmusv1.Basis{Positions: positions}
	return true
}

// put sets or, with nil, removes an output. A value equal to the one that is
// there leaves it as it is.
func (m *Machine) put(key isthmusv1.Key, value proto.Message) {
	old := m.outputs[key]
	if old == nil && value == nil || old != nil && value != nil && proto.Equal(old, value) {
		return
	}
	if _, ok := m.touched[key]; !ok {
		m.touched[key] = old
	}
	if value == nil {
		delete(m.outputs, key)
		return
	}
	m.outputs[key] = value
}

// Ready returns what changed since the last Ready, or nil while the own catalog
// is not whole: mesh facts and a trust domain must be there.
func (m *Machine) Ready() *Update {
	if !m.advance() {
		return nil
	}
	u := &Update{Basis: m.basis}
	for key, old := range m.touched {
		value := m.outputs[key]
		if old == nil && value == nil || old != nil && value != nil && proto.Equal(old, value) {
			continue
		}
		u.Changes = append(u.Changes, Output{Key: key, Value: value})
	}
	// A map that once held the first fill would be walked whole for ever.
	m.touched = map[isthmusv1.Key]proto.Message{}
	slices.SortFunc(u.Changes, compareOutputs)
	return u
}

// compareOutputs is the order of emission.
func compareOutputs(a, b Output) int {
	if (a.Value == nil) != (b.Value == nil) {
		if a.Value == nil {
			return 1
		}
		return -1
	}
	return a.Key.Compare(b.Key)
}

// All returns the routes as they are after all that was applied, in the order
// of emission; nothing before the first time that the machine was whole.
func (m *Machine) All() iter.Seq2[isthmusv1.Key, proto.Message] {
	return func(yield func(isthmusv1.Key, proto.Message) bool) {
		m.advance()
		keys := slices.SortedFunc(maps.Keys(m.outputs), isthmusv1.Key.Compare)
		for _, key := range keys {
			if !yield(key, m.outputs[key]) {
				return
			}
		}
	}
}

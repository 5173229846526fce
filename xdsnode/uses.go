package xdsnode

import isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"

// setUses is who uses an endpoint set. They stand together, so that one that changes is
// looked for once; a set that nobody uses has none.
type setUses struct {
	// names are the names and wildcards that lead to it.
	names map[isthmusv1.Key]bool
	// groups are those with targets of it; true for one where its endpoints, or their
	// health, stand in a cluster.
	groups map[*group]bool
	// assignments are those that hold its endpoints.
	assignments map[*assignment]bool
}

// usesOf are those of a set, to be read or deleted from.
func (m *Machine) usesOf(id isthmusv1.SetID) setUses {
	if u := m.uses[id]; u != nil {
		return *u
	}
	return setUses{}
}

// use are those of a set, to be added to.
func (m *Machine) use(id isthmusv1.SetID) *setUses {
	u := m.uses[id]
	if u == nil {
		u = new(setUses)
		m.uses[id] = u
	}
	return u
}

// unused forgets those of a set if nobody is left in them.
func (m *Machine) unused(id isthmusv1.SetID, u setUses) {
	if len(u.names)+len(u.groups)+len(u.assignments) == 0 {
		delete(m.uses, id)
	}
}

func (m *Machine) useName(id isthmusv1.SetID, key isthmusv1.Key) {
	u := m.use(id)
	add(&u.names, key, true)
}

func (m *Machine) unuseName(id isthmusv1.SetID, key isthmusv1.Key) {
	u := m.usesOf(id)
	delete(u.names, key)
	m.unused(id, u)
}

func (m *Machine) useGroup(id isthmusv1.SetID, g *group, inCluster bool) {
	u := m.use(id)
	add(&u.groups, g, inCluster)
}

func (m *Machine) unuseGroup(id isthmusv1.SetID, g *group) {
	u := m.usesOf(id)
	delete(u.groups, g)
	m.unused(id, u)
}

func (m *Machine) useAssignment(id isthmusv1.SetID, a *assignment) {
	u := m.use(id)
	add(&u.assignments, a, true)
}

func (m *Machine) unuseAssignment(id isthmusv1.SetID, a *assignment) {
	u := m.usesOf(id)
	delete(u.assignments, a)
	m.unused(id, u)
}

func add[K comparable](to *map[K]bool, key K, value bool) {
	if *to == nil {
		*to = map[K]bool{}
	}
	(*to)[key] = value
}

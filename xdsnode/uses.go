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

// usesOf are those of a set, to be read.
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

// unuse has somebody leave those of a set, and forgets them when nobody is left.
func (m *Machine) unuse(id isthmusv1.SetID, leave func(setUses)) {
	u := m.usesOf(id)
	leave(u)
	if len(u.names)+len(u.groups)+len(u.assignments) == 0 {
		delete(m.uses, id)
	}
}

func add[K comparable](to *map[K]bool, key K, value bool) {
	if *to == nil {
		*to = map[K]bool{}
	}
	(*to)[key] = value
}

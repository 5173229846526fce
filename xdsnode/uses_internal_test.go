package xdsnode

import (
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// A set is kept in mind as long as anybody uses it, whoever leaves first.
func TestUsesOfASetAreForgottenWithTheLast(t *testing.T) {
	id := (&isthmusv1.EndpointSetRef{Datacenter: "dc1", Service: &isthmusv1.ServiceRef{Name: "web"}}).ID()
	key, g, a := isthmusv1.InboundKey(&isthmusv1.ServiceRef{Name: "web"}), &group{}, &assignment{}
	kinds := []struct{ use, unuse func(*Machine) }{
		{func(m *Machine) { add(&m.use(id).names, key, true) }, func(m *Machine) { m.unuse(id, func(u setUses) { delete(u.names, key) }) }},
		{func(m *Machine) { add(&m.use(id).groups, g, true) }, func(m *Machine) { m.unuse(id, g.leave) }},
		{func(m *Machine) { add(&m.use(id).assignments, a, true) }, func(m *Machine) { m.unuse(id, func(u setUses) { delete(u.assignments, a) }) }},
	}
	for first := range kinds {
		m := NewMachine()
		for _, kind := range kinds {
			kind.use(m)
		}
		for i := range kinds {
			if u := m.usesOf(id); len(u.names)+len(u.groups)+len(u.assignments) != len(kinds)-i {
				t.Errorf("of %d uses, %d unused: %+v", len(kinds), i, u)
			}
			kinds[(first+i)%len(kinds)].unuse(m)
		}
		if len(m.uses) != 0 {
			t.Errorf("kept when nobody uses it any more: %v", m.uses)
		}
		kinds[first].unuse(m) // A second time is none.
	}
}

package xdsnode

import (
	"maps"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// assignment is the endpoints of clusters of one name that lead to the same sets: all
// groups that have one share it.
type assignment struct {
	*resource.Resource
	key    string
	name   string
	target *isthmusv1.Target
	groups map[*group]bool
}

// acquire is the assignment of a cluster's name and target, for a group.
func (m *Machine) acquire(name string, t *isthmusv1.Target, g *group) *assignment {
	key := assignmentKey(name, t)
	a := m.assignments[key]
	if a == nil {
		a = &assignment{
			Resource: resource.TargetEndpoints(name, t, m.endpoints),
			key:      key, name: name, target: t, groups: map[*group]bool{},
		}
		m.assignments[key] = a
		for _, ref := range setsOf(t) {
			add(&m.use(ref.ID()).assignments, a, true)
		}
	}
	a.groups[g] = true
	return a
}

// assignmentKey is equal for what has the same endpoints under the same name.
func assignmentKey(name string, t *isthmusv1.Target) string {
	parts := []string{name}
	for _, ref := range t.GetEndpointSets() {
		parts = append(parts, ref.ID().Key(0).String())
	}
	if t.GetBackend() != nil {
		parts = append(parts, "behind", t.GetBackend().ID().Key(0).String())
	}
	return strings.Join(parts, "\x00")
}

// release says that a group needs an assignment no more.
func (m *Machine) release(a *assignment, g *group) {
	if delete(a.groups, g); len(a.groups) > 0 {
		return
	}
	delete(m.assignments, a.key)
	for _, ref := range setsOf(a.target) {
		m.unuse(ref.ID(), func(u setUses) { delete(u.assignments, a) })
	}
}

// updateAssignments makes those of the sets anew, once for all groups.
func (m *Machine) updateAssignments(sets map[isthmusv1.SetID]bool) []Change {
	var stale []*assignment
	for id := range sets {
		stale = slices.AppendSeq(stale, maps.Keys(m.usesOf(id).assignments))
	}
	slices.SortFunc(stale, func(a, b *assignment) int { return strings.Compare(a.key, b.key) })
	var told []groupAssignment
	for _, a := range slices.Compact(stale) {
		next := resource.TargetEndpoints(a.name, a.target, m.endpoints)
		if next.Version == a.Version {
			continue
		}
		a.Resource = next
		for g := range a.groups {
			g.table.put(resource.Assignment, a.name, next)
			told = append(told, groupAssignment{g, a.name})
		}
	}
	slices.SortStableFunc(told, func(a, b groupAssignment) int { return strings.Compare(a.group.key, b.group.key) })
	var changes []Change
	for len(told) > 0 {
		g := told[0].group
		var names []string
		for ; len(told) > 0 && told[0].group == g; told = told[1:] {
			names = append(names, told[0].name)
		}
		changes = g.tell(changes, resource.Assignment, names)
	}
	return changes
}

// groupAssignment is an assignment that is another one for a group.
type groupAssignment struct {
	group *group
	name  string
}

package xdsnode

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// table is resources by type, in the order of [resource.Types], and name. There are many
// of them: what is empty takes no memory.
type table [4]map[string]*resource.Resource

// place is that of a type in a table; it is not ok for a type that is not served.
func place(t resource.Type) (i int, ok bool) {
	switch t {
	case resource.Cluster:
		return 0, true
	case resource.Assignment:
		return 1, true
	case resource.Listener:
		return 2, true
	case resource.Route:
		return 3, true
	}
	return 0, false
}

// of is what there is of a type: to be read, and not to be written to.
func (t *table) of(kind resource.Type) map[string]*resource.Resource {
	i, ok := place(kind)
	if t == nil || !ok {
		return nil
	}
	return t[i]
}

// put sets a resource of a type that is served; nil takes it away.
func (t *table) put(kind resource.Type, name string, r *resource.Resource) {
	i, _ := place(kind)
	switch {
	case r == nil:
		delete(t[i], name)
	case t[i] == nil:
		t[i] = map[string]*resource.Resource{name: r}
	default:
		t[i][name] = r
	}
}

// differences are the names, sorted, of what is new, other, or gone.
func differences(before, now *table) map[resource.Type][]string {
	out := map[resource.Type][]string{}
	for _, kind := range resource.Types() {
		var names []string
		for name, r := range now.of(kind) {
			if was := before.of(kind)[name]; was == nil || was.Version != r.Version {
				names = append(names, name)
			}
		}
		for name := range before.of(kind) {
			if now.of(kind)[name] == nil {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			slices.Sort(names)
			out[kind] = names
		}
	}
	return out
}

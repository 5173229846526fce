package xdsnode

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// table is resources by type and name.
type table map[resource.Type]map[string]*resource.Resource

func newTable() table {
	t := table{}
	for _, kind := range resource.Types() {
		t[kind] = map[string]*resource.Resource{}
	}
	return t
}

// differences are the names, sorted, of what is new, other, or gone.
func differences(before, now table) map[resource.Type][]string {
	out := map[resource.Type][]string{}
	for _, kind := range resource.Types() {
		for name, r := range now[kind] {
			if was := before[kind][name]; was == nil || was.Version != r.Version {
				out[kind] = append(out[kind], name)
			}
		}
		for name := range before[kind] {
			if now[kind][name] == nil {
				out[kind] = append(out[kind], name)
			}
		}
		slices.Sort(out[kind])
	}
	return out
}

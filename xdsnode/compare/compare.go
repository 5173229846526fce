package compare

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"
)

// Set is what one control plane serves to an Envoy: resources by type URL and name.
type Set map[string]map[string]*anypb.Any

// Difference is one thing that differs.
type Difference struct {
	// Type is the resource's, without its package: Cluster, ClusterLoadAssignment,
	// Listener, RouteConfiguration.
	Type string `json:"type"`
	// Name is the resource's, as [Rules] pair them: without what Consul puts before a
	// cluster's name for a mode. An assignment has its cluster's.
	Name string `json:"name"`
	// Field is the path from the resource on, in Envoy's names; empty: the resource as
	// a whole is there on one side only.
	Field string `json:"field,omitempty"`
	// Ours and Theirs are the values; empty: not there.
	Ours   string `json:"ours,omitempty"`
	Theirs string `json:"theirs,omitempty"`
	// Intended is the row of deploy/docs/differences.md that says so; empty: none does.
	Intended string `json:"intended,omitempty"`
}

// Types of resources that are read beside each other.
const (
	typePrefix     = "type.googleapis.com/"
	typeCluster    = typePrefix + "envoy.config.cluster.v3.Cluster"
	typeAssignment = typePrefix + "envoy.config.endpoint.v3.ClusterLoadAssignment"
	typeListener   = typePrefix + "envoy.config.listener.v3.Listener"
	typeRoute      = typePrefix + "envoy.config.route.v3.RouteConfiguration"
)

// there stands for a resource that is there as a whole.
const there = "there"

// Resources lists what differs, sorted by type, name and field. Without facts, the
// differences that are intended because of one name no row.
func Resources(ours, theirs Set, facts Facts) []Difference {
	our, their := normalise(ours), normalise(theirs)
	pairPublic(our, their)
	var out []Difference
	for _, url := range keysOf(our.resources, their.resources) {
		short := url[strings.LastIndexByte(url, '.')+1:]
		a, b := our.resources[url], their.resources[url]
		for _, name := range keysOf(a, b) {
			out = append(out, groups(short, name, a[name], b[name])...)
		}
	}
	slices.SortStableFunc(out, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Field, b.Field))
	})
	c := &comparison{our: our, their: their, facts: facts}
	for i := range out {
		out[i].Intended = c.intended(out[i])
	}
	return out
}

// groups compares the resources of one name, of which there is one on each side, but
// for clusters: one to which several upstreams lead is several where each has its own
// way. Then each is compared with the one that it differs from least.
func groups(short, name string, ours, theirs []resource) []Difference {
	if len(ours) == 0 || len(theirs) == 0 {
		return pair(short, name, append(ours, resource{})[0], append(theirs, resource{})[0])
	}
	var out []Difference
	taken := map[int]bool{}
	for _, a := range ours {
		best, at := []Difference(nil), -1
		for i, b := range theirs {
			if found := pair(short, name, a, b); at < 0 || len(found) < len(best) {
				best, at = found, i
			}
		}
		taken[at] = true
		out = append(out, best...)
	}
	for i, b := range theirs {
		if taken[i] {
			continue
		}
		best := pair(short, name, ours[0], b)
		for _, a := range ours[1:] {
			if found := pair(short, name, a, b); len(found) < len(best) {
				best = found
			}
		}
		out = append(out, best...)
	}
	return out
}

// pair compares two resources; an empty one is not there.
func pair(short, name string, a, b resource) []Difference {
	body := differ{Difference: Difference{Type: short, Name: name}}
	body.whole(a.body, b.body)
	assignment := differ{Difference: Difference{Type: typeNameAssignment, Name: name}}
	assignment.whole(a.assignment, b.assignment)
	return append(body.found, assignment.found...)
}

// Unintended are the differences that no row of deploy/docs/differences.md stands for.
func Unintended(all []Difference) []Difference {
	return slices.DeleteFunc(slices.Clone(all), func(d Difference) bool { return d.Intended != "" })
}

// keysOf are the keys of both, sorted.
func keysOf[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

package compare

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// side is one of the two that are compared.
type side struct {
	// resources by type URL and name, normalised. Several clusters may come to one name.
	resources map[string]map[string][]resource
	// sent are the resources as they are.
	sent Set
	// joined are the resources that stand where they are named, by type URL and name.
	joined map[string]map[string]bool
	// assignment is that of the cluster which is being normalised, and current is the
	// name of that, as it was sent.
	assignment *node
	current    string
}

// resource is one, and if it is a cluster its assignment, nil for none.
type resource struct {
	body, assignment *node
}

// normalise applies the rules to what one side serves.
func normalise(sent Set) *side {
	s := &side{
		sent: sent, resources: map[string]map[string][]resource{},
		joined: map[string]map[string]bool{typeAssignment: {}, typeRoute: {}},
	}
	// Clusters take assignments and listeners take routes along, so these come last.
	for _, url := range []string{typeCluster, typeListener} {
		s.take(url)
	}
	for _, url := range slices.Sorted(maps.Keys(s.sent)) {
		if url != typeCluster && url != typeListener {
			s.take(url)
		}
	}
	return s
}

// take normalises the resources of a type.
func (s *side) take(url string) {
	all := map[string][]resource{}
	for _, name := range slices.Sorted(maps.Keys(s.sent[url])) {
		if s.joined[url][name] {
			continue
		}
		s.current, s.assignment = name, nil
		one := resource{body: s.unwrap(s.sent[url][name])}
		one.assignment = s.assignment
		if url == typeCluster || url == typeAssignment {
			name = withoutHash(name)
		}
		all[name] = append(all[name], one)
	}
	s.resources[url] = all
}

// clusterName is the field that a cluster's own name is.
const clusterName protoreflect.FullName = "envoy.config.cluster.v3.Cluster.name"

// renamed is a value, and if the field holds the name of a cluster, that without what
// stands before it.
func renamed(field protoreflect.FullName, value string) string {
	if clusterNames[field] {
		return withoutHash(value)
	}
	return value
}

// Names of the listener that callers reach, and the address that is all addresses.
const (
	public     = "public_listener:"
	everywhere = "0.0.0.0"
)

// pairPublic has the listeners for callers compared as one, if Consul's listens on all
// addresses: its name has the address.
func pairPublic(our, their *side) {
	ours, theirs := our.public(), their.public()
	if ours == "" || theirs == "" || ours == theirs || !strings.HasPrefix(theirs, public+everywhere+":") {
		return
	}
	all := our.resources[typeListener]
	all[theirs] = all[ours]
	delete(all, ours)
}

// public is the name of the only listener for callers; empty: there is none, or several.
func (s *side) public() string {
	var found string
	for name := range s.resources[typeListener] {
		if strings.HasPrefix(name, public) {
			if found != "" {
				return ""
			}
			found = name
		}
	}
	return found
}

package compare

import (
	"maps"
	"net/netip"
)

// gateway reports whether the proxy is a mesh gateway: it leads names to the clusters
// of those names.
func (s *side) gateway() bool {
	return s.hasChain(func(_ string, c *node) bool { return c.list("filters")["envoy.filters.network.sni_cluster"] != nil })
}

// far reports whether a cluster of a mesh gateway is another datacenter's.
func (s *side) far(cluster string) bool {
	return s.hasChain(func(match string, _ *node) bool { return match == "*."+cluster })
}

// hasChain reports whether a listener has a filter chain that is so.
func (s *side) hasChain(is func(match string, chain *node) bool) bool {
	for _, listeners := range s.resources[typeListener] {
		for _, l := range listeners {
			for match, c := range l.body.list("filter_chains") {
				if is(match, c) {
					return true
				}
			}
		}
	}
	return false
}

// cluster is one of a name, and its assignment; the first, where several come to it.
func (s *side) cluster(name string) resource {
	if all := s.resources[typeCluster][name]; len(all) > 0 {
		return all[0]
	}
	return resource{}
}

// without reports whether a cluster has an assignment, with no endpoints in it.
func (s *side) without(cluster string) bool {
	return s.cluster(cluster).assignment != nil && len(s.endpoints(cluster)) == 0
}

// endpoints are those of a cluster, by address and port.
func (s *side) endpoints(cluster string) map[string]*node {
	found := s.cluster(cluster)
	if found.assignment == nil {
		found.assignment = found.body.at("load_assignment")
	}
	out := map[string]*node{}
	for _, l := range found.assignment.list("endpoints") {
		maps.Copy(out, l.list("lb_endpoints"))
	}
	return out
}

// hasName reports whether an endpoint of a cluster is a host name.
func (s *side) hasName(cluster string) bool {
	for key := range s.endpoints(cluster) {
		if _, err := netip.ParseAddrPort(key); err != nil {
			return true
		}
	}
	return false
}

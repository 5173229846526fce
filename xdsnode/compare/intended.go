package compare

import (
	"maps"
	"net/netip"
	"regexp"
)

// The rows of deploy/docs/differences.md that resources show, by their names.
const (
	NoGateway         = "No gateway"
	GatewayHealth     = "A gateway's own health"
	UnknownDatacenter = "An unknown datacenter"
	HostnameGateway   = "A hostname as a gateway's WAN address"
	DeadEndpoints     = "An Envoy mesh gateway's dead endpoints"
	FarWithout        = "Another datacenter without mesh gateways, at an Envoy mesh gateway"
)

// intention is one difference that a row stands for.
type intention struct {
	row string
	is  func(d Difference, our, their *side) bool
}

var intentions = []intention{
	{DeadEndpoints, func(d Difference, our, their *side) bool {
		switch {
		case !our.gateway() || !their.gateway() || d.Theirs != "":
			return false
		case d.Type == "Cluster":
			return d.Field == "common_lb_config.healthy_panic_threshold" && d.Ours == "0%"
		}
		return d.Type == "Listener" && attempts.MatchString(d.Field) && d.Ours == "3"
	}},
	{FarWithout, func(d Difference, our, their *side) bool {
		if !our.gateway() || !their.gateway() || d.Theirs != "" {
			return false
		}
		switch d.Type {
		case "Cluster", "ClusterLoadAssignment":
			return d.Field == "" && our.far(d.Name) && our.without(d.Name)
		case "Listener":
			far := chainOf.FindStringSubmatch(d.Field)
			return far != nil && our.without(far[1])
		}
		return false
	}},
	{HostnameGateway, func(d Difference, our, their *side) bool {
		if !our.gateway() || !their.gateway() || !our.far(d.Name) || !their.hasName(d.Name) {
			return false
		}
		switch {
		case d.Field == "dns_lookup_family":
			return d.Ours == "V4_PREFERRED" && d.Theirs == "V4_ONLY"
		case d.Field == "type":
			return d.Ours == "STRICT_DNS" && d.Theirs == "LOGICAL_DNS"
		case endpointOf.MatchString(d.Field):
			return d.Theirs == "" || d.Ours == "" && our.cluster(d.Name).body.say("type") == "LOGICAL_DNS"
		}
		return false
	}},
	{UnknownDatacenter, func(d Difference, our, their *side) bool {
		return d.Type == "ClusterLoadAssignment" && d.Field == "" && d.Theirs == "" && !our.gateway() && our.without(d.Name)
	}},
}

var (
	attempts   = regexp.MustCompile(`^filter_chains\[[^\]]*\]\.filters\[envoy\.filters\.network\.tcp_proxy\]\.typed_config\.max_connect_attempts$`)
	endpointOf = regexp.MustCompile(`^(?:load_assignment\.)?endpoints\[[^\]]*\]\.lb_endpoints\[[^\]]*\]$`)
	chainOf    = regexp.MustCompile(`^filter_chains\[\*\.([^\]]*)\]$`)
)

// Rows are the rows that a difference may name, in the order of the table.
func Rows() []string {
	return []string{GatewayHealth, NoGateway, UnknownDatacenter, HostnameGateway, DeadEndpoints, FarWithout}
}

// intended is the row that stands for a difference; empty: none does.
func intended(d Difference, our, their *side) string {
	for _, i := range intentions {
		if i.is(d, our, their) {
			return i.row
		}
	}
	return ""
}

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

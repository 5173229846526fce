package compare

import (
	"regexp"
	"strings"
)

// The rows of deploy/docs/differences.md that resources show, by their names.
const (
	NoGateway         = "No gateway"
	GatewayHealth     = "A gateway's own health"
	UnknownDatacenter = "An unknown datacenter"
	HostnameGateway   = "A hostname as a gateway's WAN address"
	DeadEndpoints     = "An Envoy mesh gateway's dead endpoints"
	FarWithout        = "Another datacenter without mesh gateways, at an Envoy mesh gateway"
	CallersAddress    = "Where a sidecar listens for callers"
	NamesOfCallers    = "Names in intentions, at Envoys"
	RouteRewrite      = "A route without a rewrite"
)

// intention is one difference that a row stands for.
type intention struct {
	row string
	is  func(d Difference, c *comparison) bool
}

// comparison is what is compared.
type comparison struct {
	our, their *side
	facts      Facts
}

// gateways reports whether the proxy is a mesh gateway on both sides.
func (c *comparison) gateways() bool { return c.our.gateway() && c.their.gateway() }

// sni is the server name that a sidecar's cluster asks for.
func (c *comparison) sni(cluster string) string {
	return strings.ToLower(c.our.cluster(cluster).body.say("transport_socket", "typed_config", "sni"))
}

const (
	typeNameCluster    = "Cluster"
	typeNameAssignment = "ClusterLoadAssignment"
	typeNameListener   = "Listener"
)

var intentions = []intention{
	{DeadEndpoints, deadEndpoints},
	{FarWithout, farWithout},
	{HostnameGateway, hostnameAtGateway},
	{HostnameGateway, hostnameAtSidecar},
	{UnknownDatacenter, func(d Difference, c *comparison) bool {
		return d.Type == typeNameAssignment && d.Field == "" && d.Theirs == "" && c.facts.states(c.sni(d.Name), "UNKNOWN_DATACENTER") && c.our.without(d.Name)
	}},
	{GatewayHealth, func(d Difference, c *comparison) bool {
		if d.Type != typeNameAssignment {
			return false
		}
		sni := c.sni(d.Name)
		if healthOf.MatchString(d.Field) {
			return d.Ours == "UNHEALTHY" && d.Theirs == "HEALTHY" && c.facts.behind(sni)
		}
		return d.Ours == "" && c.facts.states(sni, "GATEWAYS_FAILING") && c.our.without(d.Name)
	}},
	{NoGateway, func(d Difference, c *comparison) bool {
		return d.Type == typeNameAssignment && d.Ours == "" && c.facts.states(c.sni(d.Name), "NO_GATEWAY") && c.our.without(d.Name)
	}},
	{CallersAddress, func(d Difference, c *comparison) bool {
		if d.Type != typeNameListener || !strings.HasPrefix(d.Name, public) {
			return false
		}
		return d.Field == "name" && strings.HasPrefix(d.Theirs, public+everywhere+":") ||
			d.Field == "address.socket_address.address" && d.Theirs == everywhere
	}},
	{NamesOfCallers, func(d Difference, c *comparison) bool {
		ours, found := strings.CutPrefix(d.Ours, "(?i)")
		return found && callersName.MatchString(d.Field) && strings.ReplaceAll(ours, `\.`, ".") == strings.ReplaceAll(d.Theirs, `\.`, ".")
	}},
	{RouteRewrite, func(d Difference, _ *comparison) bool {
		if kept.MatchString(d.Field) {
			return d.Ours == "/" && d.Theirs == ""
		}
		return d.Ours == "" && (rewritten.MatchString(d.Field) && strings.HasSuffix(d.Theirs, "(/?)(.*)") || substituted.MatchString(d.Field) && d.Theirs == `/\2`)
	}},
}

var (
	attempts    = regexp.MustCompile(`^filter_chains\[[^\]]*\]\.filters\[envoy\.filters\.network\.tcp_proxy\]\.typed_config\.max_connect_attempts$`)
	endpointOf  = regexp.MustCompile(`^(?:load_assignment\.)?endpoints\[[^\]]*\]\.lb_endpoints\[[^\]]*\]$`)
	healthOf    = regexp.MustCompile(`^endpoints\[[^\]]*\]\.lb_endpoints\[[^\]]*\]\.health_status$`)
	chainOf     = regexp.MustCompile(`^filter_chains\[\*\.([^\]]*)\]$`)
	callersName = regexp.MustCompile(`filters\[envoy\.filters\.(?:network|http)\.rbac\]\.typed_config\.rules\.policies\..*\.authenticated\.principal_name\.safe_regex\.regex$`)
	rewritten   = regexp.MustCompile(`\.routes\[\d+\]\.route\.regex_rewrite\.pattern\.regex$`)
	kept        = regexp.MustCompile(`\.routes\[\d+\]\.route\.prefix_rewrite$`)
	substituted = regexp.MustCompile(`\.routes\[\d+\]\.route\.regex_rewrite\.substitution$`)
)

// Rows are the rows that a difference may name, in the order of the table.
func Rows() []string {
	return []string{
		GatewayHealth, NoGateway, UnknownDatacenter, HostnameGateway, DeadEndpoints, FarWithout, CallersAddress, NamesOfCallers, RouteRewrite,
	}
}

// intended is the row that stands for a difference; empty: none does.
func (c *comparison) intended(d Difference) string {
	for _, i := range intentions {
		if i.is(d, c) {
			return i.row
		}
	}
	return ""
}

func deadEndpoints(d Difference, c *comparison) bool {
	switch {
	case !c.gateways() || d.Theirs != "":
		return false
	case d.Type == typeNameCluster:
		return d.Field == "common_lb_config.healthy_panic_threshold" && d.Ours == "0%"
	}
	return d.Type == typeNameListener && attempts.MatchString(d.Field) && d.Ours == "3"
}

func farWithout(d Difference, c *comparison) bool {
	if !c.gateways() || d.Theirs != "" {
		return false
	}
	switch d.Type {
	case typeNameCluster, typeNameAssignment:
		return d.Field == "" && c.our.far(d.Name) && c.our.without(d.Name)
	case typeNameListener:
		far := chainOf.FindStringSubmatch(d.Field)
		return far != nil && c.our.without(far[1])
	}
	return false
}

// hostnameAtGateway: Consul's gateways use host names alone, and of several one.
func hostnameAtGateway(d Difference, c *comparison) bool {
	if !c.gateways() || !c.our.far(d.Name) || !c.their.hasName(d.Name) {
		return false
	}
	switch {
	case d.Field == "dns_lookup_family":
		return d.Ours == "V4_PREFERRED" && d.Theirs == "V4_ONLY"
	case d.Field == "type":
		return d.Ours == "STRICT_DNS" && d.Theirs == "LOGICAL_DNS"
	case endpointOf.MatchString(d.Field):
		return d.Theirs == "" || d.Ours == "" && c.our.cluster(d.Name).body.say("type") == "LOGICAL_DNS"
	}
	return false
}

// hostnameAtSidecar: Consul sends its sidecars host names in assignments, which Envoy
// refuses. Both have the same endpoints, in another place.
func hostnameAtSidecar(d Difference, c *comparison) bool {
	if c.our.gateway() || !c.their.hasName(d.Name) || c.our.cluster(d.Name).body.say("type") != "STRICT_DNS" {
		return false
	}
	ours, theirs := c.our.endpoints(d.Name), c.their.endpoints(d.Name)
	for _, key := range keysOf(ours, theirs) {
		if ours[key] == nil || theirs[key] == nil || ours[key].String() != theirs[key].String() {
			return false
		}
	}
	if d.Type == typeNameAssignment {
		return d.Field == "" && d.Ours == ""
	}
	if d.Type != typeNameCluster {
		return false
	}
	name, _, _ := strings.Cut(d.Field, ".")
	switch name {
	case "type":
		return d.Theirs == "EDS"
	case "eds_cluster_config":
		return d.Ours == ""
	case "dns_lookup_family", "dns_refresh_rate", "load_assignment":
		return d.Theirs == ""
	}
	return false
}

package isthmusv1

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Kinds of instances that are known and not served.
const (
	InstanceKindIngressGateway     = "ingress-gateway"
	InstanceKindTerminatingGateway = "terminating-gateway"
	InstanceKindAPIGateway         = "api-gateway"
)

// Destination types of upstreams; empty is a service.
const (
	DestinationService       = "service"
	DestinationPreparedQuery = "prepared_query"
)

// Validate returns every rule that the instance breaks, as Consul has them for
// files (structs.NodeService.Validate): its kind decides what a proxy
// registration must and must not have, and no two upstreams share a
// destination or a bind.
func (s *ServiceInstance) Validate() Violations {
	var v Violations
	v.name("id", s.GetId())
	v.exactName("name", s.GetName())
	v.optionalName("namespace", s.GetNamespace())
	v.optionalName("partition", s.GetPartition())
	v.oneOf("kind", "service kind", s.GetKind(), InstanceKindProxy, InstanceKindMeshGateway,
		InstanceKindTerminatingGateway, InstanceKindIngressGateway, InstanceKindAPIGateway)
	v.port("port", s.GetPort())
	v.address("address", s.GetAddress())
	if s.GetPort() != 0 && s.GetSocketPath() != "" {
		v.add("socket_path", "a service listens on a port or on a socket", "give port or socket_path, not both")
	}
	for _, t := range s.GetTaggedAddresses() {
		path := "tagged_addresses." + t.GetTag()
		if t.GetAddress() == "" {
			v.add(at(path, "address"), "a tagged address needs an address", "give address")
		}
		v.address(at(path, "address"), t.GetAddress())
		v.port(at(path, "port"), t.GetPort())
	}
	v.meta("meta", s.GetMeta())
	v.checks("checks", s.GetChecks())
	v.proxyOfKind(s)
	v.proxy("proxy", s.GetPartition(), s.GetProxy())
	return v
}

// Validate returns every rule that the node breaks.
func (n *Node) Validate() Violations {
	var v Violations
	v.name("node_name", n.GetName())
	if n.GetAddress() == "" {
		v.add("advertise_addr", "a node needs an address", "give advertise_addr")
	}
	v.address("advertise_addr", n.GetAddress())
	for _, t := range n.GetTaggedAddresses() {
		v.address("advertise_addr_"+t.GetTag(), t.GetAddress())
	}
	v.meta("node_meta", n.GetMeta())
	v.checks("checks", n.GetChecks())
	return v
}

// address refuses what cannot be dialed: every interface, and text that is
// neither an IP address nor a host name.
func (v *Violations) address(path, address string) {
	if address == "" {
		return
	}
	if ip := net.ParseIP(address); ip != nil {
		if ip.IsUnspecified() {
			v.add(path, fmt.Sprintf("%q is every interface and cannot be dialed", address), "give one address")
		}
		return
	}
	if err := ValidateName(address); err != nil || strings.ContainsAny(address, "/ \t@[]{}:") {
		v.add(path, fmt.Sprintf("%q is neither an IP address nor a host name", address), "give an address without a port")
	}
}

func (v *Violations) checks(path string, checks []*Check) {
	seen := map[string]bool{}
	for _, c := range checks {
		place := at(path, c.GetCheckId())
		v.name(at(place, "id"), c.GetCheckId())
		v.oneOf(at(place, "status"), "check status", c.GetStatus(), CheckPassing, CheckWarning, CheckCritical)
		if seen[c.GetCheckId()] {
			v.add(at(place, "id"), fmt.Sprintf("check ID %q stands twice", c.GetCheckId()), "give each check its own id")
		}
		seen[c.GetCheckId()] = true
	}
}

// proxyOfKind checks what the instance's kind asks of its registration.
func (v *Violations) proxyOfKind(s *ServiceInstance) {
	proxy := s.GetProxy()
	if s.GetKind() != "" && s.GetConnectNative() {
		v.add("connect.native", "a proxy or gateway cannot be Connect-native", "leave out native or kind")
	}
	switch s.GetKind() {
	case InstanceKindProxy:
		if proxy.GetDestinationServiceName() == "" {
			v.add("proxy.destination_service_name", "a proxy must name the service that it stands for", "give proxy.destination_service_name")
		}
		if proxy.GetDestinationServiceName() == Wildcard {
			v.add("proxy.destination_service_name", "a proxy stands for one service, not for a wildcard", "name one service")
		}
		if s.GetPort() == 0 && s.GetSocketPath() == "" {
			v.add("port", "a proxy must have a port or a socket path", "give port or socket_path")
		}
	case InstanceKindMeshGateway, InstanceKindTerminatingGateway, InstanceKindIngressGateway, InstanceKindAPIGateway:
		v.gateway(s)
	default:
		if proxy.GetDestinationServiceName() != "" {
			v.add("proxy.destination_service_name", "only a proxy stands for another service", `set kind = "connect-proxy"`)
		}
		if len(proxy.GetUpstreams()) > 0 {
			v.add("proxy.upstreams", "only a proxy has upstreams", `set kind = "connect-proxy" or put proxy into connect.sidecar_service`)
		}
	}
}

// gateway: a mesh gateway stands for no service and has no upstreams of its own
// (the seed's bullet on upstreams means the sidecar).
func (v *Violations) gateway(s *ServiceInstance) {
	kind, proxy := s.GetKind(), s.GetProxy()
	if kind == InstanceKindMeshGateway && s.GetPort() == 0 {
		v.add("port", "a mesh-gateway must have a port", "give port")
	}
	refused := []struct {
		key   string
		given bool
	}{
		{"proxy.destination_service_name", proxy.GetDestinationServiceName() != ""},
		{"proxy.destination_service_id", proxy.GetDestinationServiceId() != ""},
		{"proxy.local_service_address", proxy.GetLocalServiceAddress() != ""},
		{"proxy.local_service_port", proxy.GetLocalServicePort() != 0},
		{"proxy.local_service_socket_path", proxy.GetLocalServiceSocketPath() != ""},
		{"proxy.upstreams", len(proxy.GetUpstreams()) > 0},
	}
	for _, r := range refused {
		if r.given {
			v.add(r.key, fmt.Sprintf("a %s must not have %s", kind, r.key), "leave it out; upstreams and destinations belong to a sidecar")
		}
	}
}

// proxy checks a registration; its upstreams are in the partition of its own
// unless they say another.
func (v *Violations) proxy(path, partition string, p *Proxy) {
	if p == nil {
		return
	}
	v.port(at(path, "local_service_port"), p.GetLocalServicePort())
	v.oneOf(at(path, "mode"), "proxy mode", p.GetMode(), "direct", "transparent")
	v.oneOf(at(path, "mutual_tls_mode"), "mutual TLS mode", p.GetMutualTlsMode(), "strict", "permissive")
	v.meshGateway(path, p.GetMeshGateway())
	v.expose(path, p.GetExpose())
	v.accessLogs(path, p.GetAccessLogs())
	v.port(at(path, "transparent_proxy.outbound_listener_port"), p.GetTransparentProxy().GetOutboundListenerPort())
	destinations, binds := map[string]int{}, map[string]int{}
	for i, u := range p.GetUpstreams() {
		place := item(at(path, "upstreams"), i)
		for _, violation := range u.Validate() {
			violation.Path = at(place, violation.Path)
			*v = append(*v, violation)
		}
		if u.GetDatacenter() != "" && u.GetDestinationPartition() == "" && foreign(partition) {
			v.add(at(place, "datacenter"), "upstreams to other datacenters are only possible in the default partition", "leave out datacenter, or partition of the proxy")
		}
		v.unique(place, "destination_name", "destination", u.destination(), destinations, i)
		v.unique(place, u.bindKey(), "bind", u.bind(), binds, i)
	}
}

// unique refuses the second upstream of a proxy with the same text.
func (v *Violations) unique(place, key, what, text string, seen map[string]int, index int) {
	if text == "" {
		return
	}
	first, twice := seen[text]
	if !twice {
		seen[text] = index
		return
	}
	v.add(at(place, key), fmt.Sprintf("upstreams[%d] already has the %s %s", first, what, text),
		fmt.Sprintf("give each upstream of a proxy its own %s", what))
}

// destination names what an upstream leads to, for people and to compare.
func (u *Upstream) destination() string {
	if u.GetDestinationName() == "" {
		return ""
	}
	out := Qualified(u.GetDestinationPartition(), u.GetDestinationNamespace(), u.GetDestinationName())
	if t := u.GetDestinationType(); t != "" && t != DestinationService {
		out = t + ":" + out
	}
	if u.GetDatacenter() != "" {
		out += "@" + strings.ToLower(u.GetDatacenter())
	}
	if u.GetDestinationPeer() != "" {
		out += " of peer " + u.GetDestinationPeer()
	}
	return out
}

func (u *Upstream) bindKey() string {
	if u.GetLocalBindSocketPath() != "" {
		return "local_bind_socket_path"
	}
	return "local_bind_port"
}

// bind is where the upstream listens, as it is compared; empty when nowhere.
func (u *Upstream) bind() string {
	switch {
	case u.GetLocalBindSocketPath() != "":
		return u.GetLocalBindSocketPath()
	case u.GetLocalBindPort() != 0:
		address := cmp.Or(u.GetLocalBindAddress(), "127.0.0.1")
		if ip := net.ParseIP(address); ip != nil {
			address = ip.String() // One address has several spellings.
		}
		return net.JoinHostPort(address, strconv.FormatUint(uint64(u.GetLocalBindPort()), 10))
	}
	return ""
}

// Validate returns every rule that the upstream breaks (Consul
// structs.Upstream.Validate). A service or datacenter that is not there is not
// a violation: the resolver states it.
func (u *Upstream) Validate() Violations {
	var v Violations
	v.oneOf("destination_type", "destination type", u.GetDestinationType(), DestinationService, DestinationPreparedQuery)
	switch {
	case u.GetDestinationName() == "":
		v.add("destination_name", "an upstream must have a destination_name", "give destination_name")
	default:
		v.exactName("destination_name", u.GetDestinationName())
	}
	v.optionalName("destination_namespace", u.GetDestinationNamespace())
	v.optionalName("destination_partition", u.GetDestinationPartition())
	v.optionalName("datacenter", u.GetDatacenter())
	if u.GetDestinationPeer() != "" && u.GetDatacenter() != "" {
		v.add("destination_peer", "an upstream leads to a peer or to a datacenter", "give destination_peer or datacenter, not both")
	}
	if p := u.GetDestinationPartition(); p != "" && !strings.EqualFold(p, DefaultName) && u.GetDatacenter() != "" {
		v.add("datacenter", "upstreams to other datacenters are only possible in the default partition", "leave out datacenter or destination_partition")
	}
	v.upstreamBind(u)
	v.meshGateway("", u.GetMeshGateway())
	return v
}

func (v *Violations) upstreamBind(u *Upstream) {
	v.port("local_bind_port", u.GetLocalBindPort())
	port, socket := u.GetLocalBindPort() != 0, u.GetLocalBindSocketPath() != ""
	switch {
	case !port && !socket:
		v.add("local_bind_port", "an upstream must have local_bind_port or local_bind_socket_path", "give one of them")
	case (port || u.GetLocalBindAddress() != "") && socket:
		v.add("local_bind_socket_path", "an upstream listens on a port or on a socket", "give local_bind_port or local_bind_socket_path, not both")
	}
	if a := u.GetLocalBindAddress(); a != "" && net.ParseIP(a) == nil {
		v.add("local_bind_address", fmt.Sprintf("%q is not an IP address", a), "give an IP address of this machine")
	}
	mode := u.GetLocalBindSocketMode()
	if mode == "" {
		return
	}
	if !socket {
		v.add("local_bind_socket_mode", "a socket mode needs local_bind_socket_path", "give local_bind_socket_path or leave the mode out")
	}
	if bits, err := strconv.ParseUint(mode, 8, 32); err != nil || bits > 0o777 || !slices.Contains([]int{3, 4}, len(mode)) {
		v.add("local_bind_socket_mode", fmt.Sprintf("%q is not an octal file mode", mode), `use four octal digits in quotes, like "0600"`)
	}
}

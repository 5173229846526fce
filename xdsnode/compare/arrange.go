package compare

import (
	"cmp"
	"net"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// listing says how the items of a list are told apart, and whether their order matters
// to Envoy.
type listing struct {
	key     func(*node) string
	ordered bool
}

func field(names ...string) func(*node) string {
	return func(n *node) string { return n.say(names...) }
}

func itself(n *node) string { return n.String() }

// listings are the lists whose items have a name; those of any other are told apart by
// their place.
var listings = map[protoreflect.FullName]listing{
	"envoy.config.listener.v3.Listener.listener_filters": {field("name"), true},
	// Of several chains Envoy takes the one that matches best, and of two equal ones it
	// refuses the listener.
	"envoy.config.listener.v3.Listener.filter_chains":                                                      {chain, false},
	"envoy.config.listener.v3.FilterChain.filters":                                                         {field("name"), true},
	"envoy.config.listener.v3.FilterChainMatch.server_names":                                               {itself, false},
	"envoy.config.listener.v3.Listener.access_log":                                                         {field("name"), true},
	"envoy.config.cluster.v3.CircuitBreakers.thresholds":                                                   {priority, false},
	"envoy.config.endpoint.v3.ClusterLoadAssignment.endpoints":                                             {locality, false},
	"envoy.config.endpoint.v3.LocalityLbEndpoints.lb_endpoints":                                            {endpoint, false},
	"envoy.config.route.v3.RouteConfiguration.virtual_hosts":                                               {field("name"), false},
	"envoy.config.route.v3.VirtualHost.domains":                                                            {itself, false},
	"envoy.config.route.v3.WeightedCluster.clusters":                                                       {field("name"), false},
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.http_filters":       {field("name"), true},
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.access_log":         {field("name"), true},
	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.access_log":                                    {field("name"), true},
	"envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.match_typed_subject_alt_names": {itself, false},
}

// arrange gives the items of a list keys.
func arrange(of protoreflect.FullName, n *node) {
	how, ok := listings[of]
	if !ok {
		return
	}
	n.ordered = how.ordered
	for i, item := range n.items {
		n.keys[i] = how.key(item)
	}
	n.keys = number(n.keys)
}

// chain is what a filter chain matches.
func chain(n *node) string {
	match := n.at("filter_chain_match")
	if match == nil || len(match.fields) == 0 {
		return "any"
	}
	if names := match.at("server_names"); names != nil && len(match.fields) == 1 {
		keys := slices.Sorted(slices.Values(names.keys))
		return strings.Join(keys, " ")
	}
	return match.String()
}

func priority(n *node) string { return cmp.Or(n.say("priority"), "DEFAULT") }

func locality(n *node) string {
	key := "priority " + cmp.Or(n.say("priority"), "0")
	if at := n.at("locality"); at != nil && len(at.fields) > 0 {
		key += " " + at.String()
	}
	return key
}

func endpoint(n *node) string {
	if at := n.at("endpoint", "address", "socket_address"); at != nil {
		return net.JoinHostPort(at.say("address"), cmp.Or(at.say("port_value"), "0"))
	}
	if path := n.say("endpoint", "address", "pipe", "path"); path != "" {
		return path
	}
	return n.String()
}

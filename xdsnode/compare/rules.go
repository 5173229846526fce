package compare

import (
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Rule says of fields that what it makes equal is the same to traffic.
type Rule struct {
	Name string
	// Why it carries no meaning.
	Why string
	// Fields that it rewrites, by their full names, and Within those of which it rewrites
	// all that is in them. Whatever is in another field is compared.
	Fields, Within []string
}

// Rules are all of them, beside the order of lists that Envoy does not look at.
func Rules() []Rule { return rules }

const (
	endpointOfSet = "envoy.config.endpoint.v3.LbEndpoint"
	common        = "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext"
	validation    = "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext"
	secretConfig  = "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig"
	tlsPair       = "envoy.extensions.transport_sockets.tls.v3.TlsCertificate"
	manager       = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	cluster       = "envoy.config.cluster.v3.Cluster"
	assignment    = "envoy.config.endpoint.v3.ClusterLoadAssignment"
)

var rules = []Rule{{
	Name:   "names of clusters",
	Why:    "Consul puts eight digits before the name of a cluster for a mode or another setting of the source; nothing on the wire has them.",
	Fields: fullNames(clusterNames),
}, {
	Name:   "endpoints that are sent by themselves",
	Why:    "which assignment a cluster has is the name of a resource; it is compared as that of its cluster.",
	Fields: []string{"envoy.config.cluster.v3.Cluster.EdsClusterConfig.service_name", assignment + ".cluster_name"},
}, {
	Name:   "routes that are sent by themselves",
	Why:    "whether routes stand in the listener or come by themselves changes nothing for a request.",
	Within: []string{manager + ".rds"},
}, {
	Name: "secrets",
	Why: "Consul writes certificates and keys into its resources, ours name what the Envoy gets from its own machine; " +
		"that there are some is compared.",
	Within: []string{
		tlsPair + ".certificate_chain", tlsPair + ".private_key", tlsPair + ".pkcs12", tlsPair + ".password",
		validation + ".trusted_ca", secretConfig + ".sds_config",
	},
}, {
	Name:   "localities without endpoints",
	Why:    "Consul writes an empty one where there are no endpoints; without one there are none either.",
	Fields: []string{assignment + ".endpoints"},
}, {
	Name:   "defaults that are written out",
	Why:    "Envoy takes a field that is not there for the same value.",
	Fields: []string{endpointOfSet + ".load_balancing_weight"},
}}

// apply applies the rules to a message.
func (s *side) apply(n *node) *node {
	switch n.of {
	case cluster:
		s.joinAssignment(n)
	case manager:
		s.joinRoutes(n)
	case common, tlsPair, validation:
		n.hideSecrets()
	case assignment:
		n.dropEmpty()
	case endpointOfSet:
		if n.say("load_balancing_weight") == "1" {
			delete(n.fields, "load_balancing_weight")
		}
	}
	return n
}

// dropEmpty takes localities out of an assignment that say nothing, and the list if none
// is left.
func (n *node) dropEmpty() {
	const name = "endpoints"
	l := n.at(name)
	if l == nil {
		return
	}
	l.items = slices.DeleteFunc(l.items, func(item *node) bool { return len(item.fields) == 0 })
	l.keys = make([]string, len(l.items))
	arrange(assignment+"."+name, l)
	if len(l.items) == 0 {
		delete(n.fields, name)
	}
}

func fullNames(set map[protoreflect.FullName]bool) []string {
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

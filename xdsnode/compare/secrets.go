package compare

import isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"

// Words that stand for secrets.
const (
	hidden = "(not shown)"
	// ownIdentity is a certificate of the proxy's service with its key.
	ownIdentity = "(a certificate and its key)"
)

// hideSecrets leaves of certificates and keys that they are there, and of the ways to
// say where they come from one.
func (n *node) hideSecrets() {
	switch n.of {
	case tlsPair:
		for _, name := range []string{"certificate_chain", "private_key", "pkcs12", "password"} {
			n.hide(name)
		}
	case validation:
		n.hide("trusted_ca")
	case common:
		n.hideIdentity()
		n.hideRoots()
	}
}

func (n *node) hide(name string) {
	if n.fields[name] != nil {
		n.fields[name] = text(hidden)
	}
}

// hideIdentity makes one of a certificate that stands there and of our secret leaf.
func (n *node) hideIdentity() {
	const inline, named = "tls_certificates", "tls_certificate_sds_secret_configs"
	if l := n.at(inline); l != nil && len(l.items) == 1 {
		if pair := l.items[0]; len(pair.fields) == 2 && pair.at("certificate_chain") != nil && pair.at("private_key") != nil {
			n.fields[inline] = text(ownIdentity)
		}
	}
	if l := n.at(named); l != nil && len(l.items) == 1 && n.at(inline) == nil && l.items[0].isOurs(isthmusv1.SecretLeaf) {
		delete(n.fields, named)
		n.fields[inline] = text(ownIdentity)
	}
}

// hideRoots makes one of authorities that stand there and of our secret roots.
func (n *node) hideRoots() {
	const inline, named, combined = "validation_context", "validation_context_sds_secret_config", "combined_validation_context"
	if secret := n.at(named); secret != nil && n.at(inline) == nil && secret.isOurs(isthmusv1.SecretRoots) {
		delete(n.fields, named)
		n.fields[inline] = &node{kind: object, of: validation, fields: map[string]*node{"trusted_ca": text(hidden)}}
	}
	both := n.at(combined)
	if both == nil || n.at(inline) != nil || len(both.fields) != 2 {
		return
	}
	context, secret := both.at("default_validation_context"), both.at(named)
	if context == nil || context.at("trusted_ca") != nil || secret == nil || !secret.isOurs(isthmusv1.SecretRoots) {
		return
	}
	context.fields["trusted_ca"] = text(hidden)
	delete(n.fields, combined)
	n.fields[inline] = context
}

// isOurs reports whether a secret is the one that an Envoy gets beside it.
func (n *node) isOurs(name string) bool {
	services := n.at("sds_config", "api_config_source", "grpc_services")
	if n.say("name") != name || services == nil || len(services.items) != 1 || len(n.fields) != 2 {
		return false
	}
	return services.items[0].say("envoy_grpc", "cluster_name") == isthmusv1.ClusterSDS
}

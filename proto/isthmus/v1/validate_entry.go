package isthmusv1

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Kinds of config entries that Isthmus serves.
const (
	EntryProxyDefaults     = "proxy-defaults"
	EntryServiceDefaults   = "service-defaults"
	EntryServiceResolver   = "service-resolver"
	EntryServiceSplitter   = "service-splitter"
	EntryServiceRouter     = "service-router"
	EntryServiceIntentions = "service-intentions"
	EntryMesh              = "mesh"
	EntryExportedServices  = "exported-services"
)

// The only names of entries that stand for a whole datacenter.
const (
	ProxyDefaultsName = "global"
	MeshName          = "mesh"
)

// exactBalance is the only way of balancing connections besides none.
const exactBalance = "exact_balance"

// Validate returns every rule that the entry breaks: what Consul refuses when
// it is written, and an unknown mode, which Consul takes from its API. What
// needs other entries to be judged (protocols in a chain, subsets of another
// service) is not a rule on a value.
func (e *ConfigEntry) Validate() Violations {
	var v Violations
	v.meta("meta", e.GetMeta())
	v.optionalName("namespace", e.GetNamespace())
	v.optionalName("partition", e.GetPartition())
	switch entry := e.GetEntry().(type) {
	case *ConfigEntry_ProxyDefaults:
		v.fixedName(e, ProxyDefaultsName)
		v.proxyDefaults(entry.ProxyDefaults)
	case *ConfigEntry_ServiceDefaults:
		v.exactName("name", e.GetName())
		v.serviceDefaults(entry.ServiceDefaults)
	case *ConfigEntry_ServiceResolver:
		v.exactName("name", e.GetName())
		v.resolver(e, entry.ServiceResolver)
	case *ConfigEntry_ServiceSplitter:
		v.exactName("name", e.GetName())
		v.splitter(e, entry.ServiceSplitter)
	case *ConfigEntry_ServiceRouter:
		v.exactName("name", e.GetName())
		v.router(entry.ServiceRouter)
	case *ConfigEntry_ServiceIntentions:
		v.intentions(e, entry.ServiceIntentions)
	case *ConfigEntry_Mesh:
		v.fixedName(e, MeshName)
		v.meshTLS("tls.incoming", entry.Mesh.GetTlsIncoming())
		v.meshTLS("tls.outgoing", entry.Mesh.GetTlsOutgoing())
		v.requestNormalization("http.incoming.request_normalization", entry.Mesh.GetRequestNormalization())
	case *ConfigEntry_ExportedServices:
		v.name("name", e.GetName())
		v.exportedServices(entry.ExportedServices)
	default:
		v.name("name", e.GetName())
	}
	return v
}

func (v *Violations) fixedName(e *ConfigEntry, name string) {
	if e.GetName() != name {
		v.add("name", fmt.Sprintf("a %s entry is named %q, not %q", e.GetKind(), name, e.GetName()),
			fmt.Sprintf("write name = %q or leave it out", name))
	}
}

func (v *Violations) proxyDefaults(d *ProxyDefaults) {
	v.meshGateway("", d.GetMeshGateway())
	v.opaqueMode("config", d.GetConfigJson())
	v.oneOf("mode", "proxy mode", d.GetMode(), "direct", "transparent")
	v.oneOf("mutual_tls_mode", "mutual TLS mode", d.GetMutualTlsMode(), "strict", "permissive")
	v.port("transparent_proxy.outbound_listener_port", d.GetTransparentProxy().GetOutboundListenerPort())
	v.expose("", d.GetExpose())
	v.accessLogs("", d.GetAccessLogs())
	v.failoverPolicy("failover_policy", d.GetFailoverPolicy())
	v.oneOf("prioritize_by_locality.mode", "locality mode", d.GetPrioritizeByLocality(), "none", "failover")
}

// opaqueMode checks the mode that proxy-defaults may also set by the key
// mesh_gateway of their opaque config, as text or as an object.
func (v *Violations) opaqueMode(path string, configJSON []byte) {
	var config struct {
		MeshGateway any `json:"mesh_gateway"`
	}
	if len(configJSON) == 0 || json.Unmarshal(configJSON, &config) != nil {
		return
	}
	path = at(path, "mesh_gateway")
	mode := config.MeshGateway
	if list, ok := mode.([]any); ok && len(list) == 1 {
		mode, path = list[0], path+"[0]"
	}
	if object, ok := mode.(map[string]any); ok {
		key := "mode"
		if object[key] == nil {
			key = "Mode"
		}
		mode, path = object[key], at(path, key)
	}
	if text, ok := mode.(string); ok {
		v.oneOf(path, "Mesh Gateway Mode", text, string(ModeNone), string(ModeLocal), string(ModeRemote))
	}
}

func (v *Violations) failoverPolicy(path string, p *FailoverPolicy) {
	v.oneOf(at(path, "mode"), "failover mode", p.GetMode(), "sequential", "order-by-locality")
}

func (v *Violations) serviceDefaults(d *ServiceDefaults) {
	v.meshGateway("", d.GetMeshGateway())
	v.oneOf("mode", "proxy mode", d.GetMode(), "direct", "transparent")
	v.oneOf("mutual_tls_mode", "mutual TLS mode", d.GetMutualTlsMode(), "strict", "permissive")
	v.port("transparent_proxy.outbound_listener_port", d.GetTransparentProxy().GetOutboundListenerPort())
	v.expose("", d.GetExpose())
	v.oneOf("balance_inbound_connections", "balancing", d.GetBalanceInboundConnections(), exactBalance)
	if len(d.GetDestinationJson()) > 0 && (len(d.GetUpstreamOverrides()) > 0 || d.GetUpstreamDefaults() != nil) {
		v.add("destination", "a service outside the mesh has no upstreams", "give destination or upstream_config, not both")
	}
	seen := map[string]int{}
	for i, o := range d.GetUpstreamOverrides() {
		place := item("upstream_config.overrides", i)
		v.exactName(at(place, "name"), o.GetName())
		if o.GetNamespace() == Wildcard {
			v.add(at(place, "namespace"), "a wildcard is not a namespace here", "name one namespace")
		}
		v.upstreamConfig(place, o)
		key := Qualified(o.GetPartition(), o.GetNamespace(), o.GetName()) + "\x00" + o.GetPeer()
		if first, twice := seen[key]; twice && o.GetName() != "" {
			v.add(at(place, "name"), fmt.Sprintf("overrides[%d] is already for %s", first, o.GetName()), "keep one override per service")
		} else {
			seen[key] = i
		}
	}
	if u := d.GetUpstreamDefaults(); u != nil {
		place := "upstream_config.defaults"
		if u.GetName()+u.GetNamespace()+u.GetPartition()+u.GetPeer() != "" {
			v.add(at(place, "name"), "the defaults are for all upstreams and have no name", "leave out name, namespace, partition and peer, or use overrides")
		}
		v.upstreamConfig(place, u)
	}
}

func (v *Violations) upstreamConfig(path string, u *UpstreamConfig) {
	v.meshGateway(path, u.GetMeshGateway())
	v.oneOf(at(path, "balance_outbound_connections"), "balancing", u.GetBalanceOutboundConnections(), exactBalance)
	check := u.GetPassiveHealthCheck()
	if check == nil {
		return
	}
	path = at(path, "passive_health_check")
	v.percent(at(path, "enforcing_consecutive_5xx"), check.EnforcingConsecutive_5Xx)
	v.percent(at(path, "max_ejection_percent"), check.MaxEjectionPercent)
	v.notNegative(at(path, "interval"), check.GetInterval())
	v.notNegative(at(path, "base_ejection_time"), check.GetBaseEjectionTime())
}

// tlsVersions in their order; TLS_AUTO leaves it to the proxy.
var tlsVersions = []string{"TLS_AUTO", "TLSv1_0", "TLSv1_1", "TLSv1_2", "TLSv1_3"}

// cipherSuites are those that Consul lets a mesh entry choose among for Envoy.
var cipherSuites = []string{
	"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
	"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
	"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
	"TLS_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_CBC_SHA",
	"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
	"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
	"TLS_RSA_WITH_AES_256_GCM_SHA384", "TLS_RSA_WITH_AES_256_CBC_SHA",
}

func (v *Violations) meshTLS(path string, t *MeshTLS) {
	v.oneOf(at(path, "tls_min_version"), "TLS version", t.GetTlsMinVersion(), tlsVersions...)
	v.oneOf(at(path, "tls_max_version"), "TLS version", t.GetTlsMaxVersion(), tlsVersions...)
	low, high := slices.Index(tlsVersions, t.GetTlsMinVersion()), slices.Index(tlsVersions, t.GetTlsMaxVersion())
	if low > 0 && high > 0 && high < low {
		v.add(at(path, "tls_max_version"), fmt.Sprintf("%s is below the lowest version %s", t.GetTlsMaxVersion(), t.GetTlsMinVersion()), "raise tls_max_version")
	}
	if len(t.GetCipherSuites()) > 0 && t.GetTlsMinVersion() == "TLSv1_3" {
		v.add(at(path, "cipher_suites"), "cipher suites can only be chosen below TLS 1.3", "lower tls_min_version or leave out cipher_suites")
	}
	for i, suite := range t.GetCipherSuites() {
		v.oneOf(item(at(path, "cipher_suites"), i), "cipher suite", suite, cipherSuites...)
	}
}

func (v *Violations) requestNormalization(path string, n *RequestNormalization) {
	v.oneOf(at(path, "path_with_escaped_slashes_action"), "action", n.GetPathWithEscapedSlashesAction(),
		"IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD")
	v.oneOf(at(path, "headers_with_underscores_action"), "action", n.GetHeadersWithUnderscoresAction(),
		"ALLOW", "REJECT_REQUEST", "DROP_HEADER")
}

func (v *Violations) exportedServices(e *ExportedServices) {
	for i, s := range e.GetServices() {
		place := item("services", i)
		v.name(at(place, "name"), s.GetName())
		if s.GetNamespace() == Wildcard && s.GetName() != Wildcard {
			v.add(at(place, "name"), "in every namespace only every service can be exported", `write name = "*" or one namespace`)
		}
		if len(s.GetConsumers()) == 0 {
			v.add(at(place, "consumers"), "an exported service needs a consumer", "give consumers")
		}
		for j, c := range s.GetConsumers() {
			v.consumer(item(at(place, "consumers"), j), c)
		}
	}
}

func (v *Violations) consumer(path string, c *ServiceConsumer) {
	given := 0
	for _, name := range []string{c.GetPartition(), c.GetPeer(), c.GetSamenessGroup()} {
		if name != "" {
			given++
		}
		if strings.Contains(name, Wildcard) {
			v.add(path, "a service cannot be exported to a wildcard", "name one consumer")
		}
	}
	if given != 1 {
		v.add(path, "a consumer is one partition, peer or sameness group", "give exactly one of partition, peer and sameness_group")
	}
}

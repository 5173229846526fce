package resolver

import (
	"cmp"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Kinds of instances beside those of [isthmusv1] that are known and not
// supported.
const (
	kindTerminatingGateway = "terminating-gateway"
	kindIngressGateway     = "ingress-gateway"
	kindAPIGateway         = "api-gateway"
)

// isRouted reports whether an instance of the kind has an output of its own:
// what it serves, or that it is not supported.
func isRouted(kind string) bool {
	switch kind {
	case isthmusv1.InstanceKindProxy, isthmusv1.InstanceKindMeshGateway,
		kindTerminatingGateway, kindIngressGateway, kindAPIGateway:
		return true
	}
	return false
}

// proxyJob makes what one proxy or gateway serves: binds and references only.
type proxyJob struct{ key isthmusv1.Key }

func (j *proxyJob) forget(m *Machine) { delete(m.proxies, j.key) }

func (j *proxyJob) make(v *view) {
	found := v.value(v.machine.datacenter, j.key)
	if found == nil || found.instance() == nil || !isRouted(found.instance().GetKind()) {
		v.retire()
		return
	}
	m := found.instance()
	p := &isthmusv1.ProxyRoutes{Node: m.GetNode(), Id: m.GetId(), Name: m.GetName(), Kind: m.GetKind()}
	for _, text := range m.GetUnsupported() {
		p.Problems = addProblem(p.Problems, unsupported("%s", text))
	}
	switch m.GetKind() {
	case isthmusv1.InstanceKindProxy:
		v.sidecar(p, found)
	case isthmusv1.InstanceKindMeshGateway:
		p.Service = newRef(m.GetPartition(), m.GetNamespace(), m.GetName())
		v.common(p, found)
		v.meshGateway(p, m)
	default:
		p.Service = newRef(m.GetPartition(), m.GetNamespace(), m.GetName())
		p.Problems = addProblem(p.Problems, unsupported("a service of kind %s is not supported", m.GetKind()))
	}
	v.emit(isthmusv1.ProxyKey(m.GetPartition(), m.GetNode(), m.GetNamespace(), m.GetId()), p)
}

func (v *view) sidecar(p *isthmusv1.ProxyRoutes, found *value) {
	m := found.instance()
	p.Service = destinationOf(m)
	if p.GetService() == nil {
		p.Problems = addProblem(p.Problems, problemError(CodeNoDestination, "set proxy.destination_service_name",
			"the proxy has no destination_service_name"))
		return
	}
	v.common(p, found)
	p.LocalServiceAddress = m.GetProxy().GetLocalServiceAddress()
	p.LocalServicePort = m.GetProxy().GetLocalServicePort()
	p.LocalServiceSocketPath = m.GetProxy().GetLocalServiceSocketPath()
	v.local(p, m)
	v.requests(p, m)
	v.stateModes(p, m)
	s, routes := newSource(m, v.machine.datacenter)
	if len(routes) == 0 {
		return
	}
	v.useRouteSet(s)
	p.RoutesetHash = s.hash
	for i, up := range m.GetProxy().GetUpstreams() {
		p.Binds = append(p.Binds, &isthmusv1.Bind{
			Route:      routes[i],
			Address:    cmp.Or(up.GetLocalBindAddress(), bindAddress(up)),
			Port:       up.GetLocalBindPort(),
			SocketPath: up.GetLocalBindSocketPath(),
			SocketMode: up.GetLocalBindSocketMode(),
		})
	}
}

// bindAddress is where an upstream without an address of its own listens.
func bindAddress(up *isthmusv1.Upstream) string {
	if up.GetLocalBindSocketPath() != "" {
		return ""
	}
	return "127.0.0.1"
}

// common sets what sidecars and mesh gateways have alike.
func (v *view) common(p *isthmusv1.ProxyRoutes, found *value) {
	m := found.instance()
	config := parseOpaque(m.GetProxy().GetConfigJson())
	p.Address, p.Port = isthmusv1.LANAddress(found.node.message, m)
	p.Address = cmp.Or(config.text("bind_address"), p.GetAddress())
	if port, ok := config.number("bind_port"); ok && port > 0 {
		p.Port = port
	}
	if p.GetAddress() == "" {
		p.Problems = addProblem(p.Problems, problemError(CodeNoAddress, "register the node, or give the instance an address",
			"the proxy has no address: it has none of its own, and node %s is not in the catalog", m.GetNode()))
	}
	p.ConfigJson = m.GetProxy().GetConfigJson()
	p.SpiffeId = isthmusv1.SPIFFEID(p.GetService(), v.machine.datacenter, v.trustDomain())
	p.TaggedAddresses = m.GetTaggedAddresses()

	sd := v.serviceDefaults(p.GetService())
	pd, _ := v.proxyDefaults(m.GetPartition())
	p.Expose = firstExpose(m.GetProxy().GetExpose(), sd.GetExpose(), pd.GetExpose())
	p.AccessLogs = m.GetProxy().GetAccessLogs()
	if p.GetAccessLogs() == nil {
		p.AccessLogs = pd.GetAccessLogs()
	}
	p.EnvoyExtensionsJson = m.GetProxy().GetEnvoyExtensionsJson()
	if !m.GetMergedCentralConfig() {
		p.EnvoyExtensionsJson = joinArrays(pd.GetEnvoyExtensionsJson(), sd.GetEnvoyExtensionsJson(), p.GetEnvoyExtensionsJson())
	}
	p.ProxyDefaultsConfigJson = pd.GetConfigJson()
	mesh := v.mesh(m.GetPartition())
	p.TlsIncoming, p.TlsOutgoing = mesh.GetTlsIncoming(), mesh.GetTlsOutgoing()
}

func firstExpose(exposes ...*isthmusv1.Expose) *isthmusv1.Expose {
	for _, e := range exposes {
		if e.GetChecks() || len(e.GetPaths()) > 0 {
			return e
		}
	}
	return nil
}

// local sets how the proxy treats its application: its own config first, then
// the service's defaults.
func (v *view) local(p *isthmusv1.ProxyRoutes, m *isthmusv1.ServiceInstance) {
	config := parseOpaque(m.GetProxy().GetConfigJson())
	sd := v.serviceDefaults(p.GetService())
	number := func(key string, otherwise uint32) uint32 {
		if n, ok := config.number(key); ok {
			return n
		}
		return otherwise
	}
	p.Local = &isthmusv1.Local{
		Protocol:                  strings.ToLower(cmp.Or(config.text("protocol"), v.protocol(p.GetService()))),
		MaxInboundConnections:     number("max_inbound_connections", sd.GetMaxInboundConnections()),
		ConnectTimeoutMs:          number("local_connect_timeout_ms", sd.GetLocalConnectTimeoutMs()),
		RequestTimeoutMs:          number("local_request_timeout_ms", sd.GetLocalRequestTimeoutMs()),
		BalanceInboundConnections: cmp.Or(config.text("balance_inbound_connections"), sd.GetBalanceInboundConnections()),
	}
}

// requests sets how the proxy treats requests, as the mesh entry says.
func (v *view) requests(p *isthmusv1.ProxyRoutes, m *isthmusv1.ServiceInstance) {
	mesh := v.mesh(m.GetPartition())
	p.RequestNormalization = mesh.GetRequestNormalization()
	p.SanitizeXForwardedClientCert = mesh.GetSanitizeXForwardedClientCert()
	p.ValidateClusters = mesh.GetValidateClusters()
}

// stateModes states the modes of a proxy that are not supported. The proxy
// serves its explicit upstreams all the same. The words are those of the files'
// reader, so that what it has stated already is not stated again.
func (v *view) stateModes(p *isthmusv1.ProxyRoutes, m *isthmusv1.ServiceInstance) {
	sd := v.serviceDefaults(p.GetService())
	pd, _ := v.proxyDefaults(m.GetPartition())
	if mode := cmp.Or(m.GetProxy().GetMode(), sd.GetMode(), pd.GetMode()); mode == "transparent" {
		p.Problems = addProblem(p.Problems, unsupported("transparent proxy mode is not supported"))
	}
	if mode := cmp.Or(m.GetProxy().GetMutualTlsMode(), sd.GetMutualTlsMode(), pd.GetMutualTlsMode()); mode == "permissive" {
		p.Problems = addProblem(p.Problems, unsupported("permissive mutual TLS mode is not supported; mutual TLS is required"))
	}
}

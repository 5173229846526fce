package resolver

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Keys of a mesh gateway's opaque config (Consul agent/xds/config/config.go).
const (
	keyBindTagged     = "envoy_gateway_bind_tagged_addresses"
	keyBindAddresses  = "envoy_gateway_bind_addresses"
	keyNoDefaultBind  = "envoy_gateway_no_default_bind"
	keyConnectTimeout = "connect_timeout_ms"
	keyDNSDiscovery   = "envoy_dns_discovery_type"
	keyKeepalive      = "envoy_gateway_remote_tcp_enable_keepalive"
	keyKeepaliveTime  = "envoy_gateway_remote_tcp_keepalive_time"
	keyKeepaliveEvery = "envoy_gateway_remote_tcp_keepalive_interval"
	keyKeepaliveCount = "envoy_gateway_remote_tcp_keepalive_probes"
)

// formerKeys are what three keys were called before; the new name wins.
var formerKeys = map[string]string{
	keyBindTagged:    "envoy_mesh_gateway_bind_tagged_addresses",
	keyBindAddresses: "envoy_mesh_gateway_bind_addresses",
	keyNoDefaultBind: "envoy_mesh_gateway_no_default_bind",
}

// defaultBind is the name of the listener at the service's own address, and
// everywhere its address where the registration has none.
const (
	defaultBind = "default"
	everywhere  = "0.0.0.0"
)

// meshGateway sets what a gateway's registration says of how it runs, with
// proxy-defaults and the service-defaults of its own name.
func (v *view) meshGateway(p *isthmusv1.ProxyRoutes, m *isthmusv1.ServiceInstance) {
	_, defaults := v.proxyDefaults(m.GetPartition())
	r := &gatewayReader{config: merged(parseOpaque(m.GetProxy().GetConfigJson()), defaults)}
	p.Gateway = &isthmusv1.GatewaySettings{
		Binds:            r.binds(m),
		RemoteKeepalive:  r.keepalive(),
		Limits:           v.serviceDefaults(p.GetService()).GetUpstreamDefaults().GetLimits(),
		DnsDiscoveryType: r.dnsDiscovery(),
	}
	// Below one is not set, says Consul.
	if ms, _ := r.count(keyConnectTimeout); ms > 0 {
		p.Gateway.ConnectTimeout = durationpb.New(time.Duration(ms) * time.Millisecond)
	}
	if len(p.GetGateway().GetBinds()) == 0 {
		r.problems = append(r.problems, problemError(CodeNoBind, "give "+keyBindAddresses+", or take "+keyNoDefaultBind+" away",
			"the registration leaves the gateway nowhere to listen"))
	}
	for _, problem := range r.problems {
		p.Problems = addProblem(p.Problems, problem)
	}
}

// gatewayReader reads a gateway's config. Consul reads it weakly typed, a key in
// any case; what is invalid is stated, and is as if it were not there.
type gatewayReader struct {
	config   opaque
	problems []*isthmusv1.Problem
}

// value of a key, by its present name or its former one.
func (r *gatewayReader) value(key string) any {
	if value, ok := r.config.anyCase(key); ok {
		return value
	}
	value, _ := r.config.anyCase(formerKeys[key])
	return value
}

func (r *gatewayReader) invalid(key, wanted string, value any) {
	r.problems = append(r.problems, problemWarning(CodeInvalidSetting, "give "+wanted+", or take it away",
		"%s is %s, not %s; it is as if it were not set", key, shownValue(value), wanted))
}

// flag of a key: false when it is not set.
func (r *gatewayReader) flag(key string) bool {
	value := r.value(key)
	on, ok := weakBool(value)
	if !ok {
		r.invalid(key, "true or false", value)
	}
	return on
}

// count of a key: 0 when it is not set.
func (r *gatewayReader) count(key string) (uint32, bool) {
	value := r.value(key)
	n, ok := weakNumber(value)
	if !ok {
		r.invalid(key, "a number", value)
	}
	return n, ok
}

func (r *gatewayReader) keepalive() *isthmusv1.TCPKeepalive {
	if !r.flag(keyKeepalive) {
		return nil
	}
	k := new(isthmusv1.TCPKeepalive)
	k.TimeSeconds, _ = r.count(keyKeepaliveTime)
	k.IntervalSeconds, _ = r.count(keyKeepaliveEvery)
	k.Probes, _ = r.count(keyKeepaliveCount)
	return k
}

func (r *gatewayReader) dnsDiscovery() string {
	switch value := r.value(keyDNSDiscovery); value {
	case nil, "":
		return ""
	default:
		text, _ := value.(string)
		if text = lower(text); text == "strict_dns" || text == "logical_dns" {
			return text
		}
		r.invalid(keyDNSDiscovery, "strict_dns or logical_dns", value)
		return ""
	}
}

// binds are the listeners, sorted by name. Of several with one address and port
// the first by name stays (Consul agent/xds/listeners.go,
// makeGatewayListeners).
func (r *gatewayReader) binds(m *isthmusv1.ServiceInstance) []*isthmusv1.GatewayBind {
	var all []*isthmusv1.GatewayBind
	add := func(what, name, address string, port uint32) {
		if _, err := netip.ParseAddr(address); err != nil || port < 1 || port > 65535 {
			r.problems = append(r.problems, problemError(CodeInvalidSetting, "give it an IP address and a port",
				"%s is %q, port %d: there is no listening at that", what, address, port))
			return
		}
		all = append(all, &isthmusv1.GatewayBind{Name: name, Address: address, Port: port})
	}
	if !r.flag(keyNoDefaultBind) {
		add("the address of the service", defaultBind, cmp.Or(m.GetAddress(), everywhere), m.GetPort())
	}
	if r.flag(keyBindTagged) {
		for _, t := range m.GetTaggedAddresses() {
			add("the tagged address "+t.GetTag(), t.GetTag(), t.GetAddress(), t.GetPort())
		}
	}
	value := r.value(keyBindAddresses)
	addresses := asObject(value)
	if addresses == nil && value != nil {
		r.invalid(keyBindAddresses, "an object of names, each with an address and a port", value)
	}
	for _, name := range sortedKeys(addresses) {
		given := asObject(addresses[name])
		address, _ := given.anyCase("address")
		text, _ := address.(string)
		port, _ := given.anyCase("port")
		number, _ := weakNumber(port)
		add(keyBindAddresses+"."+name, name, text, number)
	}
	slices.SortStableFunc(all, func(a, b *isthmusv1.GatewayBind) int {
		return cmp.Or(cmp.Compare(a.GetName(), b.GetName()), cmp.Compare(a.GetAddress(), b.GetAddress()), cmp.Compare(a.GetPort(), b.GetPort()))
	})
	var out []*isthmusv1.GatewayBind
	for _, b := range all {
		if !slices.ContainsFunc(out, func(o *isthmusv1.GatewayBind) bool {
			return o.GetAddress() == b.GetAddress() && o.GetPort() == b.GetPort()
		}) {
			out = append(out, b)
		}
	}
	return out
}

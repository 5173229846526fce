package oracle_test

import (
	"fmt"
	"testing"

	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// bound is a mesh gateway of dc1 that this machine can bind.
func (c *conformance) bound(id string, port int, config object) instance {
	fields := object{"envoy_gateway_no_default_bind": true, "envoy_gateway_bind_addresses": object{
		"here": object{"address": c.host.String(), "port": port}, "there": object{"address": c.host.String(), "port": port + 1},
	}}
	for key, value := range config {
		fields[key] = value
	}
	return gateway(c.dc1, "", id, "gateway", "10.1.0.1", "203.0.113.1").with(object{"Proxy": object{"Config": fields}})
}

// meshGateways compares gateways of dc1: without any in dc2, with some, with one that
// has a host name, and with settings.
func (c *conformance) meshGateways(t *testing.T) {
	// Consul's gateways know a name by its service, and by a sidecar alone only if that
	// came after the gateway.
	instance{agent: c.dc1, node: "dc1-node", id: "ma-api", fields: object{"Name": "ma-api", "Address": "10.9.1.1", "Port": 8080}}.register(t)
	sidecar(c.dc1, "dc1-node", "ma-api", "10.9.1.1", "", 21000).register(t)
	sidecar(c.dc1, "dc1-node", "ma-api", "10.9.1.2", "", 21000).check("critical").register(t)
	c.entry(t, "service-resolver", "ma-api", object{
		"ConnectTimeout": "3s", "Subsets": object{"v1": object{"Filter": "Service.Meta.version == v1"}},
	})
	plainly := c.bound("gateway", 20000, nil)
	plainly.register(t)
	t.Run("no gateways there", func(t *testing.T) {
		c.agree(t, conforming{proxy: plainly, listeners: 2, meets: []string{compare.DeadEndpoints, compare.FarWithout}})
	})
	far := gateway(c.dc2, "dc2-edge", "edge", "edge", "10.2.0.2", "198.51.100.2").with(object{"Weights": object{"Passing": 5, "Warning": 2}})
	far.register(t)
	gateway(c.dc2, "dc2-node", "gateway", "gateway", "10.2.0.1", "198.51.100.1").check("critical").register(t)
	t.Run("two gateways there", func(t *testing.T) {
		c.agree(t, conforming{proxy: plainly, listeners: 2, meets: []string{compare.DeadEndpoints}})
	})
	c.entry(t, "service-defaults", "gateway", object{"UpstreamConfig": object{"Defaults": object{
		"Limits": object{"MaxConnections": 7, "MaxPendingRequests": 8, "MaxConcurrentRequests": 9},
	}}})
	set := c.bound("gateway-set", 20010, object{
		"connect_timeout_ms": 1500, "envoy_gateway_remote_tcp_enable_keepalive": true,
		"envoy_gateway_remote_tcp_keepalive_time": 11, "envoy_gateway_remote_tcp_keepalive_interval": 12, "envoy_gateway_remote_tcp_keepalive_probes": 13,
	})
	set.register(t)
	t.Run("settings", func(t *testing.T) {
		c.agree(t, conforming{proxy: set, listeners: 2, meets: []string{compare.DeadEndpoints}})
	})
	gateway(c.dc2, "dc2-edge", "edge", "edge", "10.2.0.2", "localhost").register(t)
	for i, discovery := range []string{"", "logical_dns", "strict_dns"} {
		t.Run("a host name there, "+discovery, func(t *testing.T) {
			named := c.bound("gateway-named-"+fmt.Sprint(i), 20020+10*i, object{"envoy_dns_discovery_type": discovery})
			named.register(t)
			c.agree(t, conforming{proxy: named, listeners: 2, meets: []string{compare.DeadEndpoints, compare.HostnameGateway}})
		})
	}
	gateway(c.dc2, "dc2-node", "gateway", "gateway", "10.2.0.1", "198.51.100.1").deregister(t)
}

// gatewaysFail compares sidecars whose targets are behind gateways of dc2, as these fail,
// go, and come back with a host name.
func (c *conformance) gatewaysFail(t *testing.T) {
	all := c.theGateways()
	far, edge := all[2], all[3]
	remote, local := toDatacenter("ga-api", "dc2"), with(toDatacenter("ga-api", "dc2"), "MeshGateway", mode("local"))
	there := one("ga-api", "51")
	edge.check("critical").register(t)
	c.playAll(t, "fail-a", 26000, []carried{{
		name: "one gateway is critical", mode: "remote", upstreams: []object{remote}, there: there, conforming: conforming{meets: []string{compare.GatewayHealth}},
	}})
	far.deregister(t)
	c.playAll(t, "fail-b", 26100, []carried{{
		name: "all gateways are critical", mode: "remote", upstreams: []object{remote}, there: there, conforming: conforming{meets: []string{compare.GatewayHealth}},
	}})
	edge.deregister(t)
	c.playAll(t, "fail-c", 26200, []carried{{
		name: "no gateway, and none is needed here", mode: "remote", upstreams: []object{remote}, there: there,
	}, {
		name: "no gateway there, and some here", upstreams: []object{local}, there: there, conforming: conforming{meets: []string{compare.NoGateway}},
	}})
	gateway(c.dc2, "dc2-edge", "edge", "edge", "10.2.0.2", "localhost").register(t)
	c.playAll(t, "fail-d", 26300, []carried{{
		name: "a host name", mode: "remote", upstreams: []object{remote}, there: there,
		conforming: conforming{meets: []string{compare.HostnameGateway}, unloadable: true},
	}})
}

package resolver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// gatewayText shows how a gateway is told to run, a line each.
func gatewayText(b *strings.Builder, g *isthmusv1.GatewaySettings) {
	for _, bind := range g.GetBinds() {
		fmt.Fprintf(b, "  binds %s %s:%d\n", bind.GetName(), bind.GetAddress(), bind.GetPort())
	}
	if g.GetConnectTimeout() != nil {
		fmt.Fprintf(b, "  connects within %v\n", g.GetConnectTimeout().AsDuration())
	}
	if k := g.GetRemoteKeepalive(); k != nil {
		fmt.Fprintf(b, "  keepalive %d/%d/%d\n", k.GetTimeSeconds(), k.GetIntervalSeconds(), k.GetProbes())
	}
	if l := g.GetLimits(); l != nil {
		fmt.Fprintf(b, "  limits %d/%d/%d\n", l.GetMaxConnections(), l.GetMaxPendingRequests(), l.GetMaxConcurrentRequests())
	}
	if g.GetDnsDiscoveryType() != "" {
		fmt.Fprintf(b, "  dns %s\n", g.GetDnsDiscoveryType())
	}
}

// TestGatewaySettings reads every key of a gateway's config. What proxy-defaults
// and registration come to together is what a real agent showed of the same two
// (1.22.5, agent/service/<id>).
func TestGatewaySettings(t *testing.T) {
	const (
		byDefault = "  binds default 10.0.0.1:8443\n"
		noDefault = `"envoy_gateway_no_default_bind":true,`
	)
	cases := []struct {
		name    string
		address string
		config  string
		// defaults are proxy-defaults' Config, limits the service-defaults of the
		// name mesh-gateway.
		defaults, limits string
		want             string
	}{
		{name: "nothing", want: byDefault},
		{name: "no address", address: ":8443", want: "  binds default 0.0.0.0:8443\n"},
		{name: "no default bind", config: `{"envoy_gateway_no_default_bind":true}`, want: "  error NO_BIND: the registration leaves the gateway nowhere to listen\n" +
			"    fix: give envoy_gateway_bind_addresses, or take envoy_gateway_no_default_bind away\n"},
		{name: "tagged addresses", config: `{` + noDefault + `"envoy_gateway_bind_tagged_addresses":true}`,
			want: "  binds lan 10.0.0.1:8443\n  binds wan 203.0.113.1:443\n"},
		{name: "equal addresses, of which the first by name stays", config: `{"envoy_gateway_bind_tagged_addresses":true}`,
			want: "  binds default 10.0.0.1:8443\n  binds wan 203.0.113.1:443\n"},
		{name: "addresses", config: `{` + noDefault + `"envoy_gateway_bind_addresses":{"z":{"address":"10.0.0.9","port":9},"a":{"address":"::1","port":"8"}}}`,
			want: "  binds a ::1:8\n  binds z 10.0.0.9:9\n"},
		{name: "addresses in lists, as HCL makes them", config: `{` + noDefault + `"envoy_gateway_bind_addresses":[{"a":[{"Address":"10.0.0.9","Port":9}]}]}`,
			want: "  binds a 10.0.0.9:9\n"},
		{name: "former names", config: `{"envoy_mesh_gateway_no_default_bind":true,"envoy_mesh_gateway_bind_tagged_addresses":true,"envoy_mesh_gateway_bind_addresses":{"b":{"address":"10.0.0.2","port":2}}}`,
			want: "  binds b 10.0.0.2:2\n  binds lan 10.0.0.1:8443\n  binds wan 203.0.113.1:443\n"},
		{name: "the new name wins", config: `{"envoy_mesh_gateway_no_default_bind":true,"envoy_gateway_no_default_bind":false}`, want: byDefault},
		{name: "another case, and text for a flag", config: `{"Envoy_Gateway_No_Default_Bind":"true","envoy_gateway_bind_tagged_addresses":"1"}`,
			want: "  binds lan 10.0.0.1:8443\n  binds wan 203.0.113.1:443\n"},
		{name: "a host name binds nothing", config: `{"envoy_gateway_bind_addresses":{"b":{"address":"gw.example.com","port":2}}}`,
			want: byDefault + "  error INVALID_SETTING: envoy_gateway_bind_addresses.b is \"gw.example.com\", port 2: there is no listening at that\n" +
				"    fix: give it an IP address and a port\n"},
		{name: "addresses that are none", config: `{"envoy_gateway_bind_addresses":"10.0.0.1:2"}`,
			want: byDefault + "  warning INVALID_SETTING: envoy_gateway_bind_addresses is \"10.0.0.1:2\", not an object of names, each with an address and a port; it is as if it were not set\n" +
				"    fix: give an object of names, each with an address and a port, or take it away\n"},
		{name: "a connect timeout", config: `{"connect_timeout_ms":1500}`, want: byDefault + "  connects within 1.5s\n"},
		{name: "a connect timeout of nothing", config: `{"connect_timeout_ms":0}`, want: byDefault},
		{name: "an invalid connect timeout", config: `{"connect_timeout_ms":"soon"}`,
			want: byDefault + "  warning INVALID_SETTING: connect_timeout_ms is \"soon\", not a number; it is as if it were not set\n" +
				"    fix: give a number, or take it away\n"},
		{name: "keepalive", config: `{"envoy_gateway_remote_tcp_enable_keepalive":true,"envoy_gateway_remote_tcp_keepalive_time":30,"envoy_gateway_remote_tcp_keepalive_interval":"5","envoy_gateway_remote_tcp_keepalive_probes":3}`,
			want: byDefault + "  keepalive 30/5/3\n"},
		{name: "keepalive without its times", config: `{"envoy_gateway_remote_tcp_enable_keepalive":true}`, want: byDefault + "  keepalive 0/0/0\n"},
		{name: "times without keepalive", config: `{"envoy_gateway_remote_tcp_keepalive_time":30}`, want: byDefault},
		{name: "an invalid flag", config: `{"envoy_gateway_remote_tcp_enable_keepalive":"on"}`,
			want: byDefault + "  warning INVALID_SETTING: envoy_gateway_remote_tcp_enable_keepalive is \"on\", not true or false; it is as if it were not set\n" +
				"    fix: give true or false, or take it away\n"},
		{name: "dns", config: `{"envoy_dns_discovery_type":"STRICT_DNS"}`, want: byDefault + "  dns strict_dns\n"},
		{name: "invalid dns", config: `{"envoy_dns_discovery_type":"some"}`,
			want: byDefault + "  warning INVALID_SETTING: envoy_dns_discovery_type is \"some\", not strict_dns or logical_dns; it is as if it were not set\n" +
				"    fix: give strict_dns or logical_dns, or take it away\n"},
		{name: "limits", limits: `upstream_defaults { limits { max_connections: 3 max_pending_requests: 0 } }`, want: byDefault + "  limits 3/0/0\n"},
		{name: "proxy-defaults", defaults: `{"connect_timeout_ms":1,"envoy_gateway_bind_tagged_addresses":true}`,
			want: byDefault + "  binds wan 203.0.113.1:443\n  connects within 1ms\n"},
		{name: "the registration before proxy-defaults", config: `{"connect_timeout_ms":2}`, defaults: `{"connect_timeout_ms":1}`,
			want: byDefault + "  connects within 2ms\n"},
		{name: "merged like an agent does it", config: `{"envoy_gateway_no_default_bind":false,"connect_timeout_ms":0,"envoy_gateway_bind_addresses":{"a":{"address":"127.0.0.1"},"b":{"address":"","port":8}}}`,
			defaults: `{"envoy_gateway_no_default_bind":true,"connect_timeout_ms":1234,"envoy_gateway_bind_addresses":{"a":{"address":"127.0.0.9","port":99},"b":{"address":"127.0.0.8"}}}`,
			want:     "  binds a 127.0.0.1:99\n  binds b 127.0.0.8:8\n  connects within 1.234s\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			address := c.address
			if address == "" {
				address = "10.0.0.1:8443"
			}
			text := "node dc1-node 10.9.9.9\ngateway " + address + " {\n" +
				`tagged_addresses { tag: "lan" address: "10.0.0.1" port: 8443 } tagged_addresses { tag: "wan" address: "203.0.113.1" port: 443 }` +
				"\nproxy { config_json: '" + c.config + "' }\n}\n"
			if c.defaults != "" {
				text += "config proxy-defaults global {\nconfig_json: '" + c.defaults + "'\n}\n"
			}
			if c.limits != "" {
				text += "config service-defaults mesh-gateway {\n" + c.limits + "\n}\n"
			}
			var got strings.Builder
			for _, value := range (world{"dc1": text}).machine(t).All() {
				if p, ok := value.(*isthmusv1.ProxyRoutes); ok {
					gatewayText(&got, p.GetGateway())
					problemsText(&got, "  ", p.GetProblems())
				}
			}
			if diff := cmp.Diff(c.want, got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

package gateway

import (
	"slices"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// TestNotHonoured: of every setting of a registration it is known whether this
// gateway goes by it.
func TestNotHonoured(t *testing.T) {
	one := uint32(1)
	all := `{"connect_timeout_ms":1,"envoy_gateway_bind_addresses":{},"ENVOY_gateway_bind_tagged_addresses":true,"envoy_mesh_gateway_no_default_bind":true,
		"envoy_gateway_remote_tcp_enable_keepalive":true,"envoy_gateway_remote_tcp_keepalive_time":1,"envoy_gateway_remote_tcp_keepalive_interval":1,
		"envoy_gateway_remote_tcp_keepalive_probes":1,"envoy_dns_discovery_type":"strict_dns"}`
	cases := []struct {
		name  string
		proxy *isthmusv1.ProxyRoutes
		flags overridden
		want  []string
	}{
		{name: "all that is honoured", proxy: &isthmusv1.ProxyRoutes{ConfigJson: []byte(all), ProxyDefaultsConfigJson: []byte(all)}},
		{name: "flags win", proxy: &isthmusv1.ProxyRoutes{ConfigJson: []byte(all)}, flags: overridden{true, true}, want: []string{
			"connect_timeout_ms (--connect-timeout wins)", "envoy_gateway_bind_addresses (--listen wins)",
			"envoy_gateway_bind_tagged_addresses (--listen wins)", "envoy_mesh_gateway_no_default_bind (--listen wins)",
		}},
		{name: "others", proxy: &isthmusv1.ProxyRoutes{
			ConfigJson:              []byte(`{"xds_fetch_timeout_ms":1,"protocol":"http","bind_port":1}`),
			ProxyDefaultsConfigJson: []byte(`{"protocol":"http","local_connect_timeout_ms":1,"envoy_stats_tags":[]}`),
		}, want: []string{"bind_port", "envoy_stats_tags (proxy-defaults)", "xds_fetch_timeout_ms"}},
		{name: "beside the keys", proxy: &isthmusv1.ProxyRoutes{
			AccessLogs: &isthmusv1.AccessLogs{Enabled: true},
			Gateway: &isthmusv1.GatewaySettings{
				DnsDiscoveryType: "logical_dns",
				Limits:           &isthmusv1.UpstreamLimits{MaxConnections: &one, MaxPendingRequests: &one, MaxConcurrentRequests: &one},
			},
		}, want: []string{
			"access_logs (--access-log does it)", "envoy_dns_discovery_type (strict_dns is what is done)",
			"limits.max_concurrent_requests (service-defaults)", "limits.max_pending_requests (service-defaults)",
		}},
		{name: "no object", proxy: &isthmusv1.ProxyRoutes{ConfigJson: []byte(`[1]`)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := notHonoured(c.proxy, c.flags); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
)

// Keys of the registration fill what the flags leave open.
func TestBootstrapByRegistration(t *testing.T) {
	keys := map[string]any{
		"envoy_prometheus_bind_addr": "0.0.0.0:9102", "envoy_stats_bind_addr": "0.0.0.0:9103", "envoy_dogstatsd_url": "udp://${HOST_IP}:8125",
		"envoy_statsd_url": "$STATSD", "envoy_stats_flush_interval": "2s", "envoy_stats_tags": []any{"a=b", "c=d"},
		"envoy_extra_static_clusters_json": "{}", "envoy_extra_static_listeners_json": "{}", "envoy_extra_stats_sinks_json": "{}",
		"envoy_stats_config_json": "{}", "envoy_tracing_json": "{}", "envoy_bootstrap_json_tpl": "{}", "protocol": "http",
	}
	f := bootstrapFlags{xds: "127.0.0.1:9510", admin: "localhost:19000"}
	f.config.Stats.Prometheus = "127.0.0.1:1"
	f.config.Stats.Tags = []string{"own=1"}
	a := newApp(nil, nil, func(name string) string {
		return map[string]string{"HOST_IP": "10.0.0.9", "STATSD": "udp://10.0.0.8:9125"}[name]
	})
	c, err := f.read(a, envoyProxy{id: "p", node: "n", service: "web", datacenter: "dc1", config: keys})
	if err != nil {
		t.Fatal(err)
	}
	s := c.Stats
	if c.ID != "p" || c.Node != "n" || c.Service != "web" || c.Datacenter != "dc1" || c.Admin != netip.MustParseAddrPort("127.0.0.1:19000") {
		t.Errorf("it is %+v", c)
	}
	if s.Prometheus != "127.0.0.1:1" || s.Bind != "0.0.0.0:9103" || s.Dogstatsd != "udp://10.0.0.9:8125" || s.Statsd != "udp://10.0.0.8:9125" ||
		s.FlushInterval != "2s" || strings.Join(s.Tags, " ") != "own=1 a=b c=d" {
		t.Errorf("its statistics: %+v", s)
	}
	for key, got := range map[string]bootstrap.JSON{
		"envoy_extra_static_clusters_json": c.Clusters, "envoy_extra_static_listeners_json": c.Listeners, "envoy_extra_stats_sinks_json": s.Sinks,
		"envoy_stats_config_json": s.Config, "envoy_tracing_json": c.Tracing, "envoy_bootstrap_json_tpl": bootstrap.JSON(c.Template),
	} {
		if got != (bootstrap.JSON{From: key, Text: "{}"}) {
			t.Errorf("%s: %v", key, got)
		}
	}
	for key, value := range map[string]any{"envoy_statsd_url": 1.0, "envoy_tracing_json": map[string]any{}, "envoy_stats_tags": "a=b"} {
		if _, err := f.read(a, envoyProxy{config: map[string]any{key: value}}); err == nil || !strings.Contains(err.Error(), key) || nextStep(err) == "" {
			t.Errorf("%s is %v: %v", key, value, err)
		}
	}
}

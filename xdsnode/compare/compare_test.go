package compare_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// set reads resources from JSON, a line each.
func set(t *testing.T, lines ...string) compare.Set {
	t.Helper()
	out := compare.Set{}
	for _, line := range lines {
		packed := &anypb.Any{}
		if err := protojson.Unmarshal([]byte(line), packed); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		message, err := packed.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		var name string
		switch m := message.(type) {
		case interface{ GetName() string }:
			name = m.GetName()
		case interface{ GetClusterName() string }:
			name = m.GetClusterName()
		}
		url := packed.GetTypeUrl()
		if out[url] == nil {
			out[url] = map[string]*anypb.Any{}
		}
		out[url][name] = packed
	}
	return out
}

// Resources in JSON, without what begins and ends them.
const (
	clusterJSON    = `{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster",`
	assignmentJSON = `{"@type":"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",`
	listenerJSON   = `{"@type":"type.googleapis.com/envoy.config.listener.v3.Listener",`
	routeJSON      = `{"@type":"type.googleapis.com/envoy.config.route.v3.RouteConfiguration",`
	tcpProxyJSON   = `{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",`
	upstreamTLS    = `{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",`
	managerJSON    = `{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",`
	edsJSON        = `"type":"EDS","eds_cluster_config":{"eds_config":{"ads":{},"resource_api_version":"V3"}}`
)

func endpointJSON(address, more string) string {
	return `{"endpoint":{"address":{"socket_address":{"address":"` + address + `","port_value":80}}}` + more + `}`
}

func endpointsJSON(cluster string, endpoints ...string) string {
	return assignmentJSON + `"cluster_name":"` + cluster + `","endpoints":[{"lb_endpoints":[` + strings.Join(endpoints, ",") + `]}]}`
}

func listenerOf(name string, chains ...string) string {
	return listenerJSON + `"name":"` + name + `","filter_chains":[` + strings.Join(chains, ",") + `]}`
}

func tcpTo(cluster, more string) string {
	return `{"name":"envoy.filters.network.tcp_proxy","typed_config":` + tcpProxyJSON + `"stat_prefix":"s","cluster":"` + cluster + `"` + more + `}}`
}

// TestSame: what a rule says is the same is no difference.
func TestSame(t *testing.T) {
	inline := `"tls_certificates":[{"certificate_chain":{"inline_string":"CERTIFICATE"},"private_key":{"inline_string":"PRIVATE"}}]`
	source := `"sds_config":{"api_config_source":{"api_type":"DELTA_GRPC","grpc_services":[{"envoy_grpc":{"cluster_name":"` + isthmusv1.ClusterSDS + `"}}]}}`
	leaf := `"tls_certificate_sds_secret_configs":[{"name":"leaf",` + source + `}]`
	sans := `"match_typed_subject_alt_names":[{"san_type":"URI","matcher":{"exact":"spiffe://x"}}]`
	tls := func(common string) string {
		return clusterJSON + `"name":"a","transport_socket":{"name":"tls","typed_config":` + upstreamTLS + `"sni":"s","common_tls_context":{` + common + `}}}}`
	}
	routes := `"virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"a"}}]}]`
	manager := func(how string) string {
		return listenerOf("l", `{"filters":[{"name":"m","typed_config":`+managerJSON+`"stat_prefix":"s",`+how+`}}]}`)
	}
	for name, test := range map[string]struct{ ours, theirs []string }{
		"clusters with eight digits before their names": {
			[]string{clusterJSON + `"name":"a","alt_stat_name":"a",` + edsJSON + `}`, listenerOf("l", `{"filters":[`+tcpTo("a", "")+`]}`), endpointsJSON("a", endpointJSON("10.0.0.1", ""))},
			[]string{
				clusterJSON + `"name":"c225dc1c~a","alt_stat_name":"c225dc1c~a",` + edsJSON + `}`, listenerOf("l", `{"filters":[`+tcpTo("c225dc1c~a", "")+`]}`),
				endpointsJSON("c225dc1c~a", endpointJSON("10.0.0.1", "")),
			},
		},
		"members of a failover with digits in their names": {
			[]string{clusterJSON + `"name":"failover-target~0~a"}`}, []string{clusterJSON + `"name":"failover-target~0~c225dc1c~a"}`},
		},
		"an assignment by another name": {
			[]string{clusterJSON + `"name":"a",` + edsJSON + `}`, endpointsJSON("a", endpointJSON("10.0.0.1", ""))},
			[]string{clusterJSON + `"name":"a",` + strings.Replace(edsJSON, `{"eds_config"`, `{"service_name":"b","eds_config"`, 1) + `}`, endpointsJSON("b", endpointJSON("10.0.0.1", ""))},
		},
		"the order of endpoints, a weight of one, and localities without endpoints": {
			[]string{clusterJSON + `"name":"a",` + edsJSON + `}`, endpointsJSON("a", endpointJSON("10.0.0.1", ""), endpointJSON("10.0.0.2", `,"load_balancing_weight":1`))},
			[]string{clusterJSON + `"name":"a",` + edsJSON + `}`, strings.Replace(endpointsJSON("a", endpointJSON("10.0.0.2", ""), endpointJSON("10.0.0.1", "")), `[{"lb`, `[{},{"lb`, 1)},
		},
		"the order of filter chains": {
			[]string{listenerOf("l", `{"filter_chain_match":{"server_names":["a","b"]}}`, `{}`)},
			[]string{listenerOf("l", `{}`, `{"filter_chain_match":{"server_names":["b","a"]}}`)},
		},
		"certificates, and secrets": {
			[]string{tls(leaf + `,"combined_validation_context":{"default_validation_context":{` + sans + `},"validation_context_sds_secret_config":{"name":"roots",` + source + `}}`)},
			[]string{tls(inline + `,"validation_context":{"trusted_ca":{"inline_string":"ROOTS"},` + sans + `}`)},
		},
		"authorities alone": {
			[]string{tls(leaf + `,"validation_context_sds_secret_config":{"name":"roots",` + source + `}`)},
			[]string{tls(inline + `,"validation_context":{"trusted_ca":{"inline_string":"ROOTS"}}`)},
		},
		"routes that come by themselves": {
			[]string{manager(`"route_config":{"name":"r",` + routes + `}`)},
			[]string{manager(`"rds":{"route_config_name":"r","config_source":{"ads":{}}}`), routeJSON + `"name":"r",` + routes + `}`},
		},
		"two clusters of one target, and one": {
			[]string{clusterJSON + `"name":"a"}`, clusterJSON + `"name":"c225dc1c~a"}`}, []string{clusterJSON + `"name":"a"}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := set(t, test.ours...), set(t, test.theirs...)
			if diff := cmp.Diff([]compare.Difference(nil), compare.Resources(ours, theirs, nil)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestDiffers: whatever else is another is listed, with its place.
func TestDiffers(t *testing.T) {
	type differences = []compare.Difference
	for name, test := range map[string]struct {
		ours, theirs []string
		want         differences
	}{
		"a resource that one side has": {
			[]string{clusterJSON + `"name":"a"}`}, []string{listenerJSON + `"name":"l"}`},
			differences{{Type: "Cluster", Name: "a", Ours: "there"}, {Type: "Listener", Name: "l", Theirs: "there"}},
		},
		"a value, and one that is not there": {
			[]string{clusterJSON + `"name":"a","connect_timeout":"5s"}`}, []string{clusterJSON + `"name":"a","connect_timeout":"1.5s","outlier_detection":{}}`},
			differences{{Type: "Cluster", Name: "a", Field: "connect_timeout", Ours: "5s", Theirs: "1.5s"}, {Type: "Cluster", Name: "a", Field: "outlier_detection", Theirs: "{}"}},
		},
		"a message field by field, so that each may be intended": {
			[]string{clusterJSON + `"name":"a","common_lb_config":{"healthy_panic_threshold":{},"ignore_new_hosts_until_first_hc":true}}`}, []string{clusterJSON + `"name":"a"}`},
			differences{
				{Type: "Cluster", Name: "a", Field: "common_lb_config.healthy_panic_threshold", Ours: "0%"},
				{Type: "Cluster", Name: "a", Field: "common_lb_config.ignore_new_hosts_until_first_hc", Ours: "true"},
			},
		},
		"an assignment that never came": {
			[]string{clusterJSON + `"name":"a",` + edsJSON + `}`, assignmentJSON + `"cluster_name":"a"}`}, []string{clusterJSON + `"name":"a",` + edsJSON + `}`},
			differences{{Type: "ClusterLoadAssignment", Name: "a", Ours: "there"}},
		},
		"the health of an endpoint, and one more": {
			[]string{clusterJSON + `"name":"a",` + edsJSON + `}`, endpointsJSON("a", endpointJSON("10.0.0.1", `,"health_status":"UNHEALTHY"`))},
			[]string{clusterJSON + `"name":"a",` + edsJSON + `}`, endpointsJSON("a", endpointJSON("10.0.0.2", ""), endpointJSON("10.0.0.1", `,"health_status":"HEALTHY"`))},
			differences{
				{Type: "ClusterLoadAssignment", Name: "a", Field: "endpoints[priority 0].lb_endpoints[10.0.0.1:80].health_status", Ours: "UNHEALTHY", Theirs: "HEALTHY"},
				{
					Type: "ClusterLoadAssignment", Name: "a", Field: "endpoints[priority 0].lb_endpoints[10.0.0.2:80]",
					Theirs: "{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 80}}}}",
				},
			},
		},
		"the order of filters": {
			[]string{listenerOf("l", `{"filters":[{"name":"x"},{"name":"y"}]}`)}, []string{listenerOf("l", `{"filters":[{"name":"y"},{"name":"x"}]}`)},
			differences{{Type: "Listener", Name: "l", Field: "filter_chains[any].filters.(order)", Ours: "x, y", Theirs: "y, x"}},
		},
		"a type that is not known": {
			[]string{`{"@type":"type.googleapis.com/envoy.config.listener.v3.Listener","name":"l"}`},
			[]string{`{"@type":"type.googleapis.com/envoy.config.listener.v3.Listener","name":"l","ignore_global_conn_limit":true}`},
			differences{{Type: "Listener", Name: "l", Field: "ignore_global_conn_limit", Theirs: "true"}},
		},
		"which of two ways to one target is missing": {
			[]string{clusterJSON + `"name":"a"}`}, []string{clusterJSON + `"name":"a"}`, clusterJSON + `"name":"c225dc1c~a","connect_timeout":"1s"}`},
			differences{{Type: "Cluster", Name: "a", Field: "connect_timeout", Theirs: "1s"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := set(t, test.ours...), set(t, test.theirs...)
			if diff := cmp.Diff(test.want, compare.Resources(ours, theirs, nil)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSecrets: neither a key nor a certificate is in a difference, wherever it stands.
func TestSecrets(t *testing.T) {
	const secret = "SECRETTEXT"
	in := func(context string) string {
		return clusterJSON + `"name":"a","transport_socket":{"name":"tls","typed_config":` + upstreamTLS + `"common_tls_context":{` + context + `}}}}`
	}
	for _, context := range []string{
		`"tls_certificates":[{"certificate_chain":{"inline_string":"` + secret + `"},"private_key":{"inline_string":"` + secret + `"}}]`,
		`"tls_certificates":[{"private_key":{"inline_bytes":"U0VDUkVUVEVYVA=="},"password":{"inline_string":"` + secret + `"}},{"pkcs12":{"inline_string":"` + secret + `"}}]`,
		`"validation_context":{"trusted_ca":{"inline_string":"` + secret + `"}}`,
		`"combined_validation_context":{"default_validation_context":{"trusted_ca":{"inline_string":"` + secret + `"}}}`,
	} {
		all := compare.Resources(set(t, in(context)), set(t, in("")), nil)
		if len(all) == 0 {
			t.Errorf("%s is no difference to nothing", context)
		}
		for _, d := range all {
			if text := d.Ours + d.Theirs; strings.Contains(text, secret) || strings.Contains(text, "U0VDUkVU") {
				t.Errorf("%s: it is shown: %+v", context, d)
			}
		}
	}
}

// TestRows: every row that a difference may name is in the guide.
func TestRows(t *testing.T) {
	text, err := os.ReadFile("../../deploy/docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range compare.Rows() {
		if !strings.Contains(string(text), "| **"+row+"** |") {
			t.Errorf("deploy/docs/differences.md has no row %q", row)
		}
	}
}

package compare_test

import (
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// sidecarCluster is one of a sidecar, which asks for the server name a.dc2.
func sidecarCluster(more string) string {
	return clusterJSON + `"name":"a","transport_socket":{"name":"tls","typed_config":` + upstreamTLS + `"sni":"a.dc2"}},` + more + `}`
}

// gatewayOf is a mesh gateway with chains before the last.
func gatewayOf(more string, chains ...string) string {
	last := `{"filters":[{"name":"envoy.filters.network.sni_cluster"},` + tcpTo("", more) + `]}`
	return listenerOf("l", append(chains, last)...)
}

// TestIntended: what a row of the guide says is told by it, and what looks like it but
// is not, is not.
func TestIntended(t *testing.T) {
	facts := func(target *isthmusv1.Target) compare.Facts {
		target.Sni = "A.dc2"
		return compare.FactsOf(&isthmusv1.RouteSet{Routes: []*isthmusv1.Route{{Targets: []*isthmusv1.Target{target}}}})
	}
	stating := func(code string) compare.Facts {
		return facts(&isthmusv1.Target{Problems: []*isthmusv1.Problem{{Code: code}}})
	}
	behind := facts(&isthmusv1.Target{Path: isthmusv1.Path_PATH_REMOTE_GATEWAY})
	far := `{"filter_chain_match":{"server_names":["*.dc2"]},"filters":[` + tcpTo("dc2", "") + `]}`
	farCluster := func(more string) string { return clusterJSON + `"name":"dc2",` + more + `}` }
	empty := assignmentJSON + `"cluster_name":"a"}`
	dns := func(kind, family string, endpoints string) string {
		return `"type":"` + kind + `","dns_lookup_family":"` + family + `","load_assignment":{"cluster_name":"dc2","endpoints":[{"lb_endpoints":[` + endpoints + `]}]}`
	}
	rbac := func(name string) string {
		return listenerOf("l", `{"filters":[{"name":"envoy.filters.network.rbac","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",`+
			`"rules":{"policies":{"p":{"principals":[{"authenticated":{"principal_name":{"safe_regex":{"regex":"`+name+`"}}}}]}}}}}]}`)
	}
	rewrite := func(route string) string {
		return routeJSON + `"name":"r","virtual_hosts":[{"name":"v","routes":[{"route":{"cluster":"a"` + route + `}}]}]}`
	}
	for name, test := range map[string]struct {
		ours, theirs []string
		facts        compare.Facts
		// rows of the differences, in their order.
		rows []string
	}{
		"attempts of a gateway": {
			ours: []string{gatewayOf(`,"max_connect_attempts":3`)}, theirs: []string{gatewayOf("")}, rows: []string{compare.DeadEndpoints},
		},
		"other attempts of a gateway": {
			ours: []string{gatewayOf(`,"max_connect_attempts":4`)}, theirs: []string{gatewayOf("")}, rows: []string{""},
		},
		"attempts of a sidecar": {
			ours:   []string{listenerOf("l", `{"filters":[`+tcpTo("a", `,"max_connect_attempts":3`)+`]}`)},
			theirs: []string{listenerOf("l", `{"filters":[`+tcpTo("a", "")+`]}`)}, rows: []string{""},
		},
		"panic routing of a gateway, and of a sidecar": {
			ours:   []string{gatewayOf(""), clusterJSON + `"name":"a","common_lb_config":{"healthy_panic_threshold":{}}}`},
			theirs: []string{gatewayOf(""), clusterJSON + `"name":"a"}`}, rows: []string{compare.DeadEndpoints},
		},
		"panic routing of a sidecar": {
			ours:   []string{clusterJSON + `"name":"a","common_lb_config":{"healthy_panic_threshold":{}}}`},
			theirs: []string{clusterJSON + `"name":"a"}`}, rows: []string{""},
		},
		"a datacenter without gateways": {
			ours:   []string{gatewayOf("", far), farCluster(edsJSON), assignmentJSON + `"cluster_name":"dc2"}`},
			theirs: []string{gatewayOf("")}, rows: []string{compare.FarWithout, compare.FarWithout, compare.FarWithout},
		},
		"a datacenter with gateways that Consul has not": {
			ours:   []string{gatewayOf("", far), farCluster(edsJSON), endpointsJSON("dc2", endpointJSON("10.0.0.1", ""))},
			theirs: []string{gatewayOf("")}, rows: []string{"", "", ""},
		},
		"a name of the own datacenter that Consul has not": {
			ours: []string{gatewayOf(""), clusterJSON + `"name":"a",` + edsJSON + `}`, empty}, theirs: []string{gatewayOf("")}, rows: []string{"", ""},
		},
		"a host name beside an address, at a gateway": {
			ours:   []string{gatewayOf("", far), farCluster(dns("STRICT_DNS", "V4_PREFERRED", endpointJSON("10.0.0.1", "")+","+endpointJSON("gw.example", "")))},
			theirs: []string{gatewayOf("", far), farCluster(dns("LOGICAL_DNS", "V4_ONLY", endpointJSON("gw.example", "")))},
			rows:   []string{compare.HostnameGateway, compare.HostnameGateway, compare.HostnameGateway},
		},
		"a host name that is missing here": {
			ours:   []string{gatewayOf("", far), farCluster(dns("STRICT_DNS", "V4_ONLY", ""))},
			theirs: []string{gatewayOf("", far), farCluster(dns("STRICT_DNS", "V4_ONLY", endpointJSON("gw.example", "")))},
			rows:   []string{""},
		},
		"a host name at a sidecar": {
			ours:   []string{sidecarCluster(dns("STRICT_DNS", "V4_PREFERRED", endpointJSON("gw.example", "")))},
			theirs: []string{sidecarCluster(edsJSON), endpointsJSON("a", endpointJSON("gw.example", ""))},
			rows: []string{
				compare.HostnameGateway, compare.HostnameGateway, compare.HostnameGateway, compare.HostnameGateway, compare.HostnameGateway,
				compare.HostnameGateway, compare.HostnameGateway,
			},
		},
		"a gateway that is critical": {
			ours:   []string{sidecarCluster(edsJSON), endpointsJSON("a", endpointJSON("10.0.0.1", `,"health_status":"UNHEALTHY"`))},
			theirs: []string{sidecarCluster(edsJSON), endpointsJSON("a", endpointJSON("10.0.0.1", `,"health_status":"HEALTHY"`))},
			facts:  behind, rows: []string{compare.GatewayHealth},
		},
		"a gateway that is critical for Consul": {
			ours:   []string{sidecarCluster(edsJSON), endpointsJSON("a", endpointJSON("10.0.0.1", `,"health_status":"HEALTHY"`))},
			theirs: []string{sidecarCluster(edsJSON), endpointsJSON("a", endpointJSON("10.0.0.1", `,"health_status":"UNHEALTHY"`))},
			facts:  behind, rows: []string{""},
		},
		"an instance that is critical": {
			ours:   []string{sidecarCluster(edsJSON), endpointsJSON("a", endpointJSON("10.0.0.1", `,"health_status":"UNHEALTHY"`))},
			theirs: []string{sidecarCluster(edsJSON), endpointsJSON("a", endpointJSON("10.0.0.1", `,"health_status":"HEALTHY"`))},
			rows:   []string{""},
		},
		"all gateways are critical": {
			ours:   []string{sidecarCluster(edsJSON), empty},
			theirs: []string{sidecarCluster(edsJSON), endpointsJSON("a", endpointJSON("10.0.0.1", ""))},
			facts:  stating("GATEWAYS_FAILING"), rows: []string{compare.GatewayHealth},
		},
		"no gateway": {
			ours:   []string{sidecarCluster(edsJSON), empty},
			theirs: []string{sidecarCluster(edsJSON), endpointsJSON("a", endpointJSON("10.0.0.1", ""))},
			facts:  stating("NO_GATEWAY"), rows: []string{compare.NoGateway},
		},
		"endpoints that are missing for no stated reason": {
			ours:   []string{sidecarCluster(edsJSON), empty},
			theirs: []string{sidecarCluster(edsJSON), endpointsJSON("a", endpointJSON("10.0.0.1", ""))},
			rows:   []string{""},
		},
		"an unknown datacenter": {
			ours: []string{sidecarCluster(edsJSON), empty}, theirs: []string{sidecarCluster(edsJSON)},
			facts: stating("UNKNOWN_DATACENTER"), rows: []string{compare.UnknownDatacenter},
		},
		"an assignment that Consul does not send": {
			ours: []string{sidecarCluster(edsJSON), empty}, theirs: []string{sidecarCluster(edsJSON)}, rows: []string{""},
		},
		"where callers are listened for": {
			ours:   []string{listenerJSON + `"name":"public_listener:10.0.0.9:80","address":{"socket_address":{"address":"10.0.0.9","port_value":80}}}`},
			theirs: []string{listenerJSON + `"name":"public_listener:0.0.0.0:80","address":{"socket_address":{"address":"0.0.0.0","port_value":80}}}`},
			rows:   []string{compare.CallersAddress, compare.CallersAddress},
		},
		"another address for callers": {
			ours:   []string{listenerJSON + `"name":"public_listener:10.0.0.9:80"}`},
			theirs: []string{listenerJSON + `"name":"public_listener:10.0.0.8:80"}`},
			rows:   []string{"", ""},
		},
		"the case of callers' names": {
			ours: []string{rbac(`(?i)^spiffe://td\\.consul/svc/a$`)}, theirs: []string{rbac(`^spiffe://td.consul/svc/a$`)}, rows: []string{compare.NamesOfCallers},
		},
		"other callers": {
			ours: []string{rbac(`(?i)^spiffe://td\\.consul/svc/b$`)}, theirs: []string{rbac(`^spiffe://td.consul/svc/a$`)}, rows: []string{""},
		},
		"a path that is cut off": {
			ours:   []string{rewrite("")},
			theirs: []string{rewrite(`,"regex_rewrite":{"pattern":{"regex":"^/a(/?)(.*)"},"substitution":"/\\2"}`)}, rows: []string{compare.RouteRewrite, compare.RouteRewrite},
		},
		"a rewrite that is missing": {
			ours:   []string{rewrite("")},
			theirs: []string{rewrite(`,"regex_rewrite":{"pattern":{"regex":"^/a"},"substitution":"/b"}`)}, rows: []string{"", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			found := compare.Resources(set(t, test.ours...), set(t, test.theirs...), test.facts)
			ok := len(found) == len(test.rows)
			for i := range found {
				ok = ok && found[i].Intended == test.rows[i]
			}
			if !ok {
				t.Errorf("rows %q wanted, found %+v", test.rows, found)
			}
		})
	}
}

package compare_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// TestDump: of a config dump what runs of what was served is read, and no more.
func TestDump(t *testing.T) {
	const answer = `{"configs":[
		{"@type":"type.googleapis.com/envoy.admin.v3.BootstrapConfigDump","bootstrap":{"nobody":"knows this"}},
		{"@type":"type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
			"static_clusters":[{"cluster":` + clusterJSON + `"name":"static"}}],
			"dynamic_active_clusters":[{"cluster":` + clusterJSON + `"name":"a"}}],
			"dynamic_warming_clusters":[{"cluster":` + clusterJSON + `"name":"warming"}}]},
		{"@type":"type.googleapis.com/envoy.admin.v3.ListenersConfigDump","dynamic_listeners":[
			{"name":"l","active_state":{"listener":` + listenerJSON + `"name":"l"}}},
			{"name":"refused","error_state":{"details":"no"}}]},
		{"@type":"type.googleapis.com/envoy.admin.v3.RoutesConfigDump","dynamic_route_configs":[{"route_config":` + routeJSON + `"name":"r"}}]},
		{"@type":"type.googleapis.com/envoy.admin.v3.EndpointsConfigDump","dynamic_endpoint_configs":[{"endpoint_config":` + assignmentJSON + `"cluster_name":"a"}}]}
	]}`
	got, err := compare.Dump([]byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string][]string{}
	for url, all := range got {
		names[url[strings.LastIndexByte(url, '.')+1:]] = slices.Sorted(maps.Keys(all))
	}
	want := map[string][]string{"Cluster": {"a"}, "Listener": {"l"}, "RouteConfiguration": {"r"}, "ClusterLoadAssignment": {"a"}}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDumpUnreadable: a dump that is none, or has what is not known, is an error that
// says what.
func TestDumpUnreadable(t *testing.T) {
	unknown := `{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.ClustersConfigDump","dynamic_active_clusters":[{"cluster":` +
		clusterJSON + `"name":"a","transport_socket":{"typed_config":{"@type":"type.googleapis.com/some.Extension"}}}}]}]}`
	for answer, want := range map[string]string{"<html>": "config dump: ", unknown: "some.Extension"} {
		if _, err := compare.Dump([]byte(answer)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", answer, err)
		}
	}
}

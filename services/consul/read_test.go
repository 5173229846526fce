package consul_test

import (
	"net/http"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// The name of a node may hold what a path must not: a node that is taken for
// absent would be deleted.
func TestNodeNamesReachConsulAsTheyAre(t *testing.T) {
	t.Parallel()
	agent := agenttest.Start(t, devagent.Config{})
	client := opened(t, agent, "")
	const node = "a b?c%d"
	call(t, agent, http.MethodPut, "/v1/catalog/register", map[string]any{
		"Node": node, "Address": "192.0.2.1", "Service": map[string]any{
			"Kind": "connect-proxy", "Service": "web-proxy", "Port": 21000, "Proxy": map[string]any{"DestinationServiceName": "web"},
		},
	}, nil)

	state, _, err := client.Node(t.Context(), node, consul.Query{})
	if err != nil || state.Node.GetName() != node || len(state.Instances) != 1 {
		t.Errorf("node: %+v, %v", state, err)
	}
}

// Consul without Enterprise has no namespaces and partitions: those of an upstream are
// ignored, as it does, and stated.
func TestUpstreamsOfEnterprise(t *testing.T) {
	t.Parallel()
	a := agenttest.Start(t, devagent.Config{})
	client := opened(t, a, "")
	call(t, a, http.MethodPut, "/v1/catalog/register", map[string]any{
		"Node": "n1", "Address": "10.0.0.1", "Service": map[string]any{
			"Kind": "connect-proxy", "ID": "web-proxy", "Service": "web-proxy", "Port": 1, "Proxy": map[string]any{
				"DestinationServiceName": "web", "Upstreams": []any{
					map[string]any{"DestinationName": "api", "DestinationPartition": "part1", "DestinationNamespace": "ns1", "LocalBindPort": 2},
				},
			},
		},
	}, nil)
	node, _, err := client.Node(t.Context(), "n1", consul.Query{})
	if err != nil {
		t.Fatal(err)
	}
	i := node.Instances[0]
	u := i.GetProxy().GetUpstreams()[0]
	if u.GetDestinationPartition() != "" || u.GetDestinationNamespace() != "" || len(i.GetUnsupported()) != 1 {
		t.Errorf("%v", i)
	}
}

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

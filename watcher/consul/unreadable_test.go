package consul_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// A node that Consul's API cannot show, for its name or for what is registered on it,
// keeps back nothing but itself, and the watcher says which it is and why.
func TestUnreadableNodeKeepsBackNoOther(t *testing.T) {
	t.Parallel()
	agent := agenttest.Start(t, devagent.Config{})
	options := consul.Options{Address: agent.HTTP}
	register(t, agent, "n1", "api", 80)
	register(t, agent, "a//b", "api", 80)
	w := newWorld(t)
	first := w.watch("w1", options)
	has := func(text string) func() bool {
		return func() bool {
			return slices.ContainsFunc(w.events(), func(e bus.Message) bool { return strings.Contains(e.Key.String(), text) })
		}
	}
	w.eventually(has("instance/n1/api"), func() string { return "one node has kept back another" })

	// Those that come later, and what Consul itself breaks off the answer about.
	register(t, agent, "x\ty", "api", 80)
	put(t, agent, "/v1/catalog/register", object{"Node": "null", "Address": "192.0.2.9", "Service": object{
		"Kind": "connect-proxy", "Service": "web-proxy", "Port": 21000,
		"Proxy": object{"DestinationServiceName": "web", "Config": object{"list": []any{nil}}},
	}})
	register(t, agent, "n2", "api", 80)
	w.eventually(has("instance/n2/api"), func() string { return "a node that came later has kept back another" })
	hidden := func() string {
		var text strings.Builder
		for _, trouble := range first.source.Hidden() {
			text.WriteString(trouble.Scope + ": " + trouble.Why + "\n")
		}
		return text.String()
	}
	w.eventually(func() bool {
		text := hidden()
		return strings.Contains(text, "node/a//b: ") && strings.Contains(text, "node/x\ty: ") && strings.Contains(text, "node/null: ")
	}, hidden)
	t.Log(hidden())

	// Whoever takes over reads everything anew, and writes all the same.
	first.stop()
	w.watch("w2", options)
	register(t, agent, "n3", "api", 80)
	w.eventually(has("instance/n3/api"), func() string { return "after a restart nothing is written" })
	w.wantTombstones(0)
}

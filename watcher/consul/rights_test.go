package consul_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	consulsource "github.com/isthmus-mesh/isthmus/watcher/consul"
)

// rights are what deploy/docs/consul.md asks for a watcher's token.
var rights = []string{
	`node_prefix "" { policy = "read" }`,
	`service_prefix "" { policy = "read" }`,
	`agent_prefix "" { policy = "read" }`,
	`mesh = "read"`,
}

// token makes a token with a policy, and returns what changes the policy.
func token(t *testing.T, agent *devagent.Agent, name string) (secret string, grant func(rules []string)) {
	t.Helper()
	var policy struct{ ID string }
	if err := agent.Call(t.Context(), http.MethodPut, "/v1/acl/policy", object{"Name": name, "Rules": strings.Join(rights, "\n")}, &policy); err != nil {
		t.Fatal(err)
	}
	var made struct{ SecretID string }
	if err := agent.Call(t.Context(), http.MethodPut, "/v1/acl/token", object{"Policies": []object{{"ID": policy.ID}}}, &made); err != nil {
		t.Fatal(err)
	}
	return made.SecretID, func(rules []string) {
		t.Helper()
		put(t, agent, "/v1/acl/policy/"+policy.ID, object{"ID": policy.ID, "Name": name, "Rules": strings.Join(rules, "\n")})
	}
}

// A token with the minimal rights sees everything. Each right that is taken away,
// while the watcher runs or before it starts, hides something and ends nothing.
func TestMissingRightsEndNothing(t *testing.T) {
	t.Parallel()
	for i, right := range rights {
		t.Run(strings.Fields(right)[0], func(t *testing.T) {
			t.Parallel()
			agent := agenttest.Start(t, devagent.Config{ACL: devagent.NewACL()})
			management := consul.Options{Address: agent.HTTP, Token: agent.Token}
			secret, grant := token(t, agent, "watcher")
			options := consul.Options{Address: agent.HTTP, Token: secret}
			w := newWorld(t)
			// A list that has become empty for the token is not changed for Consul, so it
			// returns when its wait is over.
			w.wait = 2 * time.Second
			fill(w, agent, 1)
			for _, entry := range entries {
				put(t, agent, "/v1/config", entry)
			}
			put(t, agent, "/v1/agent/service/register", object{
				"Name": "web", "ID": "web1", "Port": 8080, "Connect": object{"SidecarService": object{"Proxy": object{"Upstreams": []object{
					{"DestinationType": "prepared_query", "DestinationName": "near", "LocalBindPort": 9192},
				}}}},
			})
			if err := agent.Call(t.Context(), "POST", "/v1/query", object{"Name": "near", "Service": object{"Service": "s1"}}, nil); err != nil {
				t.Fatal(err)
			}
			first := w.watch("w1", options)
			w.wantEqual(management)
			if hidden := first.source.Hidden(); len(hidden) > 0 {
				t.Errorf("with the minimal rights something is hidden: %v", hidden)
			}

			grant(slices.Delete(slices.Clone(rights), i, i+1))
			// A blocking query is judged by the token when it wakes.
			fill(w, agent, 2)
			w.eventually(func() bool {
				// A query that waits keeps the rights that it began with, so the entries are
				// changed until one has begun since.
				export(t, agent, "s1")
				export(t, agent, "s2")
				return noticed(first, right)
			}, func() string { return "nobody noticed that the right is missing" })
			first.stop()
			second := w.watch("w2", options)
			w.eventually(func() bool { return second.Ready() == nil && noticed(second, right) }, func() string { return "the second is not ready" })
			w.wantTombstones(0)

			grant(rights)
			fill(w, agent, 3)
			export(t, agent, "s3")
			w.wantEqual(management)
			w.wantTombstones(0)
			w.wantRising()
		})
	}
}

// A right that is given shows what was hidden, though nothing changes and no wait is
// over: a query that waits keeps the rights that it began with.
func TestGivenRightsAreUsed(t *testing.T) {
	t.Parallel()
	for i, right := range rights {
		t.Run(strings.Fields(right)[0], func(t *testing.T) {
			t.Parallel()
			agent := agenttest.Start(t, devagent.Config{ACL: devagent.NewACL()})
			secret, grant := token(t, agent, "watcher")
			w := newWorld(t)
			fill(w, agent, 1)
			for _, entry := range entries {
				put(t, agent, "/v1/config", entry)
			}
			export(t, agent, "s1")
			grant(slices.Delete(slices.Clone(rights), i, i+1))
			p := w.watch("w1", consul.Options{Address: agent.HTTP, Token: secret})
			w.eventually(func() bool { return p.Ready() == nil && noticed(p, right) }, func() string { return "nobody noticed that the right is missing" })
			grant(rights)
			w.wantEqual(consul.Options{Address: agent.HTTP, Token: agent.Token})
		})
	}
}

// export writes the entry of exported services.
func export(t *testing.T, agent *devagent.Agent, service string) {
	t.Helper()
	put(t, agent, "/v1/config", object{"Kind": "exported-services", "Name": "default", "Services": []object{{"Name": service, "Consumers": []object{{"Peer": "other"}}}}})
}

// noticed reports whether a watcher states that a right is missing: by what it
// hides.
func noticed(p *process, right string) bool {
	hidden := p.source.Hidden()
	if strings.HasPrefix(right, "agent_prefix") {
		return slices.ContainsFunc(hidden, func(t consulsource.Trouble) bool {
			return t.Scope == "facts" && strings.Contains(t.Why, "deny is assumed")
		})
	}
	return len(hidden) > 0
}

// Neither an anonymous answer nor a refusal ends anything.
func TestUselessTokensEndNothing(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]string{"none": "", "unknown": "11111111-2222-3333-4444-555555555555"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agent := agenttest.Start(t, devagent.Config{ACL: devagent.NewACL()})
			management := consul.Options{Address: agent.HTTP, Token: agent.Token}
			w := newWorld(t)
			fill(w, agent, 1)
			for _, entry := range entries {
				put(t, agent, "/v1/config", entry)
			}
			first := w.watch("w1", management)
			w.wantEqual(management)
			first.stop()
			second := w.watch("w2", consul.Options{Address: agent.HTTP, Token: secret})
			w.eventually(func() bool { return second.Ready() == nil }, func() string { return "not ready" })
			fill(w, agent, 2)
			w.eventually(func() bool { return len(second.source.Hidden()) > 5 }, func() string { return "nothing is hidden" })
			w.wantTombstones(0)
			second.stop()
			w.watch("w3", management)
			w.wantEqual(management)
			w.wantTombstones(0)
		})
	}
}

package consul_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// Everything that Consul holds of the model comes into the log, changes and goes
// with it.
func TestFollowsConsul(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "HTTP", true: "HTTPS with HTTP/2"}[secure], func(t *testing.T) {
			t.Parallel()
			config := devagent.Config{}
			if secure {
				ca, err := devagent.NewCA()
				if err != nil {
					t.Fatal(err)
				}
				config.CA = ca
			}
			agent := agenttest.Start(t, config)
			options := consul.Options{Address: agent.HTTP}
			if secure {
				options = consul.Options{Address: agent.HTTPS, CAFile: agent.CAFile}
			}
			w := newWorld(t)
			w.watch("w1", options)
			w.wantEqual(options)
			n := len(w.events())

			put(t, agent, "/v1/agent/service/register", object{
				"Name": "web", "ID": "web1", "Port": 8080, "Tags": []string{"v2", "v1"}, "Meta": object{"b": "1", "a": "2"},
				"Connect": object{"SidecarService": object{"Proxy": object{"Upstreams": []object{
					{"DestinationName": "api", "Datacenter": "dc2", "LocalBindPort": 9191, "Config": object{"connect_timeout_ms": 3000}},
					{"DestinationType": "prepared_query", "DestinationName": "near", "LocalBindPort": 9192},
				}}}},
			})
			for i := range 30 {
				register(t, agent, "node"+string(rune('a'+i)), "api", 9000+i)
			}
			if err := agent.Call(t.Context(), "POST", "/v1/query", object{"Name": "near", "Service": object{"Service": "api"}}, nil); err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				put(t, agent, "/v1/config", entry)
			}
			w.wantEqual(options)
			w.wantTombstones(n)

			n = len(w.events())
			deregister(t, agent, "nodea", "api")
			put(t, agent, "/v1/catalog/deregister", object{"Node": "nodeb"})
			if err := agent.Call(t.Context(), "DELETE", "/v1/config/service-router/api", nil, nil); err != nil {
				t.Fatal(err)
			}
			w.wantEqual(options)
			w.wantTombstones(n, "config/service-router/api", "instance/nodea/api", "instance/nodeb/api", "node/nodeb")
		})
	}
}

// entries are one config entry of each kind, with what its kind can say.
var entries = []object{
	{"Kind": "proxy-defaults", "Name": "global", "Config": object{"protocol": "http", "n": 12345678901, "f": 1.5, "l": []int{1, 2}}, "MeshGateway": object{"Mode": "local"}, "AccessLogs": object{"Enabled": true}},
	{"Kind": "service-defaults", "Name": "api", "Protocol": "http"},
	{"Kind": "service-defaults", "Name": "web", "Protocol": "http", "UpstreamConfig": object{
		"Defaults":  object{"ConnectTimeoutMs": 2000},
		"Overrides": []object{{"Name": "api", "MeshGateway": object{"Mode": "remote"}, "Limits": object{"MaxConnections": 3}, "PassiveHealthCheck": object{"Interval": "30s", "MaxFailures": 5}}},
	}},
	{"Kind": "service-resolver", "Name": "api", "DefaultSubset": "v1", "ConnectTimeout": "7s", "Subsets": object{"v1": object{"Filter": "Service.Meta.v == 1"}, "v2": object{"OnlyPassing": true}}, "LoadBalancer": object{"Policy": "maglev", "HashPolicies": []object{{"Field": "header", "FieldValue": "x"}}}},
	{"Kind": "service-resolver", "Name": "db", "Failover": object{"*": object{"Targets": []object{{"Datacenter": "dc2"}, {"Service": "web"}}}}},
	{"Kind": "service-splitter", "Name": "api", "Splits": []object{{"Weight": 33.3, "ServiceSubset": "v1"}, {"Weight": 66.7, "ServiceSubset": "v2", "RequestHeaders": object{"Set": object{"b": "1", "a": "2"}}}}},
	{"Kind": "service-router", "Name": "api", "Routes": []object{{"Match": object{"HTTP": object{"PathPrefix": "/v2", "Methods": []string{"GET"}}}, "Destination": object{"ServiceSubset": "v2", "RequestTimeout": "3s", "NumRetries": 2}}}},
	{"Kind": "service-intentions", "Name": "api", "Sources": []object{{"Name": "web", "Permissions": []object{{"Action": "allow", "HTTP": object{"PathPrefix": "/"}}}}, {"Name": "*", "Action": "deny"}}},
	{"Kind": "mesh", "TLS": object{"Incoming": object{"TLSMinVersion": "TLSv1_3"}}},
	{"Kind": "exported-services", "Name": "default", "Services": []object{{"Name": "api", "Consumers": []object{{"Peer": "other"}}}}},
}

// A restarted watcher writes nothing when nothing has changed, and of what has
// changed meanwhile only the difference.
func TestRestartedWatcherWritesTheDifference(t *testing.T) {
	t.Parallel()
	agent := agenttest.Start(t, devagent.Config{})
	options := consul.Options{Address: agent.HTTP}
	for _, entry := range entries {
		put(t, agent, "/v1/config", entry)
	}
	register(t, agent, "n1", "api", 80)
	register(t, agent, "n2", "api", 80)
	w := newWorld(t)
	// The agent tells the catalog about its own node in its own time.
	w.eventually(func() bool {
		var self struct {
			Node struct{ TaggedAddresses map[string]string }
		}
		err := agent.Call(t.Context(), http.MethodGet, "/v1/catalog/node/"+agent.Node, nil, &self)
		return err == nil && self.Node.TaggedAddresses["lan"] != ""
	}, func() string { return "the agent's node is not whole" })
	first := w.watch("w1", options)
	w.wantEqual(options)
	first.stop()
	n := len(w.events())

	second := w.watch("w2", options)
	w.eventually(func() bool { return second.Ready() == nil && second.Status().Active }, func() string { return "not active" })
	if got := w.events()[n:]; len(got) > 0 {
		t.Fatalf("a restart has written %d events, the first of %s", len(got), got[0].Key)
	}
	second.stop()
	register(t, agent, "n1", "api", 81)
	put(t, agent, "/v1/catalog/deregister", object{"Node": "n2"})
	w.watch("w3", options)
	w.wantEqual(options)
	var keys []string
	for _, m := range w.events()[n:] {
		keys = append(keys, m.Key.String())
	}
	slices.Sort(keys)
	if got, want := strings.Join(keys, " "), "instance/n1/api instance/n2/api node/n2"; got != want {
		t.Errorf("events of %s, want of %s", got, want)
	}
}

// An agent of another datacenter than the named one ends the watcher, whatever it
// would have to say.
func TestAgentOfAnotherDatacenterIsRefused(t *testing.T) {
	t.Parallel()
	agent := agenttest.Start(t, devagent.Config{Datacenter: "dc2"})
	w := newWorld(t)
	p := w.watchNamed("w1", "dc1", consul.Options{Address: agent.HTTP})
	w.eventually(func() bool { return p.over() != nil }, func() string { return "the watcher goes on" })
	if err := p.over(); !strings.Contains(err.Error(), `is of datacenter "dc2", not "dc1"`) {
		t.Errorf("the watcher ended with %v", err)
	}
}

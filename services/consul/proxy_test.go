package consul_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// A sidecar is found by the ID of its service among what the agent has; what is said of
// it is its registration, with what proxy-defaults add.
func TestSidecarFor(t *testing.T) {
	agent := agenttest.Start(t, devagent.Config{})
	client, err := consul.Open(consul.Options{Address: agent.HTTP, Environment: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := api.NewClient(&api.Config{Address: agent.HTTP})
	if err != nil {
		t.Fatal(err)
	}
	entry := &api.ProxyConfigEntry{Kind: api.ProxyDefaults, Name: api.ProxyConfigGlobal, Config: map[string]any{"envoy_stats_bind_addr": "127.0.0.1:9103"}}
	if _, _, err := theirs.ConfigEntries().Set(entry, nil); err != nil {
		t.Fatal(err)
	}
	sidecar := func(id, of string) *api.AgentServiceRegistration {
		return &api.AgentServiceRegistration{
			ID: id, Name: id, Kind: api.ServiceKindConnectProxy, Port: 20000,
			Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: "web", DestinationServiceID: of, Config: map[string]any{"own": true}},
		}
	}
	for _, s := range []*api.AgentServiceRegistration{
		{ID: "web-1", Name: "web", Port: 1}, {ID: "web-2", Name: "web", Port: 2}, {ID: "web-3", Name: "web", Port: 3},
		sidecar("proxy", "web-1"), sidecar("b", "web-2"), sidecar("a", "web-2"),
	} {
		if err := theirs.Agent().ServiceRegister(s); err != nil {
			t.Fatal(err)
		}
	}
	id, err := client.SidecarFor(t.Context(), "web-1")
	if id != "proxy" || err != nil {
		t.Errorf("of web-1: %q, %v", id, err)
	}
	if _, err := client.SidecarFor(t.Context(), "web-2"); !errors.Is(err, consul.ErrSeveralProxies) || !strings.Contains(err.Error(), "a, b") {
		t.Errorf("of web-2: %v", err)
	}
	for _, none := range []string{"web-3", "web", `a" or Port == 20000 or ID == "a`} {
		if id, err := client.SidecarFor(t.Context(), none); !errors.Is(err, consul.ErrNotFound) {
			t.Errorf("of %s: %q, %v", none, id, err)
		}
	}
	s, err := client.LocalService(t.Context(), "proxy", "", 0)
	if err != nil || s.Destination != "web" || s.Datacenter != "dc1" || s.Config["own"] != true || s.Config["envoy_stats_bind_addr"] != "127.0.0.1:9103" {
		t.Errorf("its registration: %+v, %v", s, err)
	}
}

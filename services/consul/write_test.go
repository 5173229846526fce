package consul_test

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// What is written is read back as it was, and what could not be is refused before
// anything is written.
func TestWrittenAsRead(t *testing.T) {
	t.Parallel()
	client := opened(t, agenttest.Start(t, devagent.Config{}), "")
	node := &isthmusv1.Node{
		Name: "node-1", Address: "192.0.2.1", TaggedAddresses: []*isthmusv1.TaggedAddress{{Tag: "wan", Address: "198.51.100.1"}},
		Meta: []*isthmusv1.KeyValue{{Key: "rack", Value: "7"}},
	}
	gateway := &isthmusv1.ServiceInstance{
		Node: "node-1", Id: "gw", Name: "mesh-gateway", Kind: isthmusv1.InstanceKindMeshGateway, Port: 8443,
		TaggedAddresses: []*isthmusv1.TaggedAddress{{Tag: "wan", Address: "198.51.100.1", Port: 443}},
		Proxy:           &isthmusv1.Proxy{ConfigJson: []byte(`{"connect_timeout_ms":100}`)},
	}
	web := &isthmusv1.ServiceInstance{
		Node: "node-1", Id: "web-sidecar-proxy", Name: "web-sidecar-proxy", Kind: isthmusv1.InstanceKindProxy, Address: "192.0.2.2", Port: 21000,
		Tags: []string{"blue"}, Meta: []*isthmusv1.KeyValue{{Key: "a", Value: "b"}}, Weights: &isthmusv1.Weights{Passing: 3, Warning: 1},
		Checks: []*isthmusv1.Check{{CheckId: "up", Name: "up", Status: "warning", Type: "tcp"}},
		Proxy: &isthmusv1.Proxy{
			DestinationServiceName: "web", LocalServicePort: 8080, MeshGateway: &isthmusv1.MeshGateway{Mode: "local"},
			Upstreams: []*isthmusv1.Upstream{{
				DestinationName: "api", Datacenter: "dc2", LocalBindAddress: "192.0.2.2", LocalBindPort: 10000,
				ConfigJson: []byte(`{"protocol":"tcp"}`), MeshGateway: &isthmusv1.MeshGateway{Mode: "remote"},
			}},
		},
	}
	if err := client.Register(t.Context(), node, nil); err != nil {
		t.Fatal(err)
	}
	for _, i := range []*isthmusv1.ServiceInstance{gateway, web} {
		if err := client.Register(t.Context(), node, i); err != nil {
			t.Fatal(err)
		}
	}
	state, _, err := client.Node(t.Context(), "node-1", consul.Query{Consistency: consul.Consistent})
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(state.Node, node) || state.Agent {
		t.Errorf("node is %v, agent %v", state.Node, state.Agent)
	}
	for _, i := range state.Instances { // Consul's own for transparent proxies.
		i.TaggedAddresses = slices.DeleteFunc(i.TaggedAddresses, func(a *isthmusv1.TaggedAddress) bool { return a.GetTag() == "consul-virtual" })
	}
	if len(state.Instances) != 2 || !proto.Equal(state.Instances[0], gateway) || !proto.Equal(state.Instances[1], web) {
		t.Errorf("instances are %v", state.Instances)
	}

	entries := []*isthmusv1.ConfigEntry{
		{Kind: isthmusv1.EntryProxyDefaults, Name: "global", Entry: &isthmusv1.ConfigEntry_ProxyDefaults{
			ProxyDefaults: &isthmusv1.ProxyDefaults{
				MeshGateway: &isthmusv1.MeshGateway{Mode: "remote"},
				AccessLogs:  &isthmusv1.AccessLogs{Enabled: true, DisableListenerLogs: true, Type: "file", Path: "/var/log/mesh", TextFormat: "%START_TIME%"},
			},
		}},
		{Kind: isthmusv1.EntryServiceDefaults, Name: "api", Entry: &isthmusv1.ConfigEntry_ServiceDefaults{
			ServiceDefaults: &isthmusv1.ServiceDefaults{Protocol: "http", MeshGateway: &isthmusv1.MeshGateway{Mode: "local"}},
		}},
		{Kind: isthmusv1.EntryServiceIntentions, Name: "db", Entry: &isthmusv1.ConfigEntry_ServiceIntentions{
			ServiceIntentions: &isthmusv1.ServiceIntentions{Sources: []*isthmusv1.SourceIntention{
				{Name: "*", Action: "deny"}, {Name: "web", Action: "allow", Description: "it asks"},
			}},
		}},
	}
	for _, e := range entries {
		if err := client.WriteEntry(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		read, _, err := client.ConfigEntries(t.Context(), e.GetKind(), consul.Query{Consistency: consul.Consistent})
		if err != nil || len(read) != 1 || !proto.Equal(read[0], e) {
			t.Errorf("wrote %v, read %v, %v", e, read, err)
		}
	}

	router := &isthmusv1.ConfigEntry{Kind: isthmusv1.EntryServiceRouter, Name: "api", Entry: &isthmusv1.ConfigEntry_ServiceRouter{}}
	if err := client.WriteEntry(t.Context(), router); !errors.Is(err, consul.ErrNotWritable) {
		t.Errorf("a router: %v", err)
	}
	entries[1].GetServiceDefaults().ExternalSni = "elsewhere.example"
	if err := client.WriteEntry(t.Context(), entries[1]); !errors.Is(err, consul.ErrNotWritable) {
		t.Errorf("a field that is not written: %v", err)
	}
	web.Locality = &isthmusv1.Locality{Region: "r"}
	if err := client.Register(t.Context(), node, web); !errors.Is(err, consul.ErrNotWritable) {
		t.Errorf("an instance with what is not written: %v", err)
	}
}

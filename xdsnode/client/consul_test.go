package client_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	"github.com/isthmus-mesh/isthmus/xdsnode/client"
)

// patience is what only a failure waits for.
const patience = 30 * time.Second

// follow runs a client until the test ends.
func follow(t *testing.T, config client.Config) *client.Client {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	c, done := client.New(config), make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return c
}

// await is Await for as long as only a failure waits.
func await(t *testing.T, c *client.Client, what string, met func(*client.Snapshot) bool) *client.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := c.Await(ctx, met)
	if err != nil {
		t.Fatalf("%s: %v; last seen: %+v", what, err, s)
	}
	return s
}

// put writes to Consul's API.
func put(t *testing.T, agent *devagent.Agent, path, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, agent.HTTP+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	if agent.Token != "" {
		request.Header.Set("X-Consul-Token", agent.Token)
	}
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		t.Fatalf("PUT %s: %s: %s", path, response.Status, answer)
	}
}

const (
	// web uses api, and both stand on the agent.
	web = `{"Kind":"connect-proxy","ID":"web-proxy","Name":"web-proxy","Port":21000,
		"Proxy":{"DestinationServiceName":"web","LocalServicePort":8080,"Upstreams":[{"DestinationName":"api","LocalBindPort":10000}]}}`
	api = `{"Kind":"connect-proxy","ID":"api-proxy","Name":"api-proxy","Address":"10.0.0.2","Port":21001,
		"Proxy":{"DestinationServiceName":"api","LocalServicePort":8080}}`
	// onNode is a sidecar of a node without an agent.
	onNode = `{"Node":"n1","Address":"10.0.0.9","Service":{"Kind":"connect-proxy","ID":"web-proxy","Service":"web-proxy","Port":21000,
		"Proxy":{"DestinationServiceName":"web","LocalServicePort":8080,"Upstreams":[{"DestinationName":"api","LocalBindPort":10007}]}}}`
)

// TestConsul reads what Consul serves to a sidecar, follows a change, and reads a
// proxy that was registered with the catalog instead of an agent.
func TestConsul(t *testing.T) {
	acl := devagent.NewACL()
	agent := agenttest.Start(t, devagent.Config{ACL: acl})
	put(t, agent, "/v1/agent/service/register", web)
	put(t, agent, "/v1/agent/service/register", api)
	put(t, agent, "/v1/catalog/register", onNode)

	c := follow(t, client.Config{Address: agent.GRPC, ID: "web-proxy", Token: agent.Token})
	s := await(t, c, "first", func(s *client.Snapshot) bool { return s.Complete() && len(s.Listeners) == 2 })
	trustDomain, err := agent.TrustDomain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name := "api.default.dc1.internal." + trustDomain
	want := client.Cluster{
		Name: name, Type: "EDS", SNI: name, SANs: []string{"spiffe://" + trustDomain + "/ns/default/dc/dc1/svc/api"},
		ConnectTimeout: 5 * time.Second, Assignment: name,
	}
	if diff := cmp.Diff(want, s.Clusters[name]); diff != "" {
		t.Errorf("cluster (-want +got):\n%s", diff)
	}
	if e, _ := s.EndpointsOf(name); !cmp.Equal(e, []client.Endpoint{{Address: "10.0.0.2", Port: 21001, Health: "HEALTHY", Weight: 1}}) {
		t.Errorf("endpoints %+v", e)
	}
	if e, _ := s.EndpointsOf("local_app"); !cmp.Equal(e, []client.Endpoint{{Address: "127.0.0.1", Port: 8080, Health: "UNKNOWN", Weight: 1}}) {
		t.Errorf("the application is at %+v", e)
	}
	upstream := client.Listener{
		Name: "api:127.0.0.1:10000", Address: "127.0.0.1", Port: 10000, Chains: []client.Chain{{Targets: []string{name}}},
	}
	if diff := cmp.Diff(upstream, s.Listeners[upstream.Name]); diff != "" {
		t.Errorf("listener (-want +got):\n%s", diff)
	}

	put(t, agent, "/v1/agent/service/register", strings.Replace(api, "10.0.0.2", "10.0.0.3", 1))
	await(t, c, "a change", func(s *client.Snapshot) bool {
		e, _ := s.EndpointsOf(name)
		return len(e) == 1 && e[0].Address == "10.0.0.3"
	})

	c = follow(t, client.Config{Address: agent.GRPC, ID: "web-proxy", Node: "n1", Token: agent.Token})
	s = await(t, c, "registered with the catalog", func(s *client.Snapshot) bool { return s.Complete() && len(s.Listeners) == 2 })
	if s.Listeners["api:127.0.0.1:10007"].Port != 10007 {
		t.Errorf("listeners %+v", s.Listeners)
	}
}

// TestDenied: without the right to a service Consul ends the stream, and whoever
// waits is told why.
func TestDenied(t *testing.T) {
	agent := agenttest.Start(t, devagent.Config{ACL: devagent.NewACL()})
	put(t, agent, "/v1/agent/service/register", web)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := follow(t, client.Config{Address: agent.GRPC, ID: "web-proxy"}).Await(ctx, (*client.Snapshot).Complete)
	if err == nil || !strings.Contains(err.Error(), "PermissionDenied") {
		t.Errorf("error %v", err)
	}
}

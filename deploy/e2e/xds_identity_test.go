package e2e_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/xdsnode/client"
)

// TestXDSNodeByConsulsLeaves: a node and its clients with leaves of real Consul agents.
// Each gets its own, and goes on getting it while Consul is down.
func TestXDSNodeByConsulsLeaves(t *testing.T) {
	c := newConsulWorld(t)
	w := &xdsWorld{consulWorld: c, listen: c.dc2 + "30:9510"}
	w.startBus()
	w.startControl()
	w.node = w.role("xds.dc2", "xds", "--datacenter", "dc2", "--nats", w.nats, "--listen", w.listen, "--consul", w.agents["dc2"].HTTP)
	w.node.start(t)
	gateway, web, far := w.follow(t, "mesh-gateway", "dc2"), w.follow(t, "api", "dc2"), w.follow(t, "mesh-gateway", "dc1")
	w.newGateway("edge", 22)

	served := w.awaitClient(t, gateway)
	for name, other := range map[string]*identity.Live{"another service": web, "the same service of another datacenter": far} {
		if err := w.refusal(t, w.asClient(t, other)); !strings.Contains(err.Error(), "PermissionDenied") {
			t.Errorf("%s: %v", name, err)
		}
	}

	t.Log("Consul of dc2 stops: who is connected stays, who comes is served")
	if err := w.agents["dc2"].Stop(); err != nil {
		t.Fatal(err)
	}
	w.awaitClient(t, gateway)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := served.Await(over, func(*client.Snapshot) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Error(err) // Else the stream has ended.
	}
}

// asClient asks for the mesh gateway edge with a leaf.
func (w *xdsWorld) asClient(t *testing.T, live *identity.Live) *client.Client {
	t.Helper()
	c := client.New(client.Config{
		Address: w.listen, TLS: live.ClientConfig("", []string{w.spiffe(isthmusv1.ServiceXDS, "dc2")}, identity.Parameters{}), ID: "edge",
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return c
}

// awaitClient is a client that has the clusters of the mesh gateway edge. One that comes
// before its registration does is refused, and comes again.
func (w *xdsWorld) awaitClient(t *testing.T, live *identity.Live) (c *client.Client) {
	t.Helper()
	await(t, "it is not served", func(ctx context.Context) error {
		c = w.asClient(t, live)
		_, err := c.Await(ctx, func(s *client.Snapshot) bool { _, there := s.Clusters[w.sni("search")]; return there })
		return err
	})
	return c
}

// refusal is why a client is not served.
func (w *xdsWorld) refusal(t *testing.T, c *client.Client) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := c.Await(ctx, func(s *client.Snapshot) bool { return s.Answered() })
	if err == nil {
		t.Fatal("it is served")
	}
	return err
}

package e2e_test

import (
	"context"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// TestConsulIsUntouched: two services of dc1 go on as ever, and Consul's state of
// them does not change, while Isthmus comes, carries what is between the
// datacenters, and goes. It leaves nothing in either catalog.
func TestConsulIsUntouched(t *testing.T) {
	envoy := envoytest.Need(t)
	w := newInteropWorld(t)
	// The mode of all upstreams says nothing about those of one's own datacenter.
	w.configure("dc1", map[string]any{"Kind": "proxy-defaults", "Name": "global", "MeshGateway": map[string]any{"Mode": "local"}})
	w.provide("dc1", "stock", 11)
	w.provide("dc2", "api", 10)
	w.register("dc1", "shop", w.dc1+"10", []any{map[string]any{
		"DestinationName": "stock", "LocalBindAddress": w.dc1 + "10", "LocalBindPort": 10000,
	}})
	admin := w.dc1 + "10:19000"
	w.runConsulEnvoy("shop", envoy, w.agents["dc1"], admin, "-sidecar-for", "shop")
	stock := &target{"stock", w.upstream(10000)}
	w.awaitAnswer(stock.service, stock.url)
	before := w.awaitPicture(t, admin)
	if gateway := w.dc1 + "20"; w.known(t, "dc1", gateway) {
		t.Fatalf("Consul knows %s already", gateway)
	}
	l := startLoad(t, true, stock)
	l.more(t, settled)

	w.startIsthmus()
	w.carry(t)
	w.awaitNoted(t)
	for _, dc := range []string{"dc1", "dc2"} {
		if !w.known(t, dc, w.network(dc)+"20") {
			t.Errorf("the gateway is not in Consul's state of %s: it is not looked for where it would be", dc)
		}
	}
	l.more(t, settled)
	w.awaitSame(t, "while Isthmus runs", admin, before, true)

	for _, dc := range []string{"dc1", "dc2"} {
		w.gateways[dc].stop(t)
	}
	w.awaitSame(t, "without gateways", admin, before, false)
	for _, name := range []string{"resolver.dc1", "resolver.dc2", "watcher.dc1", "watcher.dc2", "bus"} {
		w.roles[name].stop(t)
	}
	l.more(t, settled)
	w.awaitSame(t, "without Isthmus", admin, before, false)
	for _, dc := range []string{"dc1", "dc2"} {
		for _, trace := range []string{w.network(dc) + "20", w.network(dc) + "21", "isthmus", "mesh-gateway listening"} {
			if w.known(t, dc, trace) {
				t.Errorf("Consul's state of %s still has %q", dc, trace)
			}
		}
	}
	l.verdict(t, "Isthmus came and went")
}

// carry sends a request from dc1 to dc2 through both gateways.
func (w *interopWorld) carry(t *testing.T) {
	t.Helper()
	live := w.follow(t, "web", "dc1")
	await(t, "nothing passes both gateways", func(ctx context.Context) error {
		_, err := request(ctx, w.lan("dc1"), live.ClientConfig(w.sni("api"), []string{w.spiffe("api", "dc2")}, identity.Parameters{}), "api")
		return err
	})
	for _, dc := range []string{"dc1", "dc2"} {
		counted := w.counted(t, dc)
		if t.Logf("the gateway of %s counted: %s", dc, counted); strings.Contains(counted, "stock") {
			t.Error("what stays in dc1 passes a gateway")
		}
	}
}

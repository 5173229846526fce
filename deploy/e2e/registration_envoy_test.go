package e2e_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// TestBesideAnEnvoyMeshGateway: Consul's own gateway and ours in one datacenter,
// by the same names, for a service and for a subset of it.
func TestBesideAnEnvoyMeshGateway(t *testing.T) {
	envoy := envoytest.Need(t)
	w := newRegistrationWorld(t, devagent.Config{})
	w.ask("PUT", "/v1/config", map[string]any{
		"Kind": "service-resolver", "Name": "api", "Subsets": map[string]any{"here": map[string]any{"Filter": `Service.Port == 7000`}},
	}, nil)
	ours, theirs := w.dc1+"20:8443", w.dc1+"25:8443"
	g := w.role("mg", "gateway", "--datacenter", "dc1", "--nats", w.nats, "--register", "--consul", w.agent.HTTP,
		"--address", ours, "--wan-address", ours, "--state-dir", w.path("mg"), "--drain", "1s")
	g.start(t)

	w.runConsulEnvoy("envoy-gateway", envoy, w.agent, w.dc1+"25:19000", "-gateway=mesh", "-register", "-service", "mesh-gateway",
		"-proxy-id", "envoy-gateway", "-address", theirs, "-wan-address", theirs, "-bind-address", "default="+theirs)
	for _, gateway := range w.awaitGateways("mesh-gateway", 2) {
		t.Logf("the catalog has %s on %v", gateway.Service.ID, gateway.Service.TaggedAddresses["lan"])
	}
	whole := w.sni
	for _, name := range []string{whole, "here." + whole, strings.ToUpper(whole)} {
		w.sni = name
		for which, address := range map[string]string{"ours": ours, "Envoy": theirs} {
			w.awaitServed(address)
			t.Logf("%s passes through %s", name, which)
		}
	}
	for _, gateway := range []string{"mesh-gateway", "envoy-gateway"} {
		w.awaitReport(gateway, func(r gatewayReport) bool { return r.Health == "healthy" })
	}
	out, err := run(t, "gateways", "--nats", w.nats)
	t.Logf("isthmus gateways (%v):\n%s", err, out)
	g.stop(t)
	if left := w.awaitGateways("mesh-gateway", 1)[0].Service.ID; left != "envoy-gateway" {
		t.Errorf("%s is left", left)
	}
	w.awaitServed(theirs)
}

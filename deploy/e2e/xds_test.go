package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// xdsWorld is a consulWorld with an xds node of dc2.
type xdsWorld struct {
	*consulWorld
	node *process
	// listen is where the node does.
	listen string
	// web is the identity of web in dc1.
	web *identity.Live
}

// envoyGateway is a mesh gateway of dc2 that is a real Envoy.
type envoyGateway struct {
	*xdsWorld
	id              string
	admin, lan, wan string
}

// TestEnvoyMeshGateways: real Envoys as mesh gateways, by the resources of our xds node,
// beside Go gateways and by the same names; one by each protocol.
func TestEnvoyMeshGateways(t *testing.T) {
	envoy := envoytest.Need(t)
	c := newConsulWorld(t)
	w := &xdsWorld{consulWorld: c, listen: c.dc2 + "30:9510"}
	w.startBus()
	w.startControl()
	w.startData()
	w.node = w.role("xds.dc2", "xds", "--datacenter", "dc2", "--nats", w.nats, "--listen", w.listen)
	w.node.start(t)
	w.web = w.follow(t, "web", "dc1")
	delta, whole := w.newGateway("delta", 22), w.newGateway("whole", 23)
	for g, protocol := range map[*envoyGateway]string{delta: "DELTA_GRPC", whole: "GRPC"} {
		w.runForeign(g.id, envoy, "-c", g.bootstrap(protocol), "--disable-hot-restart", "--concurrency", "1", "-l", "warning")
	}
	for _, g := range []*envoyGateway{delta, whole} {
		for _, s := range services {
			await(t, s.name+" does not pass through "+g.id, func(ctx context.Context) error { return g.pass(ctx, s.name) })
		}
	}

	w.compared("dc1", "--all")
	w.compared("dc2", "--all")
	w.compared("dc2", delta.id, "--xds", w.listen)

	// A service that goes is refused, and the others pass.
	w.call("dc2", http.MethodPut, "/v1/agent/service/deregister/search-sidecar-proxy", nil, nil)
	before := map[*envoyGateway]map[string]int{}
	for _, g := range []*envoyGateway{delta, whole} {
		await(t, "search still passes through "+g.id, func(ctx context.Context) error {
			if g.pass(ctx, "search") == nil {
				return errors.New("it does")
			}
			return nil
		})
		if err := g.pass(t.Context(), "api"); err != nil {
			t.Error(err)
		}
		before[g] = g.updates()
	}

	// Without their node the Envoys serve on; another node sends them nothing that they
	// have.
	w.node.kill(t)
	for _, g := range []*envoyGateway{delta, whole} {
		if err := g.pass(t.Context(), "api"); err != nil {
			t.Errorf("without an xds node: %v", err)
		}
	}
	w.node.start(t)
	for _, g := range []*envoyGateway{delta, whole} {
		await(t, g.id+" does not come back", func(ctx context.Context) error {
			n, err := g.stat(ctx, "control_plane.connected_state")
			if err == nil && n != 1 {
				err = errors.New("it is not connected")
			}
			return err
		})
	}
	w.register("dc2", "search", w.dc2+"13", nil)
	for _, g := range []*envoyGateway{delta, whole} {
		await(t, "what changed does not arrive at "+g.id, func(ctx context.Context) error {
			clusters, err := text(ctx, "http://"+g.admin+"/clusters")
			if err == nil && !strings.Contains(clusters, w.sni("search")) {
				err = errors.New("there is no cluster of search")
			}
			return err
		})
		g.wantReported()
		g.wantServed(w.sni("search"))
		// The cluster of search, and nothing else.
		if after := g.updates(); after["lds"] != before[g]["lds"] || after["cds"] != before[g]["cds"]+1 {
			t.Errorf("updates of %s before the node was replaced %v, after %v: it was sent what it had", g.id, before[g], after)
		}
		for _, name := range []string{"cluster_manager.cds.update_rejected", "listener_manager.lds.update_rejected"} {
			if n, err := g.stat(t.Context(), name); err != nil || n != 0 {
				t.Errorf("%s: %s is %d, %v", g.id, name, n, err)
			}
		}
	}
}

// newGateway registers a gateway that binds the addresses that it is registered with.
func (w *xdsWorld) newGateway(name string, host int) *envoyGateway {
	w.t.Helper()
	address := fmt.Sprintf("%s%d", w.dc2, host)
	tagged := map[string]any{
		"lan": map[string]any{"Address": address, "Port": 8443}, "wan": map[string]any{"Address": address, "Port": 8444},
	}
	w.call("dc2", http.MethodPut, "/v1/agent/service/register", map[string]any{
		"Kind": "mesh-gateway", "Name": "mesh-gateway", "ID": name, "Address": address, "Port": 8443, "Checks": healthy, "TaggedAddresses": tagged,
		"Proxy": map[string]any{"Config": map[string]any{"envoy_gateway_bind_tagged_addresses": true, "envoy_gateway_no_default_bind": true}},
	}, nil)
	return &envoyGateway{xdsWorld: w, id: name, admin: address + ":19000", lan: address + ":8443", wan: address + ":8444"}
}

// pass sends a request to a service through both listeners, as web.
func (g *envoyGateway) pass(ctx context.Context, service string) error {
	for _, at := range []string{g.lan, g.wan} {
		config := g.web.ClientConfig(g.sni(service), []string{g.spiffe(service, "dc2")}, identity.Parameters{})
		if _, err := request(ctx, at, config, service); err != nil {
			return fmt.Errorf("%s at %s: %w", service, at, err)
		}
	}
	return nil
}

// bootstrap is a file with what `isthmus bootstrap` prints, by a protocol.
func (g *envoyGateway) bootstrap(protocol string) string {
	g.t.Helper()
	out, err := exec.CommandContext(g.t.Context(), binary, "bootstrap", "--gateway", g.id, "--xds", g.listen, "--admin-bind", g.admin).Output()
	if err != nil {
		g.t.Fatal(err)
	}
	const printed = "DELTA_GRPC"
	if !strings.Contains(string(out), printed) {
		g.t.Fatalf("no protocol in %s", out)
	}
	path := g.path(g.id + ".json")
	if err := os.WriteFile(path, []byte(strings.Replace(string(out), printed, protocol, 1)), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// stat is a number of the Envoy's.
func (g *envoyGateway) stat(ctx context.Context, name string) (int, error) {
	answer, err := text(ctx, "http://"+g.admin+"/stats?filter=^"+name+"$")
	if err != nil {
		return 0, err
	}
	_, value, ok := strings.Cut(strings.TrimSpace(answer), ": ")
	if !ok {
		return 0, fmt.Errorf("%s is not among the Envoy's numbers: %q", name, answer)
	}
	return strconv.Atoi(value)
}

// updates are how many updates of clusters and listeners the Envoy has taken.
func (g *envoyGateway) updates() map[string]int {
	g.t.Helper()
	out := map[string]int{}
	for kind, name := range map[string]string{"cds": "cluster_manager.cds.update_success", "lds": "listener_manager.lds.update_success"} {
		n, err := g.stat(g.t.Context(), name)
		if err != nil {
			g.t.Fatal(err)
		}
		out[kind] = n
	}
	return out
}

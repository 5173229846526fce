package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// interopWorld is two federated Consul datacenters, all of whose sidecars are
// Consul's. Of Isthmus there are watchers, resolvers, and in each datacenter a
// gateway that registers itself.
type interopWorld struct {
	*consulWorld
	gateways map[string]*process
}

func newInteropWorld(t *testing.T) *interopWorld {
	t.Helper()
	return &interopWorld{consulWorld: newFederation(t), gateways: make(map[string]*process)}
}

// network is the first three numbers of a datacenter's addresses.
func (w *interopWorld) network(dc string) string {
	return map[string]string{"dc1": w.dc1, "dc2": w.dc2}[dc]
}

// lan and wan are where the gateway of a datacenter listens.
func (w *interopWorld) lan(dc string) string { return w.network(dc) + "20:8443" }
func (w *interopWorld) wan(dc string) string { return w.network(dc) + "21:8443" }

// provide runs a service behind Consul's built-in proxy.
func (w *interopWorld) provide(dc, service string, host int) {
	w.t.Helper()
	address := fmt.Sprintf("%s%d", w.network(dc), host)
	w.serve(service, address+":8080")
	w.register(dc, service, address, nil)
	w.startBuiltIn(dc, service)
}

// startIsthmus starts all of Isthmus, and waits until both gateways are in the
// catalog.
func (w *interopWorld) startIsthmus() {
	w.t.Helper()
	w.startBus()
	w.startControl()
	for _, dc := range []string{"dc1", "dc2"} {
		g := w.role("gateway."+dc, "gateway", "--datacenter", dc, "--nats", w.nats, "--register", "--consul", w.agents[dc].HTTP,
			"--address", w.lan(dc), "--wan-address", w.wan(dc), "--state-dir", w.path("state."+dc),
			"--access-log", w.path(dc+".access"), "--drain", "1s")
		g.start(w.t)
		w.gateways[dc] = g
	}
	for _, dc := range []string{"dc1", "dc2"} {
		w.awaitRegistered(dc, "mesh-gateway")
	}
}

// awaitRegistered waits until the mesh gateways of a datacenter's catalog are
// these.
func (w *interopWorld) awaitRegistered(dc string, want ...string) {
	w.t.Helper()
	await(w.t, "mesh gateways in the catalog of "+dc, func(ctx context.Context) error {
		var found []registeredGateway
		if err := w.agents[dc].Call(ctx, "GET", "/v1/health/service/mesh-gateway?passing", nil, &found); err != nil {
			return err
		}
		var ids []string
		for _, one := range found {
			ids = append(ids, one.Service.ID)
		}
		if slices.Sort(ids); !slices.Equal(ids, want) {
			return fmt.Errorf("they are %q, want %q", ids, want)
		}
		return nil
	})
}

// passage is a line of a gateway's access log.
type passage struct {
	SNI, Client, Endpoint, Reason string
	BytesOut                      int64 `json:"bytes_out"`
}

// passages are the connections to a service of dc2 that have ended after an
// answer, by the gateway that logged them.
func (w *interopWorld) passages(service string) (map[string][]passage, error) {
	out := make(map[string][]passage)
	for _, dc := range []string{"dc1", "dc2"} {
		log, err := os.ReadFile(w.path(dc + ".access"))
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(log)) {
			var p passage
			if json.Unmarshal([]byte(line), &p) == nil && p.SNI == w.sni(service) && p.BytesOut > 0 {
				out[dc] = append(out[dc], p)
			}
		}
	}
	return out, nil
}

// counted is what the gateway of a datacenter says in numbers of its routes.
func (w *interopWorld) counted(t *testing.T, dc string) string {
	t.Helper()
	metrics, err := text(t.Context(), "http://"+w.gateways[dc].admin+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "isthmus_gateway_route_connections_total{") {
			out.WriteString(line)
		}
	}
	return out.String()
}

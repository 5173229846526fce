package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
)

// TestConsulSidecarPassesOurGateways: an Envoy that Consul runs in dc1 reaches
// dc2 through gateways of ours, in both modes that use gateways. It is there
// before them, and nobody tells it of them but Consul.
func TestConsulSidecarPassesOurGateways(t *testing.T) {
	envoy := envoytest.Need(t)
	w := newInteropWorld(t)
	w.provide("dc2", "api", 10)
	w.provide("dc2", "db", 11)
	// Of api Envoy moves bytes; of db it reads requests.
	w.configure("dc1", map[string]any{"Kind": "service-defaults", "Name": "db", "Protocol": "http"})
	w.configure("dc1", map[string]any{"Kind": "proxy-defaults", "Name": "global", "MeshGateway": map[string]any{"Mode": "local"}})
	upstream := func(service string, port int) any {
		return map[string]any{
			"DestinationName": service, "Datacenter": "dc2", "LocalBindAddress": w.dc1 + "10", "LocalBindPort": port,
		}
	}
	w.register("dc1", "web", w.dc1+"10", []any{upstream("api", 10000), upstream("db", 10001)})
	admin := w.dc1 + "10:19000"
	w.runConsulEnvoy("web", envoy, w.agents["dc1"], admin, "-sidecar-for", "web")
	await(t, "Envoy has no listeners", func(ctx context.Context) error { return get(ctx, "http://"+admin+"/ready") })

	w.startIsthmus()
	upstreams := []*target{{"api", w.upstream(10000)}, {"db", w.upstream(10001)}}
	for _, to := range upstreams {
		w.awaitAnswer(to.service, to.url)
	}
	l := startLoad(t, true, upstreams...)
	// override is the config entry that gives the upstream api a mode of its own.
	override := map[string]any{"Kind": "service-defaults", "Name": "web", "UpstreamConfig": map[string]any{
		"Overrides": []any{map[string]any{"Name": "api", "MeshGateway": map[string]any{"Mode": "remote"}}},
	}}
	w.testEnvoyMode(t, l, admin, "local", "local", func() {})
	w.testEnvoyMode(t, l, admin, "remote", "local", func() { w.configure("dc1", override) })
	w.testEnvoyMode(t, l, admin, "local", "local", func() { w.call("dc1", http.MethodDelete, "/v1/config/service-defaults/web", nil, nil) })
	w.testEnvoyMode(t, l, admin, "remote", "remote", func() {
		w.configure("dc1", map[string]any{"Kind": "proxy-defaults", "Name": "global", "MeshGateway": map[string]any{"Mode": "remote"}})
	})
	l.verdict(t, "three flips of Envoy's upstreams")
	// Envoy keeps its connections to db, and ends those through dc1 once they are
	// to go through dc2 alone.
	for _, dc := range []string{"dc1", "dc2"} {
		await(t, "no connection to db has passed "+dc, func(context.Context) error {
			all, err := w.passages("db")
			if err == nil && len(all[dc]) == 0 {
				err = errors.New("none")
			}
			return err
		})
	}

	for _, dc := range []string{"dc1", "dc2"} {
		t.Logf("the gateway of %s counted:\n%s", dc, w.counted(t, dc))
		w.gateways[dc].stop(t)
		w.awaitRegistered(dc)
	}
}

// testEnvoyMode changes what Consul is configured to, and wants Envoy's upstreams
// api and db to take the ways of these modes while requests run.
func (w *interopWorld) testEnvoyMode(t *testing.T, l *load, admin, api, db string, change func()) {
	t.Helper()
	began := time.Now()
	change()
	for service, mode := range map[string]string{"api": api, "db": db} {
		// Consul tells who is in dc1 the LAN address of that gateway, and of
		// another datacenter's the WAN address.
		want := map[string]string{"local": w.lan("dc1"), "remote": w.wan("dc2")}[mode]
		await(t, "Envoy does not send "+service+" "+mode, func(ctx context.Context) error {
			got, err := envoyEndpoints(ctx, admin, w.sni(service))
			if err == nil && !slices.Equal(got, []string{want}) {
				err = fmt.Errorf("it sends to %q, want %s", got, want)
			}
			return err
		})
	}
	told := time.Since(began)
	// From then on, or once what was under way is over, all passes where it should.
	w.awaitWay(t, l, "api", api)
	t.Logf("api %s, db %s: Envoy was told after %s", api, db, told.Round(time.Millisecond))
}

// awaitWay waits until new connections to a service of dc2 pass the gateway of
// dc1 and then that of dc2, or in the mode remote that of dc2 alone.
func (w *interopWorld) awaitWay(t *testing.T, l *load, service, mode string) {
	t.Helper()
	endpoints := map[string]string{"dc1": w.wan("dc2"), "dc2": w.publicAddress(service)}
	await(t, service+" does not go "+mode, func(context.Context) error {
		before, err := w.passages(service)
		if err != nil {
			return err
		}
		asked := l.succeeded.Load()
		l.more(t, settled)
		after, err := w.passages(service)
		if err != nil {
			return err
		}
		for _, dc := range []string{"dc1", "dc2"} {
			fresh := after[dc][len(before[dc]):]
			if passed := len(fresh) > 0; passed != (dc == "dc2" || mode == "local") {
				return fmt.Errorf("%d connections passed %s", len(fresh), dc)
			}
			for _, p := range fresh {
				if p.Endpoint != endpoints[dc] {
					t.Errorf("the gateway of %s passed on %+v, want to %s", dc, p, endpoints[dc])
				}
			}
			if len(fresh) > 0 {
				t.Logf("of %d requests the gateway of %s passed on %d connections to %s like %+v",
					l.succeeded.Load()-asked, dc, len(fresh), service, fresh[len(fresh)-1])
			}
		}
		return nil
	})
}

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEnvoySidecars: every mode between real Envoys, through gateways that are ours,
// Envoys, or one of each.
func TestEnvoySidecars(t *testing.T) {
	w := newEnvoyWorld(t)
	web := w.sidecarEnvoy("dc1", "web")
	all := []*process{web}
	for _, s := range services {
		all = append(all, w.sidecarEnvoy("dc2", s.name))
	}
	w.awaitServing(t, all...)
	for _, kinds := range [][2]string{{"go", "go"}, {"go", "envoy"}, {"envoy", "envoy"}, {"envoy", "go"}} {
		t.Run(kinds[0]+" in dc1, "+kinds[1]+" in dc2", func(t *testing.T) {
			gateways := append(w.gateways("dc1", kinds[0]), w.gateways("dc2", kinds[1])...)
			for _, g := range gateways {
				if slices.Contains(g.args, "envoy") {
					w.awaitServing(t, g) // Each of two takes every other connection.
				}
			}
			for _, s := range services {
				w.awaitEndpoints(t, web, s.name, w.way(s.name, modes[s.name])...)
				w.awaitAnswer(s.name, w.upstream(s.port))
			}
			for _, mode := range []string{"remote", "none", "local"} {
				w.configure("dc1", map[string]any{"Kind": "proxy-defaults", "Name": "global", "MeshGateway": map[string]any{"Mode": mode}})
				w.awaitEndpoints(t, web, "search", w.way("search", mode)...)
				if err := (&target{"search", w.upstream(10003)}).asker(newClient(false, nil))(t.Context()); err != nil {
					t.Errorf("search in mode %s: %v", mode, err)
				}
			}
			for _, g := range gateways {
				if slices.Contains(g.args, "envoy") {
					wantNoRejection(t, g)
				}
			}
			for _, g := range gateways {
				g.stop(t)
			}
		})
	}
	wantNoRejection(t, all...)
	t.Run("intentions", func(t *testing.T) { w.testIntentions(t) })
	t.Run("rotation", func(t *testing.T) { w.testEnvoyRotation(t, all) })
	wantNoRejection(t, all...)
}

// testIntentions: who is denied is refused, and who is allowed again is served.
func (w *envoyWorld) testIntentions(t *testing.T) {
	w.gateways("dc1", "go")
	w.gateways("dc2", "go")
	w.awaitAnswer("api", w.upstream(10000))
	for _, action := range []string{"deny", "allow"} {
		w.configure("dc1", map[string]any{
			"Kind": "service-intentions", "Name": "api", "Sources": []any{map[string]any{"Name": "web", "Action": action}},
		})
		await(t, action+" does not act", func(ctx context.Context) error {
			status, body, err := w.status(ctx, http.MethodPost, w.upstream(10000))
			if (err == nil && status == http.StatusOK && body == "api") != (action == "allow") {
				return fmt.Errorf("%d %q, %w", status, body, errUnexpected)
			}
			return nil
		})
	}
}

// testEnvoyRotation replaces the root under load: every Envoy gets another leaf, by its
// secrets alone, and no request fails.
func (w *envoyWorld) testEnvoyRotation(t *testing.T, all []*process) {
	updates := func(p *process) (n int) {
		for _, name := range []string{"cluster_manager.cds.update_success", "listener_manager.lds.update_success"} {
			got, err := p.stat(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			n += got
		}
		return n
	}
	serials, before := map[*process]string{}, map[*process]int{}
	for _, p := range all {
		serial, err := p.serial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		serials[p], before[p] = serial, updates(p)
	}
	l := w.startLoad(t, true)
	l.more(t, settled)
	began := time.Now()
	w.call("dc1", http.MethodPut, "/v1/connect/ca/configuration", map[string]any{
		"Provider": "consul", "Config": map[string]any{"PrivateKeyType": "ec", "PrivateKeyBits": 384},
	}, nil)
	await(t, "leaves are not renewed", func(ctx context.Context) error {
		for _, p := range all {
			if serial, err := p.serial(ctx); err != nil || serial == serials[p] {
				return fmt.Errorf("%s has its old leaf, %w", p.name, errUnexpected)
			}
		}
		return nil
	})
	took := time.Since(began)
	l.more(t, settled)
	l.verdict(t, "root replaced, all Envoys with new leaves after %s", took.Round(time.Millisecond))
	for _, p := range all {
		if n := updates(p); n != before[p] {
			t.Errorf("%s took %d updates of clusters and listeners: a rotation is one of secrets", p.name, n-before[p])
		}
	}
}

// serial is that of the leaf that an Envoy shows.
func (p *process) serial(ctx context.Context) (string, error) {
	answer, err := text(ctx, "http://"+p.admin+"/certs")
	if err != nil {
		return "", err
	}
	_, chain, _ := strings.Cut(answer, `"cert_chain"`)
	_, serial, ok := strings.Cut(chain, `"serial_number": "`)
	if !ok {
		return "", fmt.Errorf("%s shows no certificate: %w", p.name, errUnexpected)
	}
	serial, _, _ = strings.Cut(serial, `"`)
	return serial, nil
}

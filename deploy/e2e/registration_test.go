package e2e_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// TestGatewayRegistersItself: in the catalog while it serves, again when the
// agent has lost it, and no longer when it was told to stop.
func TestGatewayRegistersItself(t *testing.T) {
	w := newRegistrationWorld(t, devagent.Config{})
	lan, wan := w.dc1+"20:8443", w.dc1+"21:8443"
	g := w.role("mg", "gateway", "--datacenter", "dc1", "--nats", w.nats, "--register", "--consul", w.agent.HTTP,
		"--address", lan, "--wan-address", wan, "--state-dir", w.path("mg"), "--drain", "3s")
	g.start(t)
	w.awaitServed(lan)
	kept := w.awaitServed(wan)

	one := w.awaitGateways("mesh-gateway", 1)[0]
	got := fmt.Sprint(one.Service.Kind, " ", one.Service.ID, " ", one.Service.TaggedAddresses["lan"], " ", one.Service.TaggedAddresses["wan"])
	if want := fmt.Sprintf("mesh-gateway mesh-gateway {%s20 8443} {%s21 8443}", w.dc1, w.dc1); got != want {
		t.Errorf("the catalog has %s, want %s", got, want)
	}
	w.awaitCheck("mesh-gateway", "passing")
	report := w.awaitReport("mesh-gateway", func(g gatewayReport) bool {
		return g.State == "serving" && g.Health == "healthy" && len(g.Problems) == 0
	})
	t.Logf("registered: %s; isthmus gateways: %+v", got, report)

	t.Run("the agent forgets", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := w.agent.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		restarted := time.Now()
		w.awaitGateways("mesh-gateway", 1)
		t.Logf("registered again %s after the agent, with an empty state, was ready", time.Since(restarted).Round(time.Millisecond))
		w.awaitCheck("mesh-gateway", "passing")
		if err := echo(kept); err != nil {
			t.Errorf("the connection from before: %v", err)
		}
	})
	t.Run("another kind has the ID", func(t *testing.T) {
		w.ask("PUT", "/v1/agent/service/register", map[string]any{"ID": "taken", "Name": "somebody", "Port": 1}, nil)
		out, err := run(t, "gateway", "--datacenter", "dc1", "--nats", w.nats, "--register", "--consul", w.agent.HTTP,
			"--address", w.dc1+"22:8443", "--proxy-id", "taken")
		if err == nil || !strings.Contains(out, "taken is a typical service named somebody") {
			t.Errorf("it ended with %v:\n%s", err, out)
		}
	})
	t.Run("a clean stop", func(t *testing.T) {
		stopped := time.Now()
		ended := make(chan struct{})
		go func() { defer close(ended); g.stop(t) }()
		w.awaitGateways("mesh-gateway", 0)
		gone := time.Since(stopped)
		if err := echo(kept); err != nil {
			t.Errorf("a connection is cut before the drain is over: %v", err)
		}
		_ = kept.Close()
		<-ended
		t.Logf("deregistered after %s, ended after %s", gone.Round(time.Millisecond), time.Since(stopped).Round(time.Millisecond))
	})
}

// awaitCheck waits until the gateway's own check says so.
func (w *registrationWorld) awaitCheck(name, status string) {
	w.t.Helper()
	await(w.t, "the gateway's check", func(ctx context.Context) error {
		all, err := w.gateways(ctx, name)
		if err != nil || len(all) == 0 {
			return fmt.Errorf("%d gateways: %w", len(all), err)
		}
		for _, c := range all[0].Checks {
			if c.Name == "mesh-gateway listening" && c.Status == status {
				return nil
			}
		}
		return fmt.Errorf("%+v", all[0].Checks)
	})
}

// TestGatewayStaysRegisteredAtAHandOver: the successor has the registration.
func TestGatewayStaysRegisteredAtAHandOver(t *testing.T) {
	w := newRegistrationWorld(t, devagent.Config{})
	lan := w.dc1 + "20:8443"
	state := w.path("mg")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	first := w.role("mg", "gateway", "--datacenter", "dc1", "--nats", w.nats, "--register", "--consul", w.agent.HTTP,
		"--address", lan, "--state-dir", state, "--handover", state+"/socket", "--drain", "1s")
	first.start(t)
	w.awaitServed(lan)
	w.awaitGateways("mesh-gateway", 1)
	next := *first
	next.admin = w.role("successor").admin
	next.start(t)
	first.awaitEnd(t)
	w.awaitServed(lan)
	w.awaitGateways("mesh-gateway", 1)
	next.stop(t)
	w.awaitGateways("mesh-gateway", 0)
}

// registerGateway writes the registration of a gateway that does not register
// itself.
func (w *registrationWorld) registerGateway(config map[string]any) {
	w.t.Helper()
	w.ask("PUT", "/v1/agent/service/register", map[string]any{
		"Kind": "mesh-gateway", "ID": "mg", "Name": "mesh-gateway", "Address": w.dc1 + "30", "Port": 8443,
		"TaggedAddresses": map[string]any{
			"lan": map[string]any{"Address": w.dc1 + "30", "Port": 8443}, "wan": map[string]any{"Address": w.dc1 + "31", "Port": 8443},
		},
		"Proxy": map[string]any{"Config": config},
	}, nil)
}

// TestGatewayRunsByItsRegistration: binds are those of the registration, and
// follow it while connections stay; flags win; what is not honoured is listed.
func TestGatewayRunsByItsRegistration(t *testing.T) {
	w := newRegistrationWorld(t, devagent.Config{})
	g := w.role("mg", "gateway", "--datacenter", "dc1", "--nats", w.nats, "--proxy-id", "mg", "--state-dir", w.path("mg"),
		"--drain", "1s")
	g.launch(t)
	await(t, "it does not say what it waits for", func(context.Context) error {
		if text, _ := os.ReadFile(g.logFile); !strings.Contains(string(text), "no gateway mg is registered") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	w.registerGateway(map[string]any{
		"envoy_gateway_no_default_bind": true, "envoy_stats_flush_interval": "5s", "connect_timeout_ms": "soon",
		"envoy_gateway_bind_addresses": map[string]any{"a": map[string]any{"address": w.dc1 + "32", "port": 8443}},
	})
	g.awaitReady(t)
	first := w.awaitServed(w.dc1 + "32:8443")
	report := w.awaitReport("mg", func(r gatewayReport) bool { return len(r.NotHonoured) > 0 && len(r.Problems) > 0 })
	if !slices.Contains(report.NotHonoured, "envoy_stats_flush_interval") || report.Problems[0].Code != "INVALID_SETTING" {
		t.Errorf("isthmus gateways says %+v", report)
	}
	text, err := run(t, "gateways", "--nats", w.nats)
	t.Logf("isthmus gateways (%v):\n%s", err, text)

	w.registerGateway(map[string]any{"envoy_gateway_bind_tagged_addresses": true})
	w.awaitServed(w.dc1 + "30:8443")
	second := w.awaitServed(w.dc1 + "31:8443")
	w.awaitRefused(w.dc1 + "32:8443")
	if err := echo(first); err != nil {
		t.Errorf("the connection at the address that was removed: %v", err)
	}
	w.registerGateway(map[string]any{
		"envoy_gateway_no_default_bind": true,
		"envoy_gateway_bind_addresses":  map[string]any{"all": map[string]any{"address": "0.0.0.0", "port": 18443}},
	})
	w.awaitServed(w.dc1 + "33:18443")
	w.awaitRefused(w.dc1 + "30:8443")
	for _, kept := range []net.Conn{first, second} {
		if err := echo(kept); err != nil {
			t.Errorf("a connection from before: %v", err)
		}
	}
	report = w.awaitReport("mg", func(r gatewayReport) bool { return len(r.NotHonoured) == 0 && len(r.Problems) == 0 })
	t.Logf("%+v", report)

	t.Run("without a bus", func(t *testing.T) {
		g.stop(t)
		w.bus.kill(t)
		g.start(w.t)
		w.awaitServed(w.dc1 + "33:18443")
		w.bus.start(w.t)
	})
	t.Run("flags win", func(t *testing.T) {
		flags := w.role("flags", "gateway", "--datacenter", "dc1", "--nats", w.nats, "--proxy-id", w.agent.Node+"/mg",
			"--listen", w.dc1+"34:8443", "--name", "flags", "--connect-timeout", "1s")
		g.stop(t)
		flags.start(t)
		w.awaitServed(w.dc1 + "34:8443")
		w.awaitRefused(w.dc1 + "33:18443")
		report := w.awaitReport("mg", func(r gatewayReport) bool {
			return slices.Contains(r.NotHonoured, "envoy_gateway_bind_addresses (--listen wins)")
		})
		t.Logf("%+v", report)
	})
}

// awaitRefused waits until nobody listens at an address.
func (w *registrationWorld) awaitRefused(address string) {
	w.t.Helper()
	await(w.t, address+" is still listened on", func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
			return fmt.Errorf("connected")
		}
		return nil
	})
}

// token makes a token with these rules, and the file that holds it.
func (w *registrationWorld) token(name, rules string) string {
	w.t.Helper()
	w.ask("PUT", "/v1/acl/policy", map[string]any{"Name": name, "Rules": rules}, nil)
	var token struct{ SecretID string }
	w.ask("PUT", "/v1/acl/token", map[string]any{"Policies": []any{map[string]any{"Name": name}}}, &token)
	file := w.path(name + ".token")
	if err := os.WriteFile(file, []byte(token.SecretID), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// TestGatewayNeedsServiceWrite: with default deny, that right alone is enough,
// and without it the error names it.
func TestGatewayNeedsServiceWrite(t *testing.T) {
	w := newRegistrationWorld(t, devagent.Config{ACL: devagent.NewACL()})
	register := func(lan, token string) []string {
		return []string{
			"gateway", "--datacenter", "dc1", "--nats", w.nats, "--register", "--consul", w.agent.HTTP, "--address", lan,
			"--service", "edge", "--consul-token-file", token, "--state-dir", w.path("edge"), "--drain", "1s",
		}
	}
	out, err := run(t, register(w.dc1+"20:8443", w.token("reader", `service_prefix "" { policy = "read" }`))...)
	if err == nil || !strings.Contains(out, `the token may not register the gateway: it needs service:write on "edge"`) {
		t.Errorf("without the right it ended with %v:\n%s", err, out)
	}
	t.Logf("without the right:\n%s", out[max(0, strings.Index(out, "isthmus: ")):])
	g := w.role("edge", register(w.dc1+"20:8443", w.token("writer", `service "edge" { policy = "write" }`))...)
	g.start(t)
	w.awaitServed(w.dc1 + "20:8443")
	w.awaitGateways("edge", 1)
	g.stop(t)
	w.awaitGateways("edge", 0)
}

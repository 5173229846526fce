package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/identity"
)

// TestConsulDatacenters: everything beside two real Consul datacenters.
func TestConsulDatacenters(t *testing.T) {
	w := newConsulWorld(t)
	w.nats = "nats://" + w.dc1 + "100:4222" // It will be there.
	web := w.sidecar("dc1", "web")
	web.launch(t)
	w.awaitWaiting(t, web)
	w.startBus()
	w.startControl()
	w.startData()
	web.awaitReady(t)

	t.Run("modes", w.testConsulModes)
	t.Run("the built-in proxy", w.testBuiltIn)
	t.Run("root rotation", w.testConsulRotation)
	t.Run("agent away", w.testAgentAway)
}

// awaitWaiting waits until a process has said what it waits for.
func (w *consulWorld) awaitWaiting(t *testing.T, p *process) {
	t.Helper()
	await(t, p.name+" does not say what it waits for", func(ctx context.Context) error {
		if get(ctx, "http://"+p.admin+"/readyz") == nil {
			t.Fatal("ready without a bus")
		}
		text, err := os.ReadFile(p.logFile)
		if err == nil && !strings.Contains(string(text), "msg=waiting") {
			err = errors.New("nothing said")
		}
		return err
	})
}

// testConsulModes: each mode takes its path, and a changed config entry another.
func (w *consulWorld) testConsulModes(t *testing.T) {
	paths := map[string]string{"remote": "remote-gateway", "local": "local-gateway", "none": "direct", "": "local-gateway"}
	for _, s := range services {
		c := w.awaitPath(t, s.name, s.port, paths[modes[s.name]])
		if want := w.spiffe(s.name, "dc2"); c.Peer != want {
			t.Errorf("%s is %s, want %s", s.name, c.Peer, want)
		}
		t.Logf("%s goes %s to %s", s.name, c.Path, c.Endpoint)
	}
	l := w.startLoad(t, true)
	l.more(t, settled)
	for _, mode := range []string{"remote", "none", "local"} {
		began := time.Now()
		w.configure("dc1", map[string]any{"Kind": "proxy-defaults", "Name": "global", "MeshGateway": map[string]any{"Mode": mode}})
		w.awaitPath(t, "search", 10003, paths[mode])
		t.Logf("proxy-defaults %s: first seen after %s", mode, time.Since(began).Round(time.Millisecond))
	}
	l.more(t, settled)
	l.verdict(t, "three flips")
}

// testBuiltIn: Consul's own proxy receives what comes through our gateways.
func (w *consulWorld) testBuiltIn(t *testing.T) {
	c := w.awaitPath(t, builtIn, builtInPort, "remote-gateway")
	if want := w.spiffe(builtIn, "dc2"); c.Peer != want {
		t.Errorf("the built-in proxy is %s, want %s", c.Peer, want)
	}
	live := w.follow(t, "web", "dc1")
	await(t, "nothing reaches the built-in proxy through a gateway", func(ctx context.Context) error {
		_, err := request(ctx, w.dc2+"20:8444", live.ClientConfig(w.sni(builtIn), []string{w.spiffe(builtIn, "dc2")}, identity.Parameters{}), builtIn)
		return err
	})
}

// testConsulRotation replaces the root under load: every sidecar gets another leaf,
// and no connection fails. Agents spread the new leaves over 30 s.
func (w *consulWorld) testConsulRotation(t *testing.T) {
	live := w.follow(t, "web", "dc1")
	serials := func(ctx context.Context) (map[string]string, error) {
		out := make(map[string]string)
		for _, s := range services {
			config := live.ClientConfig(w.sni(s.name), []string{w.spiffe(s.name, "dc2")}, identity.Parameters{})
			serial, err := request(ctx, w.dc2+"20:8444", config, s.name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			out[s.name] = serial
		}
		return out, nil
	}
	before, err := serials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := w.startLoad(t, true)
	l.more(t, settled)
	began := time.Now()
	w.call("dc1", http.MethodPut, "/v1/connect/ca/configuration", map[string]any{
		"Provider": "consul", "Config": map[string]any{"PrivateKeyType": "ec", "PrivateKeyBits": 384},
	}, nil)
	await(t, "leaves are not renewed", func(ctx context.Context) error {
		now, err := serials(ctx)
		if err != nil {
			t.Fatalf("refused while the root is replaced: %v", err)
		}
		for service, serial := range now {
			if serial == before[service] {
				return fmt.Errorf("%s has its old leaf", service)
			}
		}
		return nil
	})
	took := time.Since(began)
	if n := strings.Count(string(live.Current().RootsPEM()), "BEGIN"); n != 2 {
		t.Errorf("%d roots are trusted, want the old one and the new one", n)
	}
	l.more(t, settled)
	l.verdict(t, "root replaced, all of dc2 with new leaves after %s", took.Round(time.Millisecond))
}

// testAgentAway: an agent's death takes nothing from who has a leaf.
func (w *consulWorld) testAgentAway(t *testing.T) {
	l := w.startLoad(t, true)
	l.more(t, settled)
	w.agents["dc2"].Kill()
	l.more(t, settled)
	l.verdict(t, "the agent of dc2 killed")
}

// TestDevBesideConsul: one command runs all that is registered here, but what runs
// already, and stops when it is asked to.
func TestDevBesideConsul(t *testing.T) {
	w := newConsulWorld(t)
	t.Setenv("XDG_RUNTIME_DIR", w.path("run"))
	w.startBuiltIn("dc2", builtIn)
	builtInAddress := w.publicAddress(builtIn)
	await(t, "the built-in proxy does not listen", func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", builtInAddress)
		if err == nil {
			conn.Close()
		}
		return err
	})
	dev := w.role("dev", "dev", "--consul", fmt.Sprintf("dc1=%s,DC2=%s", w.agents["dc1"].HTTP, w.agents["dc2"].HTTP))
	dev.start(t)
	for _, s := range services {
		w.awaitAnswer(s.name, w.upstream(s.port))
	}
	w.awaitAnswer(builtIn, w.upstream(builtInPort))
	l := w.startLoad(t, true)
	l.more(t, settled)
	l.verdict(t, "dev beside Consul")
	dev.stop(t)
	text, err := os.ReadFile(dev.logFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"gateway   dc1-server/mesh-gateway-1", w.dc2 + "20:8443, " + w.dc2 + "20:8444", "sidecar   dc2-server/api-sidecar-proxy",
		"web → db@dc2", "left out  sidecar dc2-server/" + builtIn + "-sidecar-proxy: an address of the catalog cannot be had: " + builtInAddress,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("dev does not say %q", want)
		}
	}
	t.Logf("dev said:\n%s", text)
}

// publicAddress is where a sidecar of dc2 is registered.
func (w *consulWorld) publicAddress(service string) string {
	w.t.Helper()
	var proxy struct {
		Address string
		Port    int
	}
	w.call("dc2", http.MethodGet, "/v1/agent/service/"+service+"-sidecar-proxy", nil, &proxy)
	return fmt.Sprintf("%s:%d", proxy.Address, proxy.Port)
}

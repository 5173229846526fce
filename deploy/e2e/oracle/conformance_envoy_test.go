package oracle_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
	"github.com/isthmus-mesh/isthmus/xdsnode/sds"
)

// envoy is one that runs until its test ends.
type envoy struct {
	// admin is the URL of its admin server.
	admin string
	// ended is closed when it has ended.
	ended chan struct{}
	// baseID is the file with what it shares with those that take over from it, of which
	// each has the next epoch.
	baseID string
	epoch  int
}

// startEnvoy runs a real Envoy, by a bootstrap; after another one, it takes over its
// sockets, and that drains and ends.
func startEnvoy(t *testing.T, binary, name string, bootstrap []byte, after *envoy) *envoy {
	t.Helper()
	dir := t.TempDir()
	config, admin := filepath.Join(dir, "envoy.json"), filepath.Join(dir, "admin")
	if err := os.WriteFile(config, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "envoy.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	e := &envoy{ended: make(chan struct{}), baseID: filepath.Join(dir, "base-id")}
	args := []string{
		"-c", config, "--concurrency", "1", "-l", "warning", "--admin-address-path", admin, "--drain-time-s", "1", "--parent-shutdown-time-s", "3",
	}
	if after == nil {
		args = append(args, "--use-dynamic-base-id", "--base-id-path", e.baseID)
	} else {
		id, err := os.ReadFile(after.baseID)
		if err != nil {
			t.Fatal(err)
		}
		e.baseID, e.epoch = after.baseID, after.epoch+1
		args = append(args, "--base-id", strings.TrimSpace(string(id)), "--restart-epoch", strconv.Itoa(e.epoch))
	}
	command := exec.Command(binary, args...) //nolint:noctx // It ends with the test.
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(e.ended)
		_ = command.Wait()
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-e.ended
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("the Envoy of %s logged:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	untilSo(t, "the Envoy of "+name+" does not start", func(ctx context.Context) error {
		select {
		case <-e.ended:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("the Envoy of %s ended:\n%s", name, text)
		default:
		}
		at, err := os.ReadFile(admin)
		if err != nil {
			return err
		}
		e.admin = "http://" + string(at)
		_, err = e.ask(ctx, "/ready")
		return err
	})
	return e
}

// ask is what the Envoy's admin server answers.
func (e *envoy) ask(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.admin+path, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, answer.Status, text)
	}
	return text, err
}

// loaded is what the Envoy runs of what it was served.
func (e *envoy) loaded(ctx context.Context) (compare.Set, error) {
	text, err := e.ask(ctx, "/config_dump?include_eds")
	if err != nil {
		return nil, err
	}
	return compare.Dump(text)
}

// refused says what the Envoy has refused; empty: nothing.
func (e *envoy) refused(ctx context.Context) (string, error) {
	text, err := e.ask(ctx, "/stats?filter=update_rejected$&usedonly")
	var out []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, ": 0") {
			out = append(out, line)
		}
	}
	return strings.Join(out, ", "), err
}

// theirEnvoy runs what Consul configures, as `consul connect envoy` does.
func (w *world) theirEnvoy(t *testing.T, binary string, proxy instance, after *envoy) *envoy {
	t.Helper()
	args := []string{"connect", "envoy", "-bootstrap", "-proxy-id", proxy.id, "-http-addr", w.dc1.HTTP, "-grpc-addr", w.dc1.GRPC,
		"-envoy-binary", binary, "-ignore-envoy-compatibility", "-admin-bind", "127.0.0.1:0"}
	if proxy.fields["Kind"] == "mesh-gateway" {
		args = append(args, "-gateway=mesh")
	}
	if proxy.node != "" {
		args = append(args, "-node-name", proxy.node)
	}
	command := exec.CommandContext(t.Context(), agenttest.Need(t), args...)
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return startEnvoy(t, binary, proxy.id+", by Consul", out, after)
}

// ourEnvoy runs what our xds node configures, as `isthmus envoy` does.
func (w *world) ourEnvoy(t *testing.T, binary string, proxy instance, node bootstrap.HostPort, after *envoy) *envoy {
	t.Helper()
	config := bootstrap.Config{
		ID: proxy.id, Node: proxy.node, Datacenter: "dc1", TrustDomain: w.trustDomain, Nodes: []bootstrap.HostPort{node}, PlainText: true,
		Admin: netip.MustParseAddrPort("127.0.0.1:0"),
	}
	if settings, ok := proxy.fields["Proxy"].(object); ok && proxy.fields["Kind"] == "connect-proxy" {
		config.Service, _ = settings["DestinationServiceName"].(string)
		config.SDS = w.secrets(t, config.Service)
	}
	out, err := bootstrap.Render(config)
	if err != nil {
		t.Fatal(err)
	}
	return startEnvoy(t, binary, proxy.id+", by us", out, after)
}

// secrets serves a service's certificate and the roots until the test ends, as `isthmus
// sds` does, and returns the socket.
func (w *world) secrets(t *testing.T, service string) string {
	t.Helper()
	agent, err := consul.Open(consul.Options{Address: w.dc1.HTTP, Environment: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Close)
	dir, err := os.MkdirTemp("", "sds") // The test's own may be too long for a socket.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := sds.Listen(filepath.Join(dir, "sds.sock"))
	if err != nil {
		t.Fatal(err)
	}
	live := identity.NewLive(nil)
	server := sds.NewServer(live, nil)
	part(t, "the secrets of "+service, func(ctx context.Context) error { return server.Serve(ctx, listener) })
	part(t, "the leaf of "+service, func(ctx context.Context) error {
		name := identity.Name{Service: &isthmusv1.ServiceRef{Name: service}, Datacenter: "dc1"}
		return agent.Leaves().Follow(ctx, name, live.Take)
	})
	return filepath.Join(dir, "sds.sock")
}

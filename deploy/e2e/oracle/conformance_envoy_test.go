package oracle_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// envoy is one that runs until its test ends.
type envoy struct {
	// admin is the URL of its admin server.
	admin string
}

// startEnvoy runs a real Envoy, by a bootstrap.
func startEnvoy(t *testing.T, binary, name string, bootstrap []byte) *envoy {
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
	command := exec.Command(binary, "-c", config, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning", //nolint:noctx // It ends with the test.
		"--admin-address-path", admin)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait()
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("the Envoy of %s logged:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	e := &envoy{}
	untilSo(t, "the Envoy of "+name+" does not start", func(ctx context.Context) error {
		select {
		case <-ended:
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
func (w *world) theirEnvoy(t *testing.T, binary string, proxy instance) *envoy {
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
	return startEnvoy(t, binary, proxy.id+", by Consul", out)
}

// ourEnvoy runs what our xds node configures, as `isthmus envoy` does.
func (w *world) ourEnvoy(t *testing.T, binary string, proxy instance, node bootstrap.HostPort) *envoy {
	t.Helper()
	out, err := bootstrap.Render(bootstrap.Config{ID: proxy.id, Node: proxy.node, Nodes: []bootstrap.HostPort{node}})
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := json.Unmarshal(out, &whole); err != nil {
		t.Fatal(err)
	}
	whole["admin"] = object{"address": object{"socket_address": object{"address": "127.0.0.1", "port_value": 0}}}
	if out, err = json.Marshal(whole); err != nil {
		t.Fatal(err)
	}
	return startEnvoy(t, binary, proxy.id+", by us", out)
}

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// TestSecretsOfAnEnvoyThatOthersStart: "isthmus sds" gives a plain Envoy, with what
// "isthmus bootstrap" prints, the leaf of the sidecar's service, a new one when the root
// is replaced, and goes on doing so while Consul is gone.
func TestSecretsOfAnEnvoyThatOthersStart(t *testing.T) {
	envoy := envoytest.Need(t)
	w := &registrationWorld{agent: agenttest.Start(t, devagent.Config{})}
	w.world = &world{t: t, dir: t.TempDir(), roles: make(map[string]*process), dc1: fmt.Sprintf("127.248.%d.", os.Getpid()%250)}
	w.ask("PUT", "/v1/agent/service/register", map[string]any{
		"ID": "web-1", "Name": "web", "Port": 80, "Connect": map[string]any{"SidecarService": map[string]any{}},
	}, nil)
	trustDomain, err := w.agent.TrustDomain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	socket := w.path("s")
	w.role("sds", "sds", "--for", "web-1-sidecar-proxy", "--consul", w.agent.HTTP, "--socket", socket).start(t)
	start := func(name string, host int) (admin string) {
		admin = fmt.Sprintf("%s%d:19000", w.dc1, host)
		text, err := exec.CommandContext(t.Context(), binary, "bootstrap", "--sidecar-for", "web-1", "--service", "web", "--sds", socket, "--datacenter", "dc1",
			"--trust-domain", trustDomain, "--xds", w.dc1+"99:9510", "--admin-bind", admin).Output()
		if err != nil {
			t.Fatal(err)
		}
		file := w.path(name + ".json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		w.runForeign(name, envoy, "-c", file, "--disable-hot-restart", "--concurrency", "1", "-l", "warning")
		return admin
	}
	// serial is the leaf's, once it is that of web and not the one before.
	serial := func(admin, before string) (now string) {
		await(t, "the leaf of web", func(ctx context.Context) error {
			answer, err := text(ctx, "http://"+admin+"/certs")
			if err != nil {
				return err
			}
			var parsed struct {
				Certificates []struct {
					Chain []struct {
						Serial string              `json:"serial_number"`
						Names  []map[string]string `json:"subject_alt_names"`
					} `json:"cert_chain"`
				}
			}
			if err := json.Unmarshal([]byte(answer), &parsed); err != nil {
				return err
			}
			if len(parsed.Certificates) != 1 || len(parsed.Certificates[0].Chain) == 0 || parsed.Certificates[0].Chain[0].Serial == before {
				return errors.New("it has " + answer)
			}
			leaf := parsed.Certificates[0].Chain[0]
			if got := fmt.Sprint(leaf.Names); !strings.Contains(got, "spiffe://"+trustDomain+"/ns/default/dc/dc1/svc/web]") {
				t.Errorf("the leaf is that of %s", got)
			}
			now = leaf.Serial
			return nil
		})
		return now
	}
	first := start("envoy-1", 20)
	before := serial(first, "")
	w.ask("PUT", "/v1/connect/ca/configuration", map[string]any{
		"Provider": "consul", "Config": map[string]any{"PrivateKeyType": "ec", "PrivateKeyBits": 384},
	}, nil)
	renewed := serial(first, before)

	w.agent.Kill()
	second := start("envoy-2", 21)
	if got := serial(second, ""); got != renewed {
		t.Errorf("without Consul it has the leaf %s, and should have %s", got, renewed)
	}
}

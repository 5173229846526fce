package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// comparedCatalog is what the agent of the test has, as files.
const comparedCatalog = `
service {
  id = "web-sidecar-proxy"
  name = "web-sidecar-proxy"
  kind = "connect-proxy"
  port = 21000
  address = "10.0.0.1"
  proxy {
    destination_service_name = "web"
    local_service_port = 8080
    upstreams {
      destination_name = "api"
      local_bind_port = PORT
    }
  }
}
service {
  id = "api-sidecar-proxy"
  name = "api-sidecar-proxy"
  kind = "connect-proxy"
  port = 21001
  address = "10.0.0.2"
  proxy {
    destination_service_name = "api"
    local_service_port = 8080
  }
}
service {
  name = "api"
  port = 8080
  address = "10.0.0.2"
}
service {
  name = "web"
  port = 8080
  address = "10.0.0.1"
}
service {
  name = "gateway"
  kind = "mesh-gateway"
  port = 8443
  address = "10.0.0.3"
}
`

// register registers with an agent.
func register(t *testing.T, agent *devagent.Agent, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, agent.HTTP+"/v1/agent/service/register", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Consul-Token", agent.Token)
	answer, err := (&http.Client{}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", body, answer.Status)
	}
}

// TestCompare: what a real agent serves to its proxies and what files come to are the
// same, but for what is intended; what is not ends in exit code 1.
func TestCompare(t *testing.T) {
	ca, err := devagent.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	agent := agenttest.Start(t, devagent.Config{ACL: devagent.NewACL(), Node: "dc1-server", CA: ca})
	for _, body := range []string{
		`{"Kind":"connect-proxy","ID":"web-sidecar-proxy","Name":"web-sidecar-proxy","Port":21000,"Address":"10.0.0.1",
			"Proxy":{"DestinationServiceName":"web","LocalServicePort":8080,"Upstreams":[{"DestinationName":"api","LocalBindPort":10000}]}}`,
		`{"Kind":"connect-proxy","ID":"api-sidecar-proxy","Name":"api-sidecar-proxy","Port":21001,"Address":"10.0.0.2","Proxy":{"DestinationServiceName":"api","LocalServicePort":8080}}`,
		`{"ID":"web","Name":"web","Port":8080,"Address":"10.0.0.1"}`,
		`{"ID":"api","Name":"api","Port":8080,"Address":"10.0.0.2"}`,
		`{"Kind":"mesh-gateway","ID":"gateway","Name":"gateway","Port":8443,"Address":"10.0.0.3"}`,
	} {
		register(t, agent, body)
	}
	trustDomain, err := agent.TrustDomain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(agent.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(port string, args ...string) (found []compared, text string, code int) {
		t.Helper()
		catalog := t.TempDir()
		host, _, _ := strings.Cut(agent.LAN, ":")
		node := filepath.Join(catalog, "dc1", "dc1-server")
		if err := os.MkdirAll(node, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"agent.hcl":    `node_name = "dc1-server"` + "\n" + `advertise_addr = "` + host + `"` + "\n" + `default_intention_policy = "deny"`,
			"services.hcl": strings.ReplaceAll(comparedCatalog, "PORT", port),
		} {
			if err := os.WriteFile(filepath.Join(node, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var out, problems bytes.Buffer
		args = append([]string{
			"compare", "--consul", agent.HTTP, "--consul-token-file", token, "--catalog", catalog, "--trust-domain", trustDomain,
		}, args...)
		code = newApp(&out, &problems, func(string) string { return "" }).main(t.Context(), args)
		if slices.Contains(args, "json") {
			if err := json.Unmarshal(out.Bytes(), &found); err != nil {
				t.Fatalf("%v: %s%s", err, out.String(), problems.String())
			}
		}
		return found, out.String() + problems.String(), code
	}

	found, text, code := ask("10000", "--all", "-o", "json")
	if code != exitOK || len(found) != 3 {
		t.Fatalf("exit code %d: %s", code, text)
	}
	for i, want := range []struct {
		proxy string
		rows  []string
	}{{"dc1-server/api-sidecar-proxy", nil}, {"dc1-server/gateway", []string{compare.DeadEndpoints}}, {"dc1-server/web-sidecar-proxy", nil}} {
		var rows []string
		for _, d := range found[i].Differences {
			rows = append(rows, d.Intended)
		}
		slices.Sort(rows)
		if rows = slices.Compact(rows); found[i].Proxy != want.proxy || !slices.Equal(rows, want.rows) {
			t.Errorf("proxy %d: %+v", i, found[i])
		}
	}

	_, text, code = ask("10000", "web-sidecar-proxy", "--consul-xds", "https://"+agent.GRPCTLS, "--consul-ca-file", agent.CAFile)
	if code != exitOK || !strings.Contains(text, "1 proxy: 1 without a difference") {
		t.Errorf("by TLS: exit code %d: %s", code, text)
	}
	_, text, code = ask("10001", "web-sidecar-proxy", "--patience", "500ms")
	for _, want := range []string{"api:127.0.0.1:10001", "1 proxy: 0 without a difference; 0 differences intended, 2 not"} {
		if code != exitFailure || !strings.Contains(text, want) {
			t.Errorf("exit code %d, no %q in: %s", code, want, text)
		}
	}
	_, text, code = ask("10000", "unheard-of")
	if code != exitFailure || !strings.Contains(text, "unheard-of cannot be compared: unheard-of: the datacenter has no such proxy") {
		t.Errorf("exit code %d: %s", code, text)
	}
	_, text, code = ask("10000")
	if code != exitUsage || !strings.Contains(text, "wanted: PROXY, or --all") {
		t.Errorf("exit code %d: %s", code, text)
	}
}

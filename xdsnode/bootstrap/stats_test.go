package bootstrap_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
)

// What the name of a cluster comes to as tags, in a trust domain of Consul's form, and
// in another one that the bootstrap knows.
var tagged = map[string]string{
	"web.default.dc1.internal.TD":                            "service=web namespace=default datacenter=dc1 routing_type=internal trust_domain=TD target=web.default.dc1 full_target=web.default.dc1.internal.TD",
	"v2.web.default.dc1.internal.TD":                         "service_subset=v2 service=web namespace=default datacenter=dc1 routing_type=internal trust_domain=TD target=v2.web.default.dc1 full_target=v2.web.default.dc1.internal.TD",
	"c225dc1c~web.default.dc1.internal.TD":                   "custom_hash=c225dc1c service=web namespace=default datacenter=dc1 routing_type=internal trust_domain=TD target=web.default.dc1 full_target=web.default.dc1.internal.TD",
	"failover-target~1~v2.web.default.dc2.internal.TD":       "service_subset=v2 service=web namespace=default datacenter=dc2 routing_type=internal trust_domain=TD target=v2.web.default.dc2 full_target=v2.web.default.dc2.internal.TD",
	"failover-target~0~c225dc1c~web.default.dc1.internal.TD": "custom_hash=c225dc1c service=web namespace=default datacenter=dc1 routing_type=internal trust_domain=TD target=web.default.dc1 full_target=web.default.dc1.internal.TD",
	"v2.web.ns1.part.dc1.internal-v1.TD":                     "service_subset=v2 service=web namespace=ns1 partition=part datacenter=dc1 routing_type=internal-v1 trust_domain=TD target=v2.web.ns1.part.dc1 full_target=v2.web.ns1.part.dc1.internal-v1.TD",
	"web.ns1.part.dc1.internal-v1.TD":                        "service=web namespace=ns1 partition=part datacenter=dc1 routing_type=internal-v1 trust_domain=TD target=web.ns1.part.dc1 full_target=web.ns1.part.dc1.internal-v1.TD",
	"dc2.internal.TD":                                        "datacenter=dc2 routing_type=internal trust_domain=TD target=dc2 full_target=dc2.internal.TD",
	"local_app":                                              "",
}

// A real Envoy gives the statistics of clusters Consul's tags.
func TestTagsOfClusters(t *testing.T) {
	for trustDomain, known := range map[string]bool{"11111111-2222-3333-4444-555555555555.consul": false, "mesh.example.org": true} {
		var clusters []string
		for name := range tagged {
			name = strings.ReplaceAll(name, "TD", trustDomain)
			clusters = append(clusters, fmt.Sprintf(`{"name": %q, "connect_timeout": "1s", "load_assignment": {"cluster_name": %q}}`, name, name))
		}
		config := bootstrap.Config{
			ID: "p", Service: "web", Nodes: []bootstrap.HostPort{{Host: "127.0.0.1", Port: 1}}, Admin: netip.MustParseAddrPort("127.0.0.1:0"),
			Clusters: bootstrap.JSON{From: "the test", Text: strings.Join(clusters, ",")},
		}
		if known {
			config.TrustDomain = trustDomain
		}
		numbers := prometheus(t, config)
		for name, want := range tagged {
			want = strings.ReplaceAll(want, "TD", trustDomain)
			if want != "" {
				want = " " + want
			}
			want = strings.ReplaceAll(want, " ", " consul_destination_")
			if !containsLine(numbers, want) {
				t.Errorf("%s in %s: nothing has the tags %q", name, trustDomain, want)
			}
		}
		if t.Failed() {
			t.Logf("%s", strings.Join(numbers, "\n"))
		}
	}
}

// containsLine reports whether a line has just these tags of Consul's destinations.
func containsLine(lines []string, want string) bool {
	wanted := map[string]bool{}
	for tag := range strings.FieldsSeq(want) {
		wanted[tag] = true
	}
	for _, line := range lines {
		found := 0
		tags := strings.FieldsFunc(line[strings.Index(line, "{")+1:strings.LastIndex(line, "}")], func(r rune) bool { return r == ',' })
		for _, tag := range tags {
			tag = strings.ReplaceAll(tag, `"`, "")
			if strings.HasPrefix(tag, "consul_destination_") {
				found++
				if !wanted[tag] {
					found = -1
					break
				}
			}
		}
		if found == len(wanted) {
			return true
		}
	}
	return false
}

// prometheus is one number of every cluster, as an Envoy shows it.
func prometheus(t *testing.T, config bootstrap.Config) []string {
	t.Helper()
	binary, dir := envoytest.Need(t), t.TempDir()
	text, err := bootstrap.Render(config)
	if err != nil {
		t.Fatal(err)
	}
	file, admin := filepath.Join(dir, "bootstrap.json"), filepath.Join(dir, "admin")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, "-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "--admin-address-path", admin)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if lines := ask(ctx, admin); len(lines) > 0 {
			return lines
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal("the Envoy has no numbers")
		}
	}
}

// ask asks the admin server for a number of every cluster; nothing while there is none.
func ask(ctx context.Context, admin string) (lines []string) {
	at, err := os.ReadFile(admin)
	if err != nil {
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(at)+"/stats/prometheus?filter=membership_total", nil)
	if err != nil {
		return nil
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "envoy_cluster_membership_total{") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

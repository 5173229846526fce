package e2e_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// picture is what Consul says of itself in both datacenters and what it has told
// an Envoy, byte for byte but for what is late, by what was asked. Consul's part
// has the index of each change, Envoy's the time of each, so that a change and its
// undoing show too.
type picture map[string]string

// Of each datacenter, of dc1 alone, and of Envoy.
var (
	pictured = []string{
		"/v1/agent/services", "/v1/agent/checks", "/v1/catalog/datacenters", "/v1/catalog/nodes", "/v1/catalog/services",
		"/v1/health/state/any", "/v1/connect/intentions", "/v1/session/list", "/v1/query", "/v1/peerings", "/v1/connect/ca/roots",
		"/v1/config/proxy-defaults", "/v1/config/service-defaults", "/v1/config/service-resolver", "/v1/config/service-router",
		"/v1/config/service-splitter", "/v1/config/service-intentions", "/v1/config/mesh", "/v1/config/exported-services",
		"/v1/config/ingress-gateway", "/v1/config/terminating-gateway", federated,
	}
	picturedInDC1 = []string{
		"/v1/agent/service/shop", "/v1/agent/service/shop-sidecar-proxy", "/v1/agent/service/stock",
		"/v1/agent/service/stock-sidecar-proxy", "/v1/health/connect/stock", "/v1/discovery-chain/stock",
	}
	picturedOfEnvoy = []string{"/config_dump?include_eds", "/stats?filter=update_(attempt|success|rejected|failure)$"}
)

// federated is Consul's own note of all mesh gateways, which it brings up to date
// every few seconds.
const federated = "/v1/internal/federation-states/mesh-gateways"

// late is what an agent adds to its own account of a service when it next looks at
// its servers, up to two minutes later: the virtual address that they gave it, and
// so another hash of the account. The catalog has the address from the start.
var late = regexp.MustCompile(`"consul-virtual":\s*\{[^}]*\},?\s*|"ContentHash":\s*"[^"]*",?\s*`)

// take takes a picture of both datacenters and of the Envoy at an admin address.
func (w *interopWorld) take(ctx context.Context, admin string) (picture, error) {
	out := make(picture)
	ask := func(name, url string) (err error) {
		out[name], err = text(ctx, url)
		return err
	}
	for _, dc := range []string{"dc1", "dc2"} {
		paths := append(slices.Clone(pictured), "/v1/catalog/node/"+w.agents[dc].Node)
		if dc == "dc1" {
			paths = append(paths, picturedInDC1...)
		}
		for _, path := range paths {
			if err := ask(dc+" "+path, w.agents[dc].HTTP+path); err != nil {
				return nil, err
			}
			if strings.HasPrefix(path, "/v1/agent/service") {
				out[dc+" "+path] = late.ReplaceAllString(out[dc+" "+path], "")
			}
		}
	}
	for _, path := range picturedOfEnvoy {
		if err := ask("Envoy "+path, "http://"+admin+path); err != nil {
			return nil, err
		}
	}
	// Envoy writes the members of an object in another order each time.
	dump := "Envoy " + picturedOfEnvoy[0]
	var told any
	if err := json.Unmarshal([]byte(out[dump]), &told); err != nil {
		return nil, err
	}
	out[dump] = encoded(told)
	return out, nil
}

// awaitPicture waits until nothing has changed for a while, and returns that.
func (w *interopWorld) awaitPicture(t *testing.T, admin string) (last picture) {
	t.Helper()
	stood := 0
	await(t, "Consul does not come to rest", func(ctx context.Context) error {
		next, err := w.take(ctx, admin)
		if err != nil {
			return err
		}
		differs := differences(last, next)
		if last = next; len(differs) > 0 {
			stood = 0
		} else {
			stood++
		}
		if stood < 20 {
			return fmt.Errorf("just changed, or %d times seen: %q", stood, differs)
		}
		return nil
	})
	return last
}

// awaitSame waits until all is as it was, of which only Consul's taking note of a
// gateway may take a while. With running, the registration of our own gateways,
// and that alone, is overlooked.
func (w *interopWorld) awaitSame(t *testing.T, when, admin string, before picture, running bool) {
	t.Helper()
	var now picture
	await(t, when+" Consul or Envoy is not as before", func(ctx context.Context) (err error) {
		if now, err = w.take(ctx, admin); err != nil {
			return err
		}
		was := maps.Clone(before)
		if running {
			if was, err = was.withoutGateway(); err != nil {
				return err
			}
			if now, err = now.withoutGateway(); err != nil {
				return err
			}
		}
		if differs := differences(was, now); len(differs) > 0 {
			return errors.New(strings.Join(differs, "\n"))
		}
		return nil
	})
	size := 0
	for _, answer := range now {
		size += len(answer)
	}
	t.Logf("%s, %d answers of Consul and Envoy (%d bytes) are byte for byte as before", when, len(now), size)
}

// awaitNoted waits until Consul's own note of mesh gateways, in both datacenters,
// has ours. What was noted late would else be undone late, or not seen at all.
func (w *interopWorld) awaitNoted(t *testing.T) {
	t.Helper()
	for of, agent := range w.agents {
		await(t, "Consul's note of gateways in "+of, func(ctx context.Context) error {
			var noted map[string][]registeredGateway
			if err := agent.Call(ctx, http.MethodGet, federated, nil, &noted); err != nil {
				return err
			}
			if len(noted["dc1"]) != 1 || len(noted["dc2"]) != 1 {
				return fmt.Errorf("it has %+v", noted)
			}
			return nil
		})
	}
}

// differences says where two pictures differ.
func differences(before, now picture) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(now)) {
		was, is := before[name], now[name]
		if was == is {
			continue
		}
		at := 0
		for at < min(len(was), len(is)) && was[at] == is[at] {
			at++
		}
		excerpt := func(s string) string { return s[max(0, at-100):min(len(s), at+100)] }
		out = append(out, fmt.Sprintf("%s was …%s… and is …%s…", name, excerpt(was), excerpt(is)))
	}
	return out
}

// withoutGateway is the picture without what a gateway's registration adds.
func (p picture) withoutGateway() (picture, error) {
	out := maps.Clone(p)
	for name, answer := range p {
		_, path, _ := strings.Cut(name, " ")
		var err error
		switch {
		case path == federated:
			delete(out, name)
		case path == "/v1/agent/services", path == "/v1/agent/checks", path == "/v1/catalog/services":
			var all map[string]json.RawMessage
			err = json.Unmarshal([]byte(answer), &all)
			maps.DeleteFunc(all, func(key string, _ json.RawMessage) bool { return strings.TrimPrefix(key, "service:") == "mesh-gateway" })
			out[name] = encoded(all)
		case path == "/v1/health/state/any":
			var all []json.RawMessage
			err = json.Unmarshal([]byte(answer), &all)
			all = slices.DeleteFunc(all, func(check json.RawMessage) bool {
				var of struct{ ServiceID string }
				return json.Unmarshal(check, &of) == nil && of.ServiceID == "mesh-gateway"
			})
			out[name] = encoded(all)
		case strings.HasPrefix(path, "/v1/catalog/node/"):
			var node struct {
				Node     json.RawMessage
				Services map[string]json.RawMessage
			}
			err = json.Unmarshal([]byte(answer), &node)
			delete(node.Services, "mesh-gateway")
			out[name] = encoded(node)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return out, nil
}

func encoded(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// known reports whether a text stands anywhere in the state of a datacenter's
// servers, as they would save it.
func (w *interopWorld) known(t *testing.T, dc, sought string) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.agents[dc].HTTP+"/v1/snapshot", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := newClient(false, nil).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	unzipped, err := gzip.NewReader(answer.Body)
	if err != nil {
		t.Fatalf("the snapshot of %s, %s: %v", dc, answer.Status, err)
	}
	for files := tar.NewReader(unzipped); ; {
		file, err := files.Next()
		if err != nil {
			t.Fatalf("the snapshot of %s has no state: %v", dc, err)
		}
		if file.Name != "state.bin" {
			continue
		}
		state, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(state), sought)
	}
}

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
)

// envoyWorld is two Consul datacenters with xds nodes, whose sidecars, and gateways if a
// test wants, are Envoys with certificates of their own agents.
type envoyWorld struct {
	*consulWorld
}

// newEnvoyWorld starts everything but proxies: dc1 has web, whose upstreams are all of
// dc2's services.
func newEnvoyWorld(t *testing.T) *envoyWorld {
	t.Helper()
	t.Setenv("ISTHMUS_ENVOY", envoytest.Need(t))
	w := &envoyWorld{newConsulWorld(t)}
	w.startBus()
	w.startControl()
	w.startNodes()
	return w
}

// startNodes starts an xds node of each datacenter.
func (w *envoyWorld) startNodes() {
	w.t.Helper()
	for _, dc := range []string{"dc1", "dc2"} {
		w.xds(dc).start(w.t)
	}
}

// xds is the xds node of a datacenter.
func (w *envoyWorld) xds(dc string) *process {
	return w.role("xds."+dc, "xds", "--datacenter", dc, "--nats", w.nats, "--consul", w.agents[dc].HTTP, "--listen", w.listen(dc))
}

func (w *envoyWorld) network(dc string) string {
	return map[string]string{"dc1": w.dc1, "dc2": w.dc2}[dc]
}

// listen is where the xds node of a datacenter does.
func (w *envoyWorld) listen(dc string) string { return w.network(dc) + "30:9510" }

// envoy is a process that runs an Envoy, whose admin server is the process's.
func (w *envoyWorld) envoy(name, dc string, args ...string) *process {
	return w.role(name, append([]string{"envoy", "--xds", w.listen(dc), "--consul", w.agents[dc].HTTP}, args...)...)
}

// sidecarEnvoy starts the sidecar of a service.
func (w *envoyWorld) sidecarEnvoy(dc, service string) *process {
	w.t.Helper()
	p := w.envoy(service, dc, "--sidecar-for", service)
	p.launch(w.t)
	return p
}

// awaitServing waits until Envoys have all that they wait for.
func (w *envoyWorld) awaitServing(t *testing.T, all ...*process) {
	t.Helper()
	for _, p := range all {
		await(t, "the Envoy of "+p.name+" does not serve", func(ctx context.Context) error {
			if err := p.endedEarly(); err != nil {
				t.Fatalf("%s ended: %v", p.name, err)
			}
			return get(ctx, "http://"+p.admin+"/ready")
		})
	}
}

// stat is a number of an Envoy's.
func (p *process) stat(ctx context.Context, name string) (int, error) {
	answer, err := text(ctx, "http://"+p.admin+"/stats?filter=^"+name+"$")
	if err != nil {
		return 0, err
	}
	_, value, ok := strings.Cut(strings.TrimSpace(answer), ": ")
	if !ok {
		return 0, fmt.Errorf("%s is not among the Envoy's numbers: %q", name, answer)
	}
	return strconv.Atoi(value)
}

// wantNoRejection wants Envoys to have taken all that they were sent.
func wantNoRejection(t *testing.T, all ...*process) {
	t.Helper()
	for _, p := range all {
		answer, err := text(t.Context(), "http://"+p.admin+"/stats?filter=update_rejected&usedonly")
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		for line := range strings.Lines(answer) {
			if !strings.HasSuffix(strings.TrimSpace(line), ": 0") {
				t.Errorf("%s has refused something: %s", p.name, strings.TrimSpace(line))
			}
		}
	}
}

// cluster is a cluster as an Envoy has it.
type cluster struct {
	Name  string `json:"name"`
	Hosts []struct {
		Address struct {
			Socket struct {
				Address string `json:"address"`
				Port    int    `json:"port_value"`
			} `json:"socket_address"`
		} `json:"address"`
	} `json:"host_statuses"`
}

// endpoints are those that an Envoy has of a cluster, sorted.
func (p *process) endpoints(ctx context.Context, name string) ([]string, error) {
	answer, err := text(ctx, "http://"+p.admin+"/clusters?format=json")
	if err != nil {
		return nil, err
	}
	var all struct {
		Clusters []cluster `json:"cluster_statuses"`
	}
	if err := json.Unmarshal([]byte(answer), &all); err != nil {
		return nil, err
	}
	for _, c := range all.Clusters {
		if c.Name != name {
			continue
		}
		var out []string
		for _, h := range c.Hosts {
			out = append(out, fmt.Sprintf("%s:%d", h.Address.Socket.Address, h.Address.Socket.Port))
		}
		slices.Sort(out)
		return out, nil
	}
	return nil, fmt.Errorf("there is no cluster %s", name)
}

// awaitEndpoints waits until an Envoy sends what is for a service of dc2 to these.
func (w *envoyWorld) awaitEndpoints(t *testing.T, p *process, service string, want ...string) {
	t.Helper()
	slices.Sort(want)
	await(t, service+" has other endpoints in "+p.name, func(ctx context.Context) error {
		got, err := p.endpoints(ctx, w.sni(service))
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("%v, want %v", got, want)
		}
		return err
	})
}

// way is the endpoints of a service of dc2, for web, in a mode.
func (w *envoyWorld) way(service, mode string) []string {
	switch mode {
	case "remote":
		return []string{w.dc2 + "20:8444", w.dc2 + "21:8444"}
	case "none":
		return []string{w.publicAddress(service)}
	}
	return []string{w.dc1 + "20:8443", w.dc1 + "21:8443"}
}

// gateways starts both mesh gateways of a datacenter, as Envoys or as ours.
func (w *envoyWorld) gateways(dc, kind string) []*process {
	w.t.Helper()
	var out []*process
	for _, number := range []int{1, 2} {
		if kind == "go" {
			p := w.gateway(dc, w.network(dc), number)
			p.start(w.t)
			out = append(out, p)
			continue
		}
		p := w.envoy(fmt.Sprintf("%s-envoy-%d", dc, number), dc, "--gateway", fmt.Sprintf("mesh-gateway-%d", number))
		p.launch(w.t)
		out = append(out, p)
	}
	return out
}

// status is the answer of a request to web's upstream.
func (w *envoyWorld) status(ctx context.Context, method, url string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	answer, err := newClient(false, nil).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

var errUnexpected = errors.New("not what was expected")

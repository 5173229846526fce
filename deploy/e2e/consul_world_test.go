package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// consulWorld is a world whose catalog is that of real, federated Consul
// datacenters, and whose certificates come from their agents.
type consulWorld struct {
	*world
	agents      map[string]*devagent.Agent
	trustDomain string
}

// builtIn is a service of dc2 whose sidecar is Consul's built-in proxy.
const (
	builtIn     = "legacy"
	builtInHost = 14
	builtInPort = 10004
)

// modes of web's upstreams; search has none of its own.
var modes = map[string]string{"api": "remote", "db": "local", "logging": "none", builtIn: "remote"}

// newFederation starts two Consul datacenters in which nothing is registered.
func newFederation(t *testing.T) *consulWorld {
	t.Helper()
	return newFederationOf(t, devagent.Config{}, "127.253", "127.254")
}

// newFederationOf does so with agents of a kind, and networks that begin like this.
func newFederationOf(t *testing.T, config devagent.Config, dc1, dc2 string) *consulWorld {
	t.Helper()
	agents := agenttest.StartFederation(t, config, "dc1", "dc2")
	own := os.Getpid() % 250
	w := &consulWorld{
		world: &world{
			t: t, dir: t.TempDir(), roles: make(map[string]*process), replicas: "1",
			dc1: fmt.Sprintf("%s.%d.", dc1, own), dc2: fmt.Sprintf("%s.%d.", dc2, own),
		},
		agents: map[string]*devagent.Agent{"dc1": agents[0], "dc2": agents[1]},
	}
	var err error
	if w.trustDomain, err = agents[0].TrustDomain(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// newConsulWorld starts two Consul datacenters and registers the services,
// sidecars and gateways at their agents, as an operator would.
func newConsulWorld(t *testing.T) *consulWorld {
	t.Helper()
	w := newFederation(t)
	w.configure("dc1", map[string]any{"Kind": "proxy-defaults", "Name": "global", "MeshGateway": map[string]any{"Mode": "local"}})
	for _, number := range []int{1, 2} {
		w.registerGateway("dc1", w.dc1, number)
		w.registerGateway("dc2", w.dc2, number)
	}
	w.registerServices(append(services[:len(services):len(services)], service{builtIn, builtInHost, builtInPort}), w.agents["dc1"])
	return w
}

// registerServices runs services of dc2 and registers them, and web at an agent of
// dc1, whose upstreams they are.
func (w *consulWorld) registerServices(all []service, dc1 *devagent.Agent) {
	w.t.Helper()
	var upstreams []any
	for _, s := range all {
		address := fmt.Sprintf("%s%d", w.dc2, s.host)
		w.serve(s.name, address+":8080")
		w.register("dc2", s.name, address, nil)
		upstream := map[string]any{
			"DestinationName": s.name, "Datacenter": "dc2", "LocalBindAddress": w.dc1 + "10", "LocalBindPort": s.port,
		}
		if mode := modes[s.name]; mode != "" {
			upstream["MeshGateway"] = map[string]any{"Mode": mode}
		}
		upstreams = append(upstreams, upstream)
	}
	w.registerAt(dc1, "web", w.dc1+"10", upstreams)
}

// call sends a request to the agent of a datacenter.
func (w *consulWorld) call(dc, method, path string, body, answer any) {
	w.t.Helper()
	w.ask(w.agents[dc], method, path, body, answer)
}

// ask sends a request to an agent, with the token that it names.
func (w *consulWorld) ask(agent *devagent.Agent, method, path string, body, answer any) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := agent.Call(ctx, method, path, body, answer); err != nil {
		w.t.Fatal(err)
	}
}

func (w *consulWorld) configure(dc string, entry map[string]any) {
	w.t.Helper()
	w.call(dc, http.MethodPut, "/v1/config", entry, nil)
}

// healthy is a check that passes for as long as a test may take.
var healthy = []any{map[string]any{"Name": "up", "TTL": "1h", "Status": "passing"}}

// register registers a service with the sidecar that Consul makes of it.
func (w *consulWorld) register(dc, service, address string, upstreams []any) {
	w.t.Helper()
	w.registerAt(w.agents[dc], service, address, upstreams)
}

// registerAt does so at an agent, with the token that it names.
func (w *consulWorld) registerAt(agent *devagent.Agent, service, address string, upstreams []any) {
	w.t.Helper()
	proxy := map[string]any{"LocalServiceAddress": address}
	if upstreams != nil {
		proxy["Upstreams"] = upstreams
	}
	w.ask(agent, http.MethodPut, "/v1/agent/service/register", map[string]any{
		"Name": service, "Address": address, "Port": 8080,
		"Connect": map[string]any{"SidecarService": map[string]any{"Proxy": proxy, "Checks": healthy}},
	}, nil)
}

// registerGateway registers one that, as an Envoy, binds both its addresses.
func (w *consulWorld) registerGateway(dc, network string, number int) {
	w.t.Helper()
	address := fmt.Sprintf("%s%d", network, 19+number)
	w.call(dc, http.MethodPut, "/v1/agent/service/register", map[string]any{
		"Kind": "mesh-gateway", "Name": "mesh-gateway", "ID": fmt.Sprintf("mesh-gateway-%d", number),
		"Address": address, "Port": 8443, "Checks": healthy,
		"TaggedAddresses": map[string]any{
			"lan": map[string]any{"Address": address, "Port": 8443}, "wan": map[string]any{"Address": address, "Port": 8444},
		},
		"Proxy": map[string]any{"Config": map[string]any{"envoy_gateway_bind_tagged_addresses": true, "envoy_gateway_no_default_bind": true}},
	}, nil)
}

// startControl starts a watcher and a resolver of each datacenter.
func (w *consulWorld) startControl() {
	w.t.Helper()
	for _, dc := range []string{"dc1", "dc2"} {
		w.role("watcher."+dc, "watcher", "--datacenter", dc, "--nats", w.nats, "--consul", w.agents[dc].HTTP).start(w.t)
	}
	for _, dc := range []string{"dc1", "dc2"} {
		w.role("resolver."+dc, "resolver", "--datacenter", dc, "--nats", w.nats).start(w.t)
	}
}

// sidecar is that of a service: named by ID, with its certificate from the agent.
func (w *consulWorld) sidecar(dc, service string) *process {
	return w.role(service, "sidecar", "--datacenter", dc, "--nats", w.nats, "--consul", w.agents[dc].HTTP,
		"--for", service+"-sidecar-proxy", "--state-file", w.path(service+".state"), "--access-log", w.path(service+".access"))
}

// startData starts gateways and sidecars, and Consul's built-in proxy.
func (w *consulWorld) startData() {
	w.t.Helper()
	for _, number := range []int{1, 2} {
		w.gateway("dc1", w.dc1, number).start(w.t)
		w.gateway("dc2", w.dc2, number).start(w.t)
	}
	for _, s := range services {
		w.sidecar("dc2", s.name).start(w.t)
	}
	w.startBuiltIn("dc2", builtIn)
}

// startBuiltIn runs Consul's own proxy as the sidecar of a service.
func (w *consulWorld) startBuiltIn(dc, service string) {
	w.t.Helper()
	w.runConsul(service, "connect", "proxy", "-sidecar-for", service, "-http-addr", w.agents[dc].HTTP)
}

// sni and spiffe are how a service of dc2 is called on the wire.
func (w *consulWorld) sni(service string) string {
	return isthmusv1.SNI(&isthmusv1.ServiceRef{Name: service}, "", "dc2", w.trustDomain)
}

func (w *consulWorld) spiffe(service, dc string) string {
	return isthmusv1.SPIFFEID(&isthmusv1.ServiceRef{Name: service}, dc, w.trustDomain)
}

// follow keeps a service's identity from its datacenter's agent.
func (w *consulWorld) follow(t *testing.T, service, dc string) *identity.Live {
	t.Helper()
	return w.followAs(t, service, dc, w.agents[dc].Token)
}

// followAs does so with a token.
func (w *consulWorld) followAs(t *testing.T, service, dc, token string) *identity.Live {
	t.Helper()
	client, err := consul.Open(consul.Options{Address: w.agents[dc].HTTP, Token: token, Environment: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	live := identity.NewLive(nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = client.Leaves().Follow(ctx, identity.Name{Service: &isthmusv1.ServiceRef{Name: service}, Datacenter: dc}, live.Take)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	await(t, "no leaf of "+service, func(context.Context) error {
		if live.Current() == nil {
			return live.Trouble()
		}
		return nil
	})
	return live
}

// carried is a line of a sidecar's access log.
type carried struct{ Direction, Route, Path, Reason, Endpoint, Peer string }

// lastCarried is the last connection that web's sidecar carried to a service.
func (w *consulWorld) lastCarried(service string) (last carried, err error) {
	text, err := os.ReadFile(w.path("web.access"))
	if err != nil {
		return last, err
	}
	err = fmt.Errorf("web carried nothing to %s", service)
	for line := range strings.Lines(string(text)) {
		var c carried
		if json.Unmarshal([]byte(line), &c) == nil && c.Direction == "outbound" && strings.HasPrefix(c.Route, service+"@") {
			last, err = c, nil
		}
	}
	return last, err
}

// awaitPath sends requests until the newest went over a path.
func (w *consulWorld) awaitPath(t *testing.T, service string, port int, path string) carried {
	t.Helper()
	var last carried
	ask := (&target{service, w.upstream(port)}).asker(newClient(false, nil))
	await(t, service+" does not go "+path, func(ctx context.Context) (err error) {
		if err := ask(ctx); err != nil {
			return err
		}
		if last, err = w.lastCarried(service); err == nil && last.Path != path {
			err = fmt.Errorf("it went %s to %s", last.Path, last.Endpoint)
		}
		return err
	})
	return last
}

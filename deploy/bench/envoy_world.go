package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// envoyWorld is a meshWorld of one datacenter with two real Envoys: one by Consul's own
// xDS, one by ours.
type envoyWorld struct {
	*meshWorld
	consul, ours *envoy
}

// envoy is a real Envoy with what stands between it and its server.
type envoy struct {
	*process
	between *between
	admin   netip.AddrPort
}

// startEnvoyWorld returns when both Envoys have the upstream's first instance.
func startEnvoyWorld(ctx context.Context, program, binary, scratch string) (w *envoyWorld, err error) {
	mesh, err := startMeshWorld(ctx, program, scratch, "", "dc1")
	if err != nil {
		return nil, err
	}
	w = &envoyWorld{meshWorld: mesh}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	progress("envoy", "starting two Envoys")
	if err := w.register(ctx); err != nil {
		return w, err
	}
	if err := w.startControl(); err != nil {
		return w, err
	}
	node, err := w.xds(ctx)
	if err != nil {
		return w, err
	}
	if w.consul, err = w.launch(ctx, binary, "web-consul", w.agents[0].GRPC, w.consulBootstrap); err != nil {
		return w, err
	}
	if w.ours, err = w.launch(ctx, binary, "web-isthmus", node.listen, w.ourBootstrap); err != nil {
		return w, err
	}
	for _, e := range []*envoy{w.consul, w.ours} {
		first := e.between.await(func(of health) bool { _, there := of("10.50.255.1:21000"); return there })
		if _, err := first.wait(ctx); err != nil {
			return w, fmt.Errorf("the first instance: %w\n%s", err, w.tails())
		}
		if err := e.await(ctx, e.admin.String()+"/ready"); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w *envoyWorld) close() error {
	var problems []error
	for _, e := range []*envoy{w.consul, w.ours} {
		if e != nil {
			e.stop()
			problems = append(problems, e.between.close())
		}
	}
	return errors.Join(append(problems, w.meshWorld.close())...)
}

// tails are the ends of what all have printed.
func (w *envoyWorld) tails() string {
	said := ""
	for _, p := range w.roles {
		said += p.tail()
	}
	for _, e := range []*envoy{w.consul, w.ours} {
		if e != nil {
			said += e.tail()
		}
	}
	return said
}

// register registers one sidecar for each Envoy with the agent, both with the same
// upstream, and its first instance with the catalog.
func (w *envoyWorld) register(ctx context.Context) error {
	for _, name := range []string{"web-consul", "web-isthmus"} {
		inbound, outbound, err := twoPorts()
		if err != nil {
			return err
		}
		if err := w.put(ctx, 0, "/v1/agent/service/register", object{"Name": name, "Port": 8080, "Connect": object{"SidecarService": object{
			"Address": "127.0.0.1", "Port": inbound, "Checks": []object{},
			"Proxy": object{"Upstreams": []object{{"DestinationName": "api", "LocalBindPort": outbound}}},
		}}}); err != nil {
			return err
		}
	}
	return w.put(ctx, 0, "/v1/catalog/register", apiAt("api", "10.50.255.1", 21_000, "passing"))
}

func twoPorts() (uint16, uint16, error) {
	a, err := freePort()
	if err != nil {
		return 0, 0, err
	}
	b, err := freePort()
	return a.Port(), b.Port(), err
}

// apiAt is the registration of an instance of the upstream's service.
func apiAt(id, address string, port int, status string) object {
	return object{
		"Node": "apis", "Address": "10.50.255.255",
		"Service": object{
			"Kind": "connect-proxy", "ID": id, "Service": "api-sidecar-proxy", "Address": address, "Port": port,
			"Proxy": object{"DestinationServiceName": "api"},
		},
		"Checks": []object{{"Node": "apis", "CheckID": id, "Name": "TCP", "Status": status, "ServiceID": id}},
	}
}

// launch starts an Envoy for the sidecar of a service, with a bootstrap that leads it to
// its server through what stands between.
func (w *envoyWorld) launch(
	ctx context.Context, binary, service, server string, bootstrap func(ctx context.Context, service string, e *envoy) ([]byte, error),
) (*envoy, error) {
	e := &envoy{}
	var err error
	if e.admin, err = freePort(); err != nil {
		return nil, err
	}
	if e.between, err = startBetween(server); err != nil {
		return nil, err
	}
	text, err := bootstrap(ctx, service, e)
	file := filepath.Join(w.scratch, service+".json")
	if err == nil {
		file = filepath.Join(w.scratch, service+map[bool]string{true: ".json", false: ".yaml"}[bytes.HasPrefix(text, []byte("{"))])
		err = os.WriteFile(file, text, 0o600)
	}
	if err == nil {
		e.process, err = start(w.scratch, binary, "-c", file, "--disable-hot-restart", "--concurrency", "1", "-l", "warning")
	}
	if err != nil {
		return nil, errors.Join(err, e.between.close())
	}
	return e, nil
}

// consulBootstrap is what Consul's own command writes.
func (w *envoyWorld) consulBootstrap(ctx context.Context, service string, e *envoy) ([]byte, error) {
	consul, err := devagent.Find()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, consul, "connect", "envoy", "-sidecar-for", service, "-bootstrap", "-ignore-envoy-compatibility",
		"-http-addr", w.agents[0].HTTP, "-grpc-addr", "http://"+e.between.address(), "-admin-bind", e.admin.String())
	var said bytes.Buffer
	command.Stderr = &said
	text, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", command, err, said.Bytes())
	}
	return bytes.TrimSpace(text), nil
}

// ourBootstrap is for ours, with the secrets of the service at a socket.
func (w *envoyWorld) ourBootstrap(ctx context.Context, service string, e *envoy) ([]byte, error) {
	server, err := netip.ParseAddrPort(e.between.address())
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(w.scratch, service+".sock")
	if err := w.startSecrets(ctx, service, socket); err != nil {
		return nil, err
	}
	t, err := template.New("envoy-ads.yaml").Option("missingkey=error").ParseFS(configs, "configs/envoy-ads.yaml")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{"ID": service + "-sidecar-proxy", "Admin": e.admin, "Server": server, "Socket": socket})
	return out.Bytes(), err
}

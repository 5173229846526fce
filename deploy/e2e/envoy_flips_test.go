package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"
)

// flips is how often each level's mode is changed: under CI, once with the newest Envoy, a
// hundred times.
func flips() int {
	if os.Getenv("CI") != "" && !testing.Short() {
		return 100
	}
	return 10
}

// TestEnvoyFlipsUnderLoad: modes change at each level, instances come and go, and a node
// is killed and replaced, while requests are made over new and kept connections: none
// fails.
func TestEnvoyFlipsUnderLoad(t *testing.T) {
	w := newEnvoyWorld(t)
	w.configure("dc1", map[string]any{"Kind": "service-defaults", "Name": "search", "Protocol": "http"})
	web := w.sidecarEnvoy("dc1", "web")
	all := []*process{web}
	for _, s := range services {
		all = append(all, w.sidecarEnvoy("dc2", s.name))
	}
	all = append(all, w.gateways("dc1", "envoy")...)
	w.gateways("dc2", "go")
	w.awaitServing(t, all...)
	for _, s := range services {
		w.awaitAnswer(s.name, w.upstream(s.port))
	}
	l := w.startLoad(t, true)
	l.more(t, settled)
	for _, level := range w.levels() {
		level.set("") // As it is when another level decides.
		began := time.Now()
		for i := range flips() {
			mode := []string{"remote", "none", "local"}[i%3]
			level.set(mode)
			w.awaitEndpoints(t, web, "search", w.way("search", mode)...)
		}
		t.Logf("%d flips of %s in %s; %d requests", flips(), level.name, time.Since(began).Round(time.Millisecond), l.succeeded.Load())
		level.set("")
	}
	l.more(t, settled)
	w.instances(t, l, web)
	w.replaceNode(t, l, web)
	l.verdict(t, "%d flips of each of %d levels, instances that came and went, a node replaced", flips(), len(w.levels()))
	wantNoRejection(t, all...)
	for _, p := range all[:1] {
		// A mode is other endpoints: its clusters and listeners are those of the beginning.
		if n, err := p.stat(t.Context(), "listener_manager.listener_modified"); err != nil || n != 0 {
			t.Errorf("%d listeners of %s were modified, %v", n, p.name, err)
		}
		if n, err := p.stat(t.Context(), "cluster_manager.cluster_modified"); err != nil || n != 0 {
			t.Errorf("%d clusters of %s were modified, %v", n, p.name, err)
		}
	}
}

// level is a place where a mode of web's way to search may stand.
type level struct {
	name string
	set  func(mode string)
}

// levels are all of them, the lowest first; an empty mode takes the mode away.
func (w *envoyWorld) levels() []level {
	gateway := func(mode string) map[string]any { return map[string]any{"Mode": mode} }
	entry := func(kind, name string, more map[string]any) {
		body := map[string]any{"Kind": kind, "Name": name}
		for key, value := range more {
			body[key] = value
		}
		w.configure("dc1", body)
	}
	web := func(more map[string]any) { entry("service-defaults", "web", more) }
	return []level{
		{"the target's service-defaults", func(mode string) {
			// Only where no level of the source says anything.
			entry("proxy-defaults", "global", map[string]any{"MeshGateway": gateway("")})
			entry("service-defaults", "search", map[string]any{"Protocol": "http", "MeshGateway": gateway(mode)})
		}},
		{"proxy-defaults", func(mode string) { entry("proxy-defaults", "global", map[string]any{"MeshGateway": gateway(mode)}) }},
		{"service-defaults", func(mode string) { web(map[string]any{"MeshGateway": gateway(mode)}) }},
		{"UpstreamConfig.Defaults", func(mode string) {
			if mode == "" {
				web(nil)
				return
			}
			web(map[string]any{"UpstreamConfig": map[string]any{"Defaults": map[string]any{"MeshGateway": gateway(mode)}}})
		}},
		{"the instance", func(mode string) { w.reregister(mode, "") }},
		{"UpstreamConfig.Overrides", func(mode string) {
			if mode == "" {
				web(nil)
				return
			}
			web(map[string]any{"UpstreamConfig": map[string]any{"Overrides": []any{map[string]any{"Name": "search", "MeshGateway": gateway(mode)}}}})
		}},
		{"the upstream", func(mode string) { w.reregister("", mode) }},
	}
}

// reregister registers web again, with a mode of its own, or of its upstream search.
func (w *envoyWorld) reregister(instance, upstream string) {
	w.t.Helper()
	var upstreams []any
	for _, s := range append(services[:len(services):len(services)], service{builtIn, builtInHost, builtInPort}) {
		up := map[string]any{"DestinationName": s.name, "Datacenter": "dc2", "LocalBindAddress": w.dc1 + "10", "LocalBindPort": s.port}
		mode := modes[s.name]
		if s.name == "search" {
			mode = upstream
		}
		if mode != "" {
			up["MeshGateway"] = map[string]any{"Mode": mode}
		}
		upstreams = append(upstreams, up)
	}
	proxy := map[string]any{"LocalServiceAddress": w.dc1 + "10", "Upstreams": upstreams}
	if instance != "" {
		proxy["MeshGateway"] = map[string]any{"Mode": instance}
	}
	w.call("dc1", http.MethodPut, "/v1/agent/service/register", map[string]any{
		"Name": "web", "Address": w.dc1 + "10", "Port": 8080,
		"Connect": map[string]any{"SidecarService": map[string]any{"Proxy": proxy, "Checks": healthy}},
	}, nil)
}

// instances has further ones of search come and go: they are stopped as soon as Consul has
// them no more, while web still asks them. It is the drain that has it leave.
func (w *envoyWorld) instances(t *testing.T, l *load, web *process) {
	w.levels()[1].set("none")
	first := w.publicAddress("search")
	w.awaitEndpoints(t, web, "search", first)
	for i := range 3 {
		extra := instance{"dc2", "search", fmt.Sprintf("search-%d", i), 50 + i, "", nil}
		stop := w.application("search", w.address(extra)+":8080")
		w.enrollAs(extra, "critical")
		sidecar := w.sidecarEnvoy("dc2", extra.id)
		w.awaitServing(t, sidecar)
		w.check("dc2", extra.id, "passing")
		w.awaitEndpoints(t, web, "search", first, w.publicAddress(extra.id))
		l.more(t, settled)
		w.call("dc2", http.MethodPut, "/v1/agent/service/deregister/"+extra.id+"-sidecar-proxy", nil, nil)
		sidecar.stop(t)
		stop()
	}
	l.more(t, settled)
}

// replaceNode kills the xds node of dc1, and starts another; a change comes through.
func (w *envoyWorld) replaceNode(t *testing.T, l *load, web *process) {
	before, err := web.stat(t.Context(), "cluster_manager.cds.update_success")
	if err != nil {
		t.Fatal(err)
	}
	node := w.roles["xds.dc1"]
	node.kill(t)
	l.more(t, settled)
	node.start(t)
	w.levels()[1].set("remote")
	w.awaitEndpoints(t, web, "search", w.way("search", "remote")...)
	l.more(t, settled)
	if after, err := web.stat(t.Context(), "cluster_manager.cds.update_success"); err != nil || after != before {
		t.Errorf("web took %d updates of clusters from the new node, %v: it has them", after-before, err)
	}
}

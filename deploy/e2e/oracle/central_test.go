package oracle_test

import (
	"context"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	"github.com/isthmus-mesh/isthmus/xdsnode/client"
)

// opaque compares the mode in the opaque config of proxy-defaults, which stands in
// for one that is not set.
func (w *world) opaque(t *testing.T) {
	w.entry(t, "proxy-defaults", "global", object{"Config": object{"mesh_gateway": mode("local")}})
	defer w.entry(t, "proxy-defaults", "global", nil)
	w.play(t, "opaque", []scene{
		{name: "inherited", upstream: toDatacenter("oa-api", "dc2"), there: one("oa-api", "81"), want: "oa-api.dc2 local-gateway"},
		{
			name: "outweighed", upstream: toDatacenter("ob-api", "dc2"), mode: "remote",
			there: one("ob-api", "82"), want: "ob-api.dc2 remote-gateway",
		},
	})
}

// opaqueText: a mode as bare text there is one for us; Consul serves nothing at
// all then to a proxy of the catalog.
func (w *world) opaqueText(t *testing.T) {
	w.entry(t, "proxy-defaults", "global", object{"Config": object{"mesh_gateway": "local"}})
	defer w.entry(t, "proxy-defaults", "global", nil)
	sidecar(w.dc2, "dc2-node", "oc-api", "10.9.0.84", "192.0.2.84", 21000).register(t)
	proxy := scene{upstream: toDatacenter("oc-api", "dc2")}.web(w, "dc1-node", "opaque-text")
	proxy.register(t)
	defer proxy.deregister(t)
	w.include(t)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := open(t, w.dc1, proxy.node, proxy.id).Await(ctx, (*client.Snapshot).Answered); err == nil ||
		!strings.Contains(err.Error(), "expected a map or struct") {
		t.Errorf("Consul serves it all the same: error %v", err)
	}
	w.routes.look(func() {
		if our, _ := w.routes.our(proxy.node, proxy.id); our.String() != "oc-api.dc2 local-gateway" {
			t.Errorf("ours: %v", our)
		}
	})
	w.met.Store(opaqueAsText, true)
}

// unmerged is a proxy whose mode stands at one place, and its agent merges no
// config entries.
type unmerged struct {
	name               string
	upstream, instance string
	override           string
	// want is what we come to; Consul leads directly where it differs.
	want    string
	differs string
}

func (w *world) compareUnmerged(t *testing.T, agent *devagent.Agent, cases []unmerged) {
	sidecar(w.dc2, "dc2-node", "off-api", "10.9.0.83", "192.0.2.83", 21000).register(t)
	for i, u := range cases {
		t.Run(u.name, func(t *testing.T) {
			s := scene{upstream: toDatacenter("off-api", "dc2"), mode: u.instance}
			if u.upstream != "" {
				s.upstream["MeshGateway"] = mode(u.upstream)
			}
			service := agent.Node + "-off-" + string(rune('a'+i))
			if u.override != "" {
				w.entry(t, "service-defaults", service, object{"UpstreamConfig": object{"Overrides": []object{
					{"Name": "off-api", "MeshGateway": mode(u.override)},
				}}})
			}
			proxy := s.web(w, "", service)
			proxy.agent = agent
			proxy.register(t)
			defer proxy.deregister(t)
			w.include(t)
			c := comparison{proxy: proxy, gateways: w.gateways(), want: u.want, differs: u.differs}
			if u.differs != "" {
				c.apply = byGateway(strings.TrimPrefix(u.want, "off-api.dc2 "))
			}
			w.compare(t, c)
		})
	}
}

// byGateway leads what Consul leads directly by gateways, as we do for a mode that
// Consul does not heed.
func byGateway(path string) func(view) view {
	return func(their view) view {
		if t := &their[0][0]; t.Path == direct {
			t.Path, t.Endpoints = path, []string{"10.1.0.1:8443 healthy 1", "10.1.0.2:8443 healthy 5"}
			if path == remoteGateway {
				t.Endpoints = []string{"198.51.100.1:443 healthy 1", "198.51.100.2:443 healthy 5"}
			}
		}
		return their
	}
}

// allCentralOff compares in a world whose agents merge no config entries: Consul
// heeds the upstream's own mode only, and we all.
func (w *world) allCentralOff(t *testing.T) {
	off := newWorld(t, devagent.Config{NoCentralConfig: true})
	off.registerGateways(t)
	off.compareUnmerged(t, off.dc1, []unmerged{
		{name: "the upstream's mode", upstream: "remote", override: "local", want: "off-api.dc2 remote-gateway"},
		{name: "the instance's mode", instance: "local", want: "off-api.dc2 local-gateway", differs: centralConfig},
		{name: "an override's mode", override: "remote", instance: "local", want: "off-api.dc2 remote-gateway", differs: centralConfig},
	})
	off.met.Range(func(name, _ any) bool {
		w.met.Store(name, true)
		return true
	})
}

// otherCentralOff: that an agent which the watcher does not ask merges nothing
// cannot be seen, so what it shows is taken for what it has merged.
func (w *world) otherCentralOff(t *testing.T) {
	agent := agenttest.Start(t, devagent.Config{
		Datacenter: "dc1", Node: "dc1-other", PrimaryDatacenter: "dc1", Client: true, RetryJoin: []string{w.dc1.LAN},
		NoCentralConfig: true, LeaveOnTerminate: true, LogLevel: "warn",
	})
	w.compareUnmerged(t, agent, []unmerged{
		{name: "the upstream's mode", upstream: "remote", want: "off-api.dc2 remote-gateway"},
		{name: "the instance's mode", instance: "local", want: "off-api.dc2 local-gateway", differs: centralConfig},
		{name: "an override's mode", override: "remote", want: "off-api.dc2 direct"},
	})
}

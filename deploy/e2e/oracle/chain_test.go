package oracle_test

import (
	"maps"
	"sync"
	"testing"
)

// scene is an upstream of a proxy of dc1, with all that bears on it. Names of
// services are of one scene only.
type scene struct {
	name string
	// upstream is the registration's, without its port; mode is that of the
	// proxy's instance.
	upstream object
	mode     string
	entries  []written
	// there and here are the instances of dc2 and of dc1.
	there, here []instance
	// want is what the upstream comes to, as [view.String] says it.
	want string
	// differs and apply are those of [comparison].
	differs string
	apply   func(their view) view
}

// written is a config entry.
type written struct {
	kind, name string
	fields     object
}

func to(service string) object { return object{"DestinationName": service} }

func toDatacenter(service, datacenter string) object {
	return object{"DestinationName": service, "Datacenter": datacenter}
}

// plain is one instance with an address of each kind.
func plain(service, number string) instance {
	return instance{id: service + number, fields: object{
		"Name": service + "-proxy", "Kind": "connect-proxy", "Address": "10.9.0." + number, "Port": 21000,
		"TaggedAddresses": object{"wan": object{"Address": "192.0.2." + number, "Port": 22000}},
		"Proxy":           object{"DestinationServiceName": service, "LocalServicePort": 8080},
	}}
}

// with is an instance with fields set.
func (i instance) with(fields object) instance {
	out := object{}
	maps.Copy(out, i.fields)
	maps.Copy(out, fields)
	i.fields = out
	return i
}

// check is an instance with one check.
func (i instance) check(status string) instance {
	i.checks = []object{{"CheckID": "check-" + i.id, "Name": "check", "Status": status}}
	return i
}

func one(service, number string) []instance { return []instance{plain(service, number)} }

// overHTTP is the protocol http, which chains with splitters and routers need.
func overHTTP(services ...string) []written {
	var out []written
	for _, service := range services {
		out = append(out, written{"service-defaults", service, object{"Protocol": "http"}})
	}
	return out
}

// web is the source of a scene: a sidecar of the agent's or of the catalog's.
func (s scene) web(w *world, node, service string) instance {
	upstream := object{"LocalBindPort": 10000}
	maps.Copy(upstream, s.upstream)
	proxy := object{"DestinationServiceName": service, "LocalServicePort": 8080, "Upstreams": []object{upstream}}
	if s.mode != "" {
		proxy["MeshGateway"] = mode(s.mode)
	}
	return instance{agent: w.dc1, node: node, id: service + "-proxy", fields: object{
		"Name": service + "-proxy", "Kind": "connect-proxy", "Address": "10.1.0.9", "Port": 20000, "Proxy": proxy,
	}}
}

// write writes what a scene needs, beside its source.
func (w *world) write(t *testing.T, s scene) {
	t.Helper()
	for _, e := range s.entries {
		w.entry(t, e.kind, e.name, e.fields)
	}
	for _, i := range s.there {
		i.agent, i.node = w.dc2, "dc2-node"
		i.register(t)
	}
	for _, i := range s.here {
		i.agent, i.node = w.dc1, "dc1-node"
		i.register(t)
	}
}

// play compares scenes, each with a source of the agent's and one of the
// catalog's, several at a time; part tells their sources from others'.
func (w *world) play(t *testing.T, part string, scenes []scene) {
	t.Helper()
	type source struct {
		scene
		kind  string
		proxy instance
	}
	var sources []source
	for i, s := range scenes {
		w.write(t, s)
		for kind, node := range map[string]string{"agent": "", "catalog": "dc1-node"} {
			proxy := s.web(w, node, part+"-"+kind+"-"+string(rune('a'+i/26))+string(rune('a'+i%26)))
			proxy.register(t)
			sources = append(sources, source{s, kind, proxy})
		}
	}
	w.include(t)
	slots := make(chan struct{}, 8)
	var group sync.WaitGroup
	defer group.Wait()
	for _, s := range sources {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			t.Run(s.kind+"/"+s.name, func(t *testing.T) {
				defer s.proxy.deregister(t)
				w.compare(t, comparison{proxy: s.proxy, gateways: w.gateways(), want: s.want, differs: s.differs, apply: s.apply})
			})
		})
	}
}

// chains compares what discovery chains come to.
func (w *world) chains(t *testing.T) { w.play(t, "chain", chainScenes()) }

func chainScenes() []scene {
	redirect := func(from, service string) written {
		return written{"service-resolver", from, object{"Redirect": object{"Service": service, "Datacenter": "dc2"}}}
	}
	failover := func(from string, targets ...object) written {
		return written{"service-resolver", from, object{"Failover": object{"*": object{"Targets": targets}}}}
	}
	modeOf := func(service, m string) written {
		return written{"service-defaults", service, object{"MeshGateway": mode(m)}}
	}
	return []scene{{
		name: "a redirect, remote", upstream: to("ra-api"), mode: "remote", entries: []written{redirect("ra-api", "ra-db")},
		there: one("ra-db", "1"), want: "ra-db.dc2 remote-gateway",
	}, {
		name: "a redirect, local", upstream: to("rb-api"), mode: "local", entries: []written{redirect("rb-api", "rb-db")},
		there: one("rb-db", "2"), want: "rb-db.dc2 local-gateway",
	}, {
		name: "a redirect to a service with a mode of its own", upstream: to("rc-api"),
		entries: []written{redirect("rc-api", "rc-db"), modeOf("rc-db", "local")},
		there:   one("rc-db", "3"), want: "rc-db.dc2 local-gateway",
	}, {
		name: "a redirect from a service with a mode of its own", upstream: to("rd-api"),
		entries: []written{redirect("rd-api", "rd-db"), modeOf("rd-api", "local")},
		there:   one("rd-db", "4"), want: "rd-db.dc2 direct",
	}, {
		name: "a redirect to a subset", upstream: to("re-api"), mode: "remote", entries: []written{
			{"service-resolver", "re-db", object{"Subsets": object{"v1": object{"Filter": "Service.Meta.version == v1"}}}},
			{"service-resolver", "re-api", object{"Redirect": object{"Service": "re-db", "ServiceSubset": "v1", "Datacenter": "dc2"}}},
		},
		there: []instance{plain("re-db", "5").with(object{"Meta": object{"version": "v1"}}), plain("re-db", "6")},
		want:  "v1.re-db.dc2 remote-gateway",
	}, {
		name: "failover to two targets, remote", upstream: to("fa-api"), mode: "remote",
		entries: []written{failover("fa-api", object{"Datacenter": "dc2"}, object{"Service": "fa-db", "Datacenter": "dc2"})},
		here:    one("fa-api", "7"), there: []instance{plain("fa-api", "8"), plain("fa-db", "9")},
		want: "fa-api.dc1 direct, else fa-api.dc2 remote-gateway, else fa-db.dc2 remote-gateway",
	}, {
		name: "failover to two targets, each with a mode of its own", upstream: to("fb-api"), entries: []written{
			failover("fb-api", object{"Datacenter": "dc2"}, object{"Service": "fb-db", "Datacenter": "dc2"}),
			modeOf("fb-db", "local"), modeOf("fb-api", "remote"),
		},
		here: one("fb-api", "10"), there: []instance{plain("fb-api", "11"), plain("fb-db", "12")},
		want: "fb-api.dc1 direct, else fb-api.dc2 remote-gateway, else fb-db.dc2 local-gateway",
	}, {
		name: "failover by datacenter, local", upstream: to("fc-api"), mode: "local",
		entries: []written{{"service-resolver", "fc-api", object{"Failover": object{"*": object{"Datacenters": []string{"dc2"}}}}}},
		here:    one("fc-api", "13"), there: one("fc-api", "14"),
		want: "fc-api.dc1 direct, else fc-api.dc2 local-gateway",
	}, {
		name: "failover from a target without an instance", upstream: to("fd-api"), mode: "none",
		entries: []written{failover("fd-api", object{"Datacenter": "dc2"})}, there: one("fd-api", "15"),
		want: "fd-api.dc1 nowhere, else fd-api.dc2 direct",
	}, {
		name: "failover of one subset", upstream: to("fe-api"), mode: "remote", entries: []written{{"service-resolver", "fe-api", object{
			"DefaultSubset": "v1",
			"Subsets":       object{"v1": object{"Filter": "Service.Meta.version == v1"}, "v2": object{"Filter": "Service.Meta.version == v2"}},
			"Failover":      object{"v1": object{"ServiceSubset": "v2", "Datacenters": []string{"dc2"}}},
		}}},
		here:  []instance{plain("fe-api", "16").with(object{"Meta": object{"version": "v1"}})},
		there: []instance{plain("fe-api", "17").with(object{"Meta": object{"version": "v2"}})},
		want:  "v1.fe-api.dc1 direct, else v2.fe-api.dc2 remote-gateway",
	}, {
		name: "failover behind a redirect, in the datacenter that it leads to", upstream: to("ff-api"), mode: "remote", entries: []written{
			redirect("ff-api", "ff-db"), failover("ff-db", object{"Service": "ff-cache"}),
		},
		here: one("ff-cache", "18"), there: []instance{plain("ff-db", "19"), plain("ff-cache", "20")},
		want: "ff-db.dc2 remote-gateway, else ff-cache.dc2 remote-gateway",
	}, {
		name: "failover behind a redirect, and back home", upstream: to("fg-api"), mode: "remote", entries: []written{
			redirect("fg-api", "fg-db"), failover("fg-db", object{"Service": "fg-cache", "Datacenter": "dc1"}),
		},
		here: one("fg-cache", "27"), there: []instance{plain("fg-db", "28"), plain("fg-cache", "29")},
		want: "fg-db.dc2 remote-gateway, else fg-cache.dc1 direct",
	}, {
		name: "a splitter", upstream: to("sa-api"), mode: "remote", entries: append(overHTTP("sa-api", "sa-db"),
			written{"service-splitter", "sa-api", object{"Splits": []object{{"Weight": 90}, {"Weight": 10, "Service": "sa-db"}}}},
			written{"service-resolver", "sa-db", object{"Redirect": object{"Datacenter": "dc2"}}}),
		here: one("sa-api", "21"), there: one("sa-db", "22"),
		want: "sa-api.dc1 direct; sa-db.dc2 remote-gateway",
	}, {
		name: "a splitter between datacenters, each target with a mode of its own", upstream: to("sb-api"), entries: []written{
			{"service-defaults", "sb-api", object{"Protocol": "http", "MeshGateway": mode("local")}},
			{"service-defaults", "sb-db", object{"Protocol": "http", "MeshGateway": mode("remote")}},
			{"service-splitter", "sb-api", object{"Splits": []object{{"Weight": 50}, {"Weight": 50, "Service": "sb-db"}}}},
			{"service-resolver", "sb-api", object{"Redirect": object{"Datacenter": "dc2"}}},
			{"service-resolver", "sb-db", object{"Redirect": object{"Datacenter": "dc2"}}},
		},
		there: []instance{plain("sb-api", "23"), plain("sb-db", "24")},
		want:  "sb-api.dc2 local-gateway; sb-db.dc2 remote-gateway",
	}, {
		name: "a router", upstream: to("ta-api"), mode: "local", entries: append(overHTTP("ta-api", "ta-db"),
			written{"service-router", "ta-api", object{"Routes": []object{{
				"Match": object{"HTTP": object{"PathPrefix": "/db"}}, "Destination": object{"Service": "ta-db"},
			}}}},
			written{"service-resolver", "ta-db", object{"Redirect": object{"Datacenter": "dc2"}}}),
		here: one("ta-api", "25"), there: one("ta-db", "26"),
		want: "ta-api.dc1 direct; ta-db.dc2 local-gateway",
	}}
}

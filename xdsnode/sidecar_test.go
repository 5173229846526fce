package xdsnode_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// sidecar registers one of web, on a node, with binds for routes of a route set.
func (r *routes) sidecar(node, id, hash string, logs bool, upstreams ...string) {
	p := &isthmusv1.ProxyRoutes{
		Node: node, Id: id, Kind: isthmusv1.InstanceKindProxy, Service: service("web"), Address: "10.0.0.1", Port: 21000,
		Local: &isthmusv1.Local{Protocol: "tcp"}, LocalServicePort: 8080, RoutesetHash: hash,
	}
	if logs {
		p.AccessLogs = &isthmusv1.AccessLogs{Enabled: true}
	}
	for i, up := range upstreams {
		p.Binds = append(p.Binds, &isthmusv1.Bind{Route: up, Address: "127.0.0.1", Port: uint32(10000 + i)})
	}
	r.put(isthmusv1.ProxyKey("", node, "", id), p)
}

// to is a route to a service's set, or, with gateways, behind those of the set.
type to struct{ service, set, gateways string }

// routeSet writes the routes of web.
func (r *routes) routeSet(hash string, protocol string, routes ...to) {
	s := &isthmusv1.RouteSet{Service: service("web"), Hash: hash}
	for _, to := range routes {
		id := "." + to.service + ".default.default.dc1"
		target := &isthmusv1.Target{
			Id: id, Service: service(to.service), Datacenter: "dc1", Sni: to.service + ".default.dc1.internal.td",
			SpiffeIds: []string{"spiffe://td/ns/default/dc/dc1/svc/" + to.service}, EndpointSets: []*isthmusv1.EndpointSetRef{setOf(to.set)},
		}
		if to.gateways != "" {
			target.EndpointSets, target.Backend = []*isthmusv1.EndpointSetRef{setOf(to.gateways)}, setOf(to.set)
		}
		s.Routes = append(s.Routes, &isthmusv1.Route{
			Id: to.service, Destination: service(to.service), Datacenter: "dc1", Protocol: protocol, Targets: []*isthmusv1.Target{target},
			Chain: &isthmusv1.Chain{Start: "resolver:" + id, IsDefault: protocol != "http", Nodes: []*isthmusv1.ChainNode{{
				Name: "resolver:" + id, Node: &isthmusv1.ChainNode_Resolver{Resolver: &isthmusv1.ChainResolver{Target: id}},
			}}},
		})
	}
	r.put(isthmusv1.RouteSetKey(service("web"), hash), s)
}

func (r *routes) inbound(action string) {
	r.put(isthmusv1.InboundKey(service("web")), &isthmusv1.Inbound{Service: service("web"), Protocol: "tcp", DefaultAction: action, TrustDomain: "td"})
}

func (r *routes) alive(name string, availability isthmusv1.Availability) {
	ref := setOf(name)
	r.put(ref.ID().Key(0), &isthmusv1.EndpointSet{Ref: ref, Chunks: 1, Availability: availability})
}

// Each change of a sidecar's routes reaches those whom it concerns, and says no more than
// what is other. A mode is other endpoints, and nothing else.
func TestSidecarChanges(t *testing.T) {
	r, m := newRoutes(), xdsnode.NewMachine()
	r.sidecar("n1", "web", "h", false, "api", "db")
	r.sidecar("n2", "web", "h", false, "api", "db")
	r.sidecar("n3", "web", "h", true, "api")
	r.routeSet("h", "tcp", to{"api", "api", ""}, to{"db", "db", ""})
	r.inbound("deny")
	r.set("api", "10.1.0.1")
	r.set("gateways", "10.2.0.1")
	r.alive("backend", isthmusv1.Availability_AVAILABILITY_HEALTHY)
	apply(m, r.transaction(true))
	const api, db, public = "api.default.dc1.internal.td", "db.default.dc1.internal.td", "public_listener:10.0.0.1:21000"

	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"an endpoint", func() { r.set("api", "10.1.0.1", "10.1.0.2") }, []string{
			"n1/web,n2/web ClusterLoadAssignment: " + api, "n3/web ClusterLoadAssignment: " + api,
		}},
		{"a mode", func() { r.routeSet("h", "tcp", to{"api", "backend", "gateways"}, to{"db", "db", ""}) }, []string{
			"n1/web,n2/web ClusterLoadAssignment: " + api, "n3/web ClusterLoadAssignment: " + api,
		}},
		{"a set that is used no more", func() { r.set("api", "10.1.0.3") }, nil},
		{"the health behind gateways", func() { r.alive("backend", isthmusv1.Availability_AVAILABILITY_UNHEALTHY) }, []string{
			"n1/web,n2/web ClusterLoadAssignment: " + api, "n3/web ClusterLoadAssignment: " + api,
		}},
		{"a gateway's host name", func() { r.set("gateways", "gateway.example") }, []string{
			"n1/web,n2/web Cluster: " + api, "n1/web,n2/web ClusterLoadAssignment: " + api,
			"n3/web Cluster: " + api, "n3/web ClusterLoadAssignment: " + api,
		}},
		{"another host name", func() { r.set("gateways", "other.example") }, []string{"n1/web,n2/web Cluster: " + api, "n3/web Cluster: " + api}},
		{"an address again", func() { r.set("gateways", "10.2.0.1") }, []string{
			"n1/web,n2/web Cluster: " + api, "n1/web,n2/web ClusterLoadAssignment: " + api,
			"n3/web Cluster: " + api, "n3/web ClusterLoadAssignment: " + api,
		}},
		{"an intention", func() { r.inbound("allow") }, []string{
			"n1/web Listener: " + public, "n2/web Listener: " + public, "n3/web Listener: " + public,
		}},
		{"one sidecar's upstream", func() { r.sidecar("n2", "web", "h", false, "api") }, []string{"n2/web Listener: db:127.0.0.1:10001"}},
		{"another route set of the same", func() {
			r.routeSet("g", "tcp", to{"api", "backend", "gateways"}, to{"db", "db", ""})
			r.sidecar("n2", "web", "g", false, "api")
		}, nil},
		{"its last member leaves", func() { r.drop(isthmusv1.ProxyKey("", "n2", "", "web")) }, []string{"n2/web gone"}},
		{"a route set that nobody has", func() { r.routeSet("g", "tcp", to{"api", "api", ""}) }, nil},
		{"an upstream that goes", func() {
			r.routeSet("h", "tcp", to{"api", "backend", "gateways"})
			r.sidecar("n1", "web", "h", false, "api")
		}, []string{
			"n1/web Cluster: " + db, "n1/web ClusterLoadAssignment: " + db, "n1/web Listener: db:127.0.0.1:10001",
			"n3/web Cluster: " + db, "n3/web ClusterLoadAssignment: " + db,
		}},
		{"a setting that cannot be read", func() {
			r.routeSet("h", "tcp", to{"api", "backend", "gateways"})
			set := r.values[isthmusv1.RouteSetKey(service("web"), "h")].(*isthmusv1.RouteSet)
			set.Routes[0].Config = &isthmusv1.UpstreamConfig{EnvoyClusterJson: "{"}
		}, []string{"n1/web stated", "n3/web stated"}},
		{"and one that can", func() { r.routeSet("h", "tcp", to{"api", "backend", "gateways"}) }, []string{"n1/web stated", "n3/web stated"}},
		{"a protocol", func() { r.routeSet("h", "http", to{"api", "backend", "gateways"}) }, []string{
			"n1/web RouteConfiguration: api", "n3/web RouteConfiguration: api",
			"n1/web Listener: api:127.0.0.1:10000", "n3/web Listener: api:127.0.0.1:10000",
		}},
	} {
		step.do()
		got := summary(apply(m, r.transaction(false)))
		want := slices.Sorted(slices.Values(step.want))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", step.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// Two upstreams may lead to one target, each in its own way: both have a cluster.
func TestOneTargetOfTwoUpstreams(t *testing.T) {
	r, m := newRoutes(), xdsnode.NewMachine()
	r.sidecar("n1", "web", "h", false, "api", "old")
	r.routeSet("h", "tcp", to{"api", "api", ""}, to{"old", "api", ""})
	set := r.values[isthmusv1.RouteSetKey(service("web"), "h")].(*isthmusv1.RouteSet)
	set.Routes[1].Targets[0].Service, set.Routes[1].Targets[0].Sni = service("api"), set.GetRoutes()[0].GetTargets()[0].GetSni()
	apply(m, r.transaction(true))
	p, err := m.Find("n1", "web")
	if err != nil {
		t.Fatal(err)
	}
	const name = "api.default.dc1.internal.td"
	if got := p.Names(resource.Cluster); len(got) != 3 || got[0] != name || !strings.HasSuffix(got[1], "~"+name) || got[2] != "local_app" {
		t.Errorf("clusters %q", got)
	}
}

// Whatever has happened to sidecars, what a machine serves is what a new one would, and
// every difference to before was in a change.
func TestSidecarsIncrementalEqualsFresh(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, m := newRoutes(), xdsnode.NewMachine()
		m.Apply(r.transaction(true))
		m.Ready()
		services, nodes := []string{"a", "b", "c"}, []string{"n1", "n2"}
		before := map[string]map[string]string{}
		pick := func(of []string) string { return rapid.SampledFrom(of).Draw(t, "of") }
		for range rapid.IntRange(1, 30).Draw(t, "transactions") {
			for range rapid.IntRange(1, 4).Draw(t, "changes") {
				switch rapid.IntRange(0, 7).Draw(t, "change") {
				case 0, 1:
					r.set(pick(services), pick([]string{"10.0.0.1", "10.0.0.2", "host.example"}))
				case 2:
					r.alive(pick(services), isthmusv1.Availability(rapid.IntRange(1, 3).Draw(t, "availability")))
				case 3:
					r.routeSet(pick([]string{"g", "h"}), pick([]string{"tcp", "http", "grpc"}),
						to{pick(services), pick(services), pick([]string{"", "a", "b"})}, to{"d", pick(services), ""})
				case 4:
					r.drop(isthmusv1.RouteSetKey(service("web"), pick([]string{"g", "h"})))
				case 5:
					r.sidecar(pick(nodes), "web", pick([]string{"g", "h", ""}), rapid.Bool().Draw(t, "logs"), pick(services), "d")
				case 6:
					r.drop(isthmusv1.ProxyKey("", pick(nodes), "", "web"))
				case 7:
					r.inbound(pick([]string{"allow", "deny"}))
				}
			}
			said := map[string]bool{}
			for _, c := range apply(m, r.transaction(rapid.IntRange(0, 9).Draw(t, "reset") == 0)) {
				for _, p := range c.Proxies {
					for _, name := range c.Names {
						said[p.Name()+" "+string(c.Type)+" "+name] = true
					}
				}
			}
			fresh := xdsnode.NewMachine()
			apply(fresh, r.transaction(true))
			for _, node := range nodes {
				want, err := fresh.Find(node, "web")
				got, gotErr := m.Find(node, "web")
				if (err == nil) != (gotErr == nil) {
					t.Fatalf("%s: %v, a new machine %v", node, gotErr, err)
				}
				if err != nil {
					delete(before, node)
					continue
				}
				is, should := served(got), served(want)
				if fmt.Sprint(is) != fmt.Sprint(should) {
					t.Fatalf("%s is served %v, by a new machine %v", node, is, should)
				}
				if fmt.Sprint(got.Problems()) != fmt.Sprint(want.Problems()) {
					t.Fatalf("%s has %v, on a new machine %v", node, got.Problems(), want.Problems())
				}
				for what := range before[node] {
					if is[what] != before[node][what] && !said[node+"/web "+what] {
						t.Fatalf("nobody said that %s of %s changed", what, node)
					}
				}
				for what := range is {
					if _, had := before[node][what]; before[node] != nil && !had && !said[node+"/web "+what] {
						t.Fatalf("nobody said that %s of %s is new", what, node)
					}
				}
				before[node] = is
			}
		}
	})
}

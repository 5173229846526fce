package xdsnode_test

import (
	"slices"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// Of two listeners at one address, or of one name, the first stays, and the other is
// stated: an Envoy would refuse it. When the first goes, the other one comes.
func TestOneAddressOfTwoListeners(t *testing.T) {
	r, m := newRoutes(), xdsnode.NewMachine()
	r.sidecar("n1", "web", "h", false, "api", "db")
	r.routeSet("h", "tcp", to{"api", "api", ""}, to{"db", "db", ""})
	p := r.values[isthmusv1.ProxyKey("", "n1", "", "web")].(*isthmusv1.ProxyRoutes)
	p.Binds = []*isthmusv1.Bind{
		{Route: "api", Address: "::1", Port: 9000}, {Route: "db", Address: "0:0:0:0:0:0:0:1", Port: 9000},
		{Route: "db", Address: "10.0.0.1", Port: 21000}, {Route: "db", SocketPath: "/s"}, {Route: "api", SocketPath: "/s"},
		{Route: "db", Address: "db.example", Port: 1},
	}
	apply(m, r.transaction(true))
	want := func(listeners []string, stated ...string) {
		t.Helper()
		web, err := m.Find("n1", "web")
		if err != nil {
			t.Fatal(err)
		}
		if got := web.Names(resource.Listener); !slices.Equal(got, listeners) {
			t.Errorf("listeners %q, want %q", got, listeners)
		}
		problems := web.Problems()
		if len(problems) != len(stated) {
			t.Fatalf("it states %v, want %q", problems, stated)
		}
		for i, words := range stated {
			if !strings.Contains(problems[i].GetText(), words) {
				t.Errorf("it states %q, want %q", problems[i].GetText(), words)
			}
		}
	}
	want([]string{"api:::1:9000", "db:/s", "public_listener:10.0.0.1:21000"},
		"db:0:0:0:0:0:0:0:1:9000 is left out: its name or its address is that of api:::1:9000",
		"db:10.0.0.1:21000 is left out: its name or its address is that of public_listener:10.0.0.1:21000",
		"api:/s is left out: its name or its address is that of db:/s",
		`the address of upstream db is left out, since no Envoy would take it: "db.example"`)
	r.sidecar("n1", "web", "h", false)
	p = r.values[isthmusv1.ProxyKey("", "n1", "", "web")].(*isthmusv1.ProxyRoutes)
	p.Binds = []*isthmusv1.Bind{{Route: "db", Address: "0:0:0:0:0:0:0:1", Port: 9000}}
	apply(m, r.transaction(false))
	want([]string{"db:0:0:0:0:0:0:0:1:9000", "public_listener:10.0.0.1:21000"})
}

// A cluster that somebody wrote takes neither the name nor the endpoints of another one.
func TestOneNameOfTwoClusters(t *testing.T) {
	r, m := newRoutes(), xdsnode.NewMachine()
	const api, db = "api.default.dc1.internal.td", "db.default.dc1.internal.td"
	r.set("api", "10.1.0.1")
	r.set("db", "10.2.0.1")
	own := func(cluster string) {
		r.sidecar("n1", "web", "h", false, "api", "db")
		r.routeSet("h", "tcp", to{"api", "api", ""}, to{"db", "db", ""})
		set := r.values[isthmusv1.RouteSetKey(service("web"), "h")].(*isthmusv1.RouteSet)
		set.Routes[1].Config = &isthmusv1.UpstreamConfig{EnvoyClusterJson: cluster}
	}
	eds := func(name, service string) string {
		return `{"name":"` + name + `","connect_timeout":"1s","type":"EDS","eds_cluster_config":{"service_name":"` + service + `","eds_config":{"ads":{},"resource_api_version":"V3"}}}`
	}
	own(eds(api, ""))
	apply(m, r.transaction(true))
	web, err := m.Find("n1", "web")
	if err != nil {
		t.Fatal(err)
	}
	if p := web.Problems(); len(p) != 1 || !strings.Contains(p[0].GetText(), api+" is left out") {
		t.Errorf("it states %v", p)
	}
	own(eds("mine", api))
	apply(m, r.transaction(false))
	if got, problems := web.Names(resource.Cluster), web.Problems(); !slices.Equal(got, []string{api, "local_app", "mine"}) || len(problems) != 0 {
		t.Errorf("clusters %q, stating %v", got, problems)
	}
	before := web.Resource(resource.Assignment, api)
	r.set("db", "10.2.0.2")
	apply(m, r.transaction(false))
	if now := web.Resource(resource.Assignment, api); now != before {
		t.Errorf("the endpoints of api are %v, and were %v", now.Body, before.Body)
	}
	own("")
	r.set("db", "10.2.0.3")
	apply(m, r.transaction(false))
	if got := web.Names(resource.Assignment); !slices.Equal(got, []string{api, db}) {
		t.Errorf("assignments of %q", got)
	}
}

// A large endpoint set comes in chunks, and is one assignment: with all of them, when one
// of them changes, and when there are fewer.
func TestChunksAreOneAssignment(t *testing.T) {
	r, m := newRoutes(), xdsnode.NewMachine()
	r.sidecar("n1", "web", "h", false, "api")
	r.routeSet("h", "tcp", to{"api", "api", ""})
	chunk := func(n, of uint32, address string) {
		id := setOf("api").ID()
		r.put(id.Key(n), &isthmusv1.EndpointSet{
			Ref: setOf("api"), Chunk: n, Chunks: of, Endpoints: []*isthmusv1.Endpoint{{Address: address, Port: 80, Health: isthmusv1.Health_HEALTH_HEALTHY, Weight: 1}},
		})
	}
	for n, address := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		chunk(uint32(n), 3, address) //nolint:gosec // There are three.
	}
	apply(m, r.transaction(true))
	want := func(addresses ...string) {
		t.Helper()
		web, err := m.Find("n1", "web")
		if err != nil {
			t.Fatal(err)
		}
		message, err := web.Resource(resource.Assignment, "api.default.dc1.internal.td").Message()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range message.(*endpointv3.ClusterLoadAssignment).GetEndpoints() {
			for _, e := range l.GetLbEndpoints() {
				got = append(got, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
			}
		}
		if !slices.Equal(got, addresses) {
			t.Errorf("it holds %q, want %q", got, addresses)
		}
	}
	want("10.0.0.1", "10.0.0.2", "10.0.0.3")
	chunk(2, 3, "10.0.0.9")
	if got := summary(apply(m, r.transaction(false))); len(got) != 1 {
		t.Errorf("a chunk changes %q", got)
	}
	want("10.0.0.1", "10.0.0.2", "10.0.0.9")
	chunk(0, 2, "10.0.0.1")
	r.drop(setOf("api").ID().Key(2))
	apply(m, r.transaction(false))
	want("10.0.0.1", "10.0.0.2")
	r.drop(setOf("api").ID().Key(0))
	r.drop(setOf("api").ID().Key(1))
	apply(m, r.transaction(false))
	want()
}

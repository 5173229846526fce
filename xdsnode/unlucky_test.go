package xdsnode_test

import (
	"slices"
	"strings"
	"testing"

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

package resolver_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// threeProxies is web on two nodes and shop, all with an upstream api in dc2.
var threeProxies = world{
	"dc1": `
gateway 10.1.0.20:8443
sidecar web 10.1.0.10:21000 node=n1 { proxy { upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 } } }
sidecar web 10.1.0.11:21000 node=n2 { proxy { upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 } } }
sidecar shop 10.1.0.12:21000 node=n1 { proxy { upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 } } }
config proxy-defaults global { mesh_gateway { mode: "remote" } }
config service-defaults api { protocol: "tcp" }`,
	"dc2": `
gateway 10.2.0.20:8443 id=g1
gateway 10.2.0.21:8443 id=g2
sidecar api 10.2.0.10:21000 id=a1
sidecar api 10.2.0.11:21000 id=a2`,
}

// settled is a machine whose first update was taken.
func (w world) settled(t *testing.T) *resolver.Machine {
	t.Helper()
	m := w.machine(t)
	if u := m.Ready(); u == nil || len(u.Changes) == 0 {
		t.Fatal("the catalogs came to nothing")
	}
	return m
}

// change applies statements to one datacenter and tells what changed.
func change(t *testing.T, m *resolver.Machine, dc, statements string) []string {
	t.Helper()
	p := &parser{t: t, dc: dc, facts: &isthmusv1.MeshFacts{}}
	p.parse(statements)
	m.Apply(&isthmusv1.Transaction{
		Stream: isthmusv1.StreamName(isthmusv1.ClassCatalog, dc), Incarnation: "first", Sequence: 1000, Changes: p.changes,
	})
	return changed(m.Ready())
}

func changed(u *resolver.Update) []string {
	var out []string
	for _, o := range u.Changes {
		text := o.Key.String()
		if o.Key.Kind == isthmusv1.KindRouteSet {
			text = text[:strings.LastIndex(text, "/")]
		}
		if o.Value == nil {
			text = "no " + text
		}
		out = append(out, text)
	}
	return out
}

// TestCostFollowsTheChange: each change comes to the few outputs that depend on
// it, and an edit that decides nothing comes to none.
func TestCostFollowsTheChange(t *testing.T) {
	for _, test := range []struct {
		name, dc, statements string
		want                 []string
	}{
		{"one of two instances fails, behind gateways", "dc2", "sidecar api 10.2.0.10:21000 id=a1 critical", nil},
		{"one of two gateways fails", "dc2", "gateway 10.2.0.20:8443 id=g1 critical",
			[]string{"endpoints/dc2/gateways/wan/default/-/0"}},
		{"both instances fail", "dc2", "sidecar api 10.2.0.10:21000 id=a1 critical\nsidecar api 10.2.0.11:21000 id=a2 critical",
			[]string{"endpoints/dc2/service/health/api/-/0"}},
		{"both gateways fail: no path", "dc2", "gateway 10.2.0.20:8443 id=g1 critical\ngateway 10.2.0.21:8443 id=g2 critical",
			[]string{"endpoints/dc2/gateways/wan/default/-/0", "routeset/shop", "routeset/web", "wildcard/dc2", "no endpoints/dc2/service/health/api/-/0"}},
		{"a service comes", "dc2", "sidecar new 10.2.0.30:21000", nil},
		{"a service comes here", "dc1", "sidecar new 10.1.0.30:21000",
			[]string{"endpoints/dc1/service/lan/new/-/0", "inbound/new", "proxy/dc1-node/new-sidecar-proxy", "sni/new"}},
		{"the global mode flips: one route set for each service", "dc1", `config proxy-defaults global { mesh_gateway { mode: "local" } }`,
			[]string{"endpoints/dc1/gateways/lan/default/-/0", "routeset/shop", "routeset/web"}},
		{"another entry sets a mode for one service", "dc1", `config service-defaults web { mesh_gateway { mode: "none" } }`,
			[]string{"endpoints/dc2/service/wan/api/-/0", "routeset/web"}},
		{"an entry changes in what decides nothing here", "dc1", `config service-defaults api { protocol: "tcp" max_inbound_connections: 7 }`, nil},
		{"a proxy moves to another bind", "dc1",
			`sidecar web 10.1.0.10:21000 node=n1 { proxy { upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 99 } } }`,
			[]string{"proxy/n1/web-sidecar-proxy"}},
		{"a proxy of two takes a mode of its own", "dc1",
			`sidecar web 10.1.0.10:21000 node=n1 { proxy { mesh_gateway { mode: "remote" } upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 } } }`,
			[]string{"routeset/web", "proxy/n1/web-sidecar-proxy"}},
		{"the only proxy of a service gives up its upstreams", "dc1", "sidecar shop 10.1.0.12:21000 node=n1",
			[]string{"proxy/n1/shop-sidecar-proxy", "no routeset/shop"}},
		{"a config entry of another datacenter", "dc2", `config proxy-defaults global { mesh_gateway { mode: "none" } }`, nil},
		{"intentions of one service", "dc1", `config service-intentions shop { sources { name: "web" action: "deny" } }`, []string{"inbound/shop"}},
		{"intentions of all services", "dc1", `config service-intentions * { sources { name: "web" action: "deny" } }`, []string{"inbound/shop", "inbound/web"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, change(t, threeProxies.settled(t), test.dc, test.statements)); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNothingBeforeWhole: without mesh facts or a trust domain nothing comes
// out; other catalogs may come first. What was there stays when these are lost.
func TestNothingBeforeWhole(t *testing.T) {
	m := resolver.New("DC1")
	if m.Ready() != nil {
		t.Fatal("ready without a catalog")
	}
	m.Apply(threeProxies.transaction(t, "dc2"))
	if m.Ready() != nil {
		t.Fatal("ready without the own catalog")
	}
	facts := &isthmusv1.MeshFacts{Datacenter: "dc1", DefaultIntentionPolicy: "allow"}
	apply := func(sequence uint64, changes ...isthmusv1.Change) {
		m.Apply(&isthmusv1.Transaction{Stream: "CATALOG_dc1", Incarnation: "i", Sequence: sequence, Changes: changes})
	}
	apply(1, isthmusv1.Change{Key: isthmusv1.MeshFactsKey(), Value: facts})
	if m.Ready() != nil {
		t.Fatal("ready without a trust domain")
	}
	for key := range m.All() {
		t.Fatalf("%v before the catalog was whole", key)
	}
	if _, err := m.Explain(resolver.Question{Proxy: "web"}); !errors.Is(err, resolver.ErrNotWhole) {
		t.Fatalf("explained by %v", err)
	}
	apply(2, isthmusv1.Change{Key: isthmusv1.RootsKey(), Value: &isthmusv1.CARoots{TrustDomain: "TD.consul", Roots: []*isthmusv1.CARoot{
		{Id: "b", RootCertPem: "PEM b"}, {Id: "a", RootCertPem: "PEM a"}, {Id: "c"},
	}}})
	u := m.Ready()
	if u == nil || u.Basis.Text() != "CATALOG_dc1@2 CATALOG_dc2@5" {
		t.Fatalf("update %v", u)
	}
	want := &isthmusv1.MeshRoutes{
		Datacenter: "dc1", TrustDomain: "td.consul", RootCertsPem: []string{"PEM a", "PEM b"}, KnownDatacenters: []string{"dc1", "dc2"},
	}
	if u.Changes[0].Key != isthmusv1.MeshKey() || !proto.Equal(u.Changes[0].Value, want) {
		t.Errorf("mesh %v, want %v", u.Changes[0].Value, want)
	}
	apply(3, isthmusv1.Change{Key: isthmusv1.RootsKey(), Tombstone: true})
	if m.Ready() != nil {
		t.Error("ready after the trust domain was lost")
	}
	n := 0
	for range m.All() {
		n++
	}
	if n != len(u.Changes) {
		t.Errorf("%d outputs are left of %d", n, len(u.Changes))
	}
}

// TestBasisWithoutChange: a transaction that changes no route still moves the
// basis, which the log records.
func TestBasisWithoutChange(t *testing.T) {
	m := threeProxies.settled(t)
	m.Apply(&isthmusv1.Transaction{Stream: "CATALOG_dc2", Incarnation: "second", Sequence: 99})
	u := m.Ready()
	if len(u.Changes) != 0 || u.Basis.At("CATALOG_dc2").GetSequence() != 99 || u.Basis.At("CATALOG_dc2").GetIncarnation() != "second" {
		t.Errorf("update %v", u)
	}
}

// TestRemoveStream: a departed datacenter leaves the basis and the routes, and a
// target in it is in an unknown datacenter.
func TestRemoveStream(t *testing.T) {
	m := threeProxies.settled(t)
	m.Apply(&isthmusv1.Transaction{Stream: "CATALOG_dc1", Incarnation: "first", Sequence: 2000, Changes: []isthmusv1.Change{{
		Key: isthmusv1.MeshFactsKey(), Value: &isthmusv1.MeshFacts{TrustDomain: trustDomain, DefaultIntentionPolicy: "allow"},
	}}})
	m.Ready()
	m.RemoveStream("CATALOG_dc2")
	m.RemoveStream("CATALOG_dc9")
	m.RemoveStream("ROUTES_dc1")
	u := m.Ready()
	want := []string{
		"mesh", "routeset/shop", "routeset/web",
		"no endpoints/dc2/gateways/wan/default/-/0", "no endpoints/dc2/service/health/api/-/0", "no wildcard/dc2",
	}
	if diff := cmp.Diff(want, changed(u)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if u.Basis.Text() != "CATALOG_dc1@2000" {
		t.Errorf("basis %s", u.Basis.Text())
	}
	answers, err := m.Explain(resolver.Question{Proxy: "n1/web-sidecar-proxy"})
	if err != nil {
		t.Fatal(err)
	}
	target := answers[0].Targets[0]
	if diff := cmp.Diff([]string{resolver.CodeUnknownDatacenter}, codes(target.Target.GetProblems())); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if !strings.Contains(target.Authorization.Reason, "catalog of dc2 is not here") {
		t.Errorf("authorization %+v", target.Authorization)
	}
}

// TestOtherStreamsAndKinds: what is no catalog, or of a kind or a type that this
// version does not know, is left alone.
func TestOtherStreamsAndKinds(t *testing.T) {
	m := threeProxies.settled(t)
	for _, stream := range []string{"ROUTES_dc1", "STATUS_dc1", "CATALOG_", "nonsense"} {
		m.Apply(&isthmusv1.Transaction{Stream: stream, Reset: true})
	}
	m.Apply(&isthmusv1.Transaction{Stream: "CATALOG_dc1", Incarnation: "first", Sequence: 1, Changes: []isthmusv1.Change{
		{Key: isthmusv1.WriterKey(), Value: &isthmusv1.Writer{Term: 2}},
		{Key: isthmusv1.NewKey("future", "x"), Bytes: []byte("x")},
		{Key: isthmusv1.InstanceKey("", "n1", "", "odd"), Value: &isthmusv1.Node{Name: "odd"}},
		{Key: isthmusv1.ConfigKey("service-defaults", "", "", "odd"), Value: &isthmusv1.Node{Name: "odd"}},
		{Key: isthmusv1.ConfigKey("service-defaults", "", "", "empty"), Value: &isthmusv1.ConfigEntry{}},
	}})
	if u := m.Ready(); len(u.Changes) != 0 {
		t.Errorf("changes %v", changed(u))
	}
}

// TestKeyframeKeepsOrigin: a message that repeats a value changes nothing but
// where the value is now known to come from.
func TestKeyframeKeepsOrigin(t *testing.T) {
	m := threeProxies.settled(t)
	m.Apply(&isthmusv1.Transaction{Stream: "CATALOG_dc1", Incarnation: "first", Sequence: 500, Changes: []isthmusv1.Change{{
		Key: isthmusv1.ConfigKey("proxy-defaults", "", "", "global"), Sequence: 500,
		Origin: isthmusv1.Cause{Incarnation: "zeroth", Sequence: 42},
		Source: &isthmusv1.Source{File: "moved.hcl", Line: 7},
		Value: &isthmusv1.ConfigEntry{Kind: "proxy-defaults", Name: "global", Entry: &isthmusv1.ConfigEntry_ProxyDefaults{
			ProxyDefaults: &isthmusv1.ProxyDefaults{MeshGateway: &isthmusv1.MeshGateway{Mode: "remote"}},
		}},
	}}})
	if u := m.Ready(); len(u.Changes) != 0 {
		t.Errorf("changes %v", changed(u))
	}
	answers, err := m.Explain(resolver.Question{Proxy: "shop", Upstream: "api"})
	if err != nil {
		t.Fatal(err)
	}
	o := answers[0].Targets[0].Winner.Origin
	if o.Incarnation != "zeroth" || o.Sequence != 42 || o.Source.GetFile() != "moved.hcl" || o.Source.GetLine() != 7 {
		t.Errorf("origin %+v", o)
	}
}

package xdsnode_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// routes are a routes stream: what it holds, and what has changed since the last
// transaction.
type routes struct {
	sequence uint64
	values   map[isthmusv1.Key]proto.Message
	changed  map[isthmusv1.Key]bool
}

func newRoutes() *routes {
	return &routes{values: map[isthmusv1.Key]proto.Message{}, changed: map[isthmusv1.Key]bool{}}
}

func (r *routes) put(key isthmusv1.Key, value proto.Message) {
	r.values[key], r.changed[key] = value, true
}

func (r *routes) drop(key isthmusv1.Key) {
	delete(r.values, key)
	r.changed[key] = true
}

// transaction is what has changed; with reset, all that there is.
func (r *routes) transaction(reset bool) *isthmusv1.Transaction {
	r.sequence++
	t := &isthmusv1.Transaction{Stream: "ROUTES_dc1", Incarnation: "i", Sequence: r.sequence, Reset: reset}
	keys := r.changed
	if reset {
		keys = map[isthmusv1.Key]bool{}
		for key := range r.values {
			keys[key] = true
		}
	}
	for key := range keys {
		value, there := r.values[key]
		t.Changes = append(t.Changes, isthmusv1.Change{Key: key, Value: value, Tombstone: !there, Sequence: r.sequence})
	}
	r.changed = map[isthmusv1.Key]bool{}
	return t
}

func (r *routes) gateway(node, id string, settings *isthmusv1.GatewaySettings) {
	r.put(isthmusv1.ProxyKey("", node, "", id), &isthmusv1.ProxyRoutes{
		Node: node, Id: id, Kind: isthmusv1.InstanceKindMeshGateway, Service: &isthmusv1.ServiceRef{Name: "mesh-gateway"}, Gateway: settings,
	})
}

func binds(port uint32) *isthmusv1.GatewaySettings {
	return &isthmusv1.GatewaySettings{Binds: []*isthmusv1.GatewayBind{{Name: "default", Address: "10.0.0.1", Port: port}}}
}

func service(name string) *isthmusv1.ServiceRef { return &isthmusv1.ServiceRef{Name: name} }

func setOf(name string) *isthmusv1.EndpointSetRef {
	return &isthmusv1.EndpointSetRef{Datacenter: "dc1", Scope: isthmusv1.Scope_SCOPE_LAN, Service: service(name)}
}

func (r *routes) name(name, set string) {
	r.put(isthmusv1.NameKey(service(name), ""), &isthmusv1.NameRoute{
		Sni: name + ".default.dc1.internal.td", Service: service(name), Endpoints: setOf(set),
	})
}

func (r *routes) wildcard(dc string) {
	r.put(isthmusv1.WildcardKey(dc), &isthmusv1.WildcardRoute{
		Suffix: "." + dc + ".internal.td", Datacenter: dc,
		Endpoints: &isthmusv1.EndpointSetRef{Datacenter: dc, Scope: isthmusv1.Scope_SCOPE_WAN, MeshGateways: true},
	})
}

func (r *routes) set(name string, addresses ...string) {
	ref := setOf(name)
	s := &isthmusv1.EndpointSet{Ref: ref, Chunks: 1}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, &isthmusv1.Endpoint{Address: a, Port: 80, Health: isthmusv1.Health_HEALTH_HEALTHY, Weight: 1})
	}
	r.put(ref.ID().Key(0), s)
}

// served is all that a proxy is served, as TYPE NAME VERSION.
func served(p *xdsnode.Proxy) map[string]string {
	out := map[string]string{}
	for _, t := range resource.Types() {
		for _, name := range p.Names(t) {
			out[string(t)+" "+name] = p.Resource(t, name).Version
		}
	}
	return out
}

func apply(m *xdsnode.Machine, t *isthmusv1.Transaction) []xdsnode.Change {
	m.Apply(t)
	return m.Ready()
}

// summary is what changes say, in short.
func summary(changes []xdsnode.Change) []string {
	var out []string
	for _, c := range changes {
		var proxies []string
		for _, p := range c.Proxies {
			proxies = append(proxies, p.Name())
		}
		if c.Gone {
			out = append(out, strings.Join(proxies, ",")+" gone")
			continue
		}
		if c.Stated {
			out = append(out, strings.Join(proxies, ",")+" stated")
			continue
		}
		kind := string(c.Type[strings.LastIndexByte(string(c.Type), '.')+1:])
		out = append(out, fmt.Sprintf("%s %s: %s", strings.Join(proxies, ","), kind, strings.Join(c.Names, ",")))
	}
	return out
}

// Each change reaches those whom it concerns, and says no more than what is other.
func TestChanges(t *testing.T) {
	r, m := newRoutes(), xdsnode.NewMachine()
	r.gateway("n1", "mg", binds(1))
	r.gateway("n2", "mg", binds(2))
	slow := binds(3)
	slow.RemoteKeepalive = &isthmusv1.TCPKeepalive{Probes: 3}
	r.gateway("n3", "mg", slow)
	r.set("api", "10.1.0.1")
	r.name("api", "api")
	apply(m, r.transaction(true))

	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"an endpoint", func() { r.set("api", "10.1.0.1", "10.1.0.2") }, []string{
			"n3/mg ClusterLoadAssignment: api.default.dc1.internal.td", "n1/mg,n2/mg ClusterLoadAssignment: api.default.dc1.internal.td",
		}},
		{"the same again", func() { r.set("api", "10.1.0.1", "10.1.0.2") }, nil},
		{"a set that nobody uses", func() { r.set("other", "10.1.0.9") }, nil},
		{"a name without instances", func() { r.name("db", "none") }, []string{
			"n3/mg Cluster: db.default.dc1.internal.td", "n3/mg ClusterLoadAssignment: db.default.dc1.internal.td",
			"n1/mg,n2/mg Cluster: db.default.dc1.internal.td", "n1/mg,n2/mg ClusterLoadAssignment: db.default.dc1.internal.td",
		}},
		{"a host name", func() { r.set("api", "api.example") }, []string{
			"n3/mg Cluster: api.default.dc1.internal.td", "n3/mg ClusterLoadAssignment: api.default.dc1.internal.td",
			"n1/mg,n2/mg Cluster: api.default.dc1.internal.td", "n1/mg,n2/mg ClusterLoadAssignment: api.default.dc1.internal.td",
		}},
		{"another datacenter", func() { r.wildcard("dc2") }, []string{
			"n3/mg Cluster: dc2.internal.td", "n3/mg ClusterLoadAssignment: dc2.internal.td",
			"n1/mg,n2/mg Cluster: dc2.internal.td", "n1/mg,n2/mg ClusterLoadAssignment: dc2.internal.td",
			"n1/mg Listener: default:10.0.0.1:1", "n2/mg Listener: default:10.0.0.1:2", "n3/mg Listener: default:10.0.0.1:3",
		}},
		{"a bind", func() { r.gateway("n1", "mg", binds(11)) }, []string{"n1/mg Listener: default:10.0.0.1:1,default:10.0.0.1:11"}},
		{"a gateway that leaves", func() { r.drop(isthmusv1.ProxyKey("", "n1", "", "mg")) }, []string{"n1/mg gone"}},
		{"a name that goes", func() { r.drop(isthmusv1.NameKey(service("db"), "")) }, []string{
			"n3/mg Cluster: db.default.dc1.internal.td", "n3/mg ClusterLoadAssignment: db.default.dc1.internal.td",
			"n2/mg Cluster: db.default.dc1.internal.td", "n2/mg ClusterLoadAssignment: db.default.dc1.internal.td",
		}},
	} {
		step.do()
		got := summary(apply(m, r.transaction(false)))
		want := slices.Sorted(slices.Values(step.want))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", step.name, got, want)
		}
	}
}

// Two names may have one cluster: a service v1.api, and a subset v1 of api. The first by
// its key has it, whatever came first, and the other when that goes.
func TestOneClusterOfTwoNames(t *testing.T) {
	one, two := isthmusv1.NameKey(service("v1.api"), ""), isthmusv1.NameKey(service("api"), "v1")
	route := func(set string) *isthmusv1.NameRoute {
		return &isthmusv1.NameRoute{Sni: "v1.api.default.dc1.internal.td", Endpoints: setOf(set)}
	}
	r, m := newRoutes(), xdsnode.NewMachine()
	r.gateway("n1", "mg", binds(1))
	r.set("one", "10.0.0.1")
	r.set("two", "10.0.0.2")
	address := func() string {
		p, err := m.Find("n1", "mg")
		if err != nil {
			t.Fatal(err)
		}
		x := p.Resource(resource.Assignment, "v1.api.default.dc1.internal.td")
		if x == nil || p.Resource(resource.Cluster, x.Name) == nil {
			return "none"
		}
		message, err := x.Message()
		if err != nil {
			t.Fatal(err)
		}
		return message.(*endpointv3.ClusterLoadAssignment).GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress().GetAddress()
	}
	want := func(what, want string) {
		t.Helper()
		apply(m, r.transaction(r.sequence == 0))
		if got := address(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	first, second := "10.0.0.1", "10.0.0.2"
	if two.Compare(one) < 0 {
		first, second = second, first
	}
	r.put(one, route("one"))
	r.put(two, route("two"))
	want("both", first)
	later, sooner := one, two
	if first == "10.0.0.1" {
		later, sooner = two, one
	}
	r.drop(sooner)
	want("the other one alone", second)
	r.put(sooner, route(map[isthmusv1.Key]string{one: "one", two: "two"}[sooner]))
	r.drop(later)
	want("taken over in one transaction", first)
	r.drop(sooner)
	want("neither", "none")
}

// A proxy of another kind is another proxy.
func TestKindChanges(t *testing.T) {
	r, m := newRoutes(), xdsnode.NewMachine()
	r.gateway("n1", "mg", binds(1))
	apply(m, r.transaction(true))
	r.put(isthmusv1.ProxyKey("", "n1", "", "mg"), &isthmusv1.ProxyRoutes{Node: "n1", Id: "mg", Kind: isthmusv1.InstanceKindProxy})
	if got := summary(apply(m, r.transaction(false))); !slices.Equal(got, []string{"n1/mg gone", "n1/mg Cluster: local_app", "n1/mg stated"}) {
		t.Errorf("%q", got)
	}
	r.put(isthmusv1.ProxyKey("", "n1", "", "mg"), &isthmusv1.ProxyRoutes{Node: "n1", Id: "mg", Kind: "ingress-gateway"})
	apply(m, r.transaction(false))
	if _, err := m.Find("n1", "mg"); !errors.Is(err, xdsnode.ErrNotServed) {
		t.Errorf("found: %v", err)
	}
}

// Find finds proxies as people name them, and says whom it does not serve, and why.
func TestFind(t *testing.T) {
	r, m := newRoutes(), xdsnode.NewMachine()
	r.gateway("n1", "Mg", binds(1))
	r.gateway("n2", "Mg", binds(1))
	r.gateway("n1", "edge", binds(2))
	r.put(isthmusv1.ProxyKey("", "n1", "", "web"), &isthmusv1.ProxyRoutes{Node: "n1", Id: "web", Kind: "terminating-gateway"})
	apply(m, r.transaction(true))
	for _, test := range []struct {
		node, id string
		want     error
		says     string
	}{
		{"", "EDGE", nil, ""},
		{"N2", "mg", nil, ""},
		{"", "mg", xdsnode.ErrAmbiguous, "n1/Mg, n2/Mg"},
		{"n2", "edge", xdsnode.ErrNoProxy, "n2/edge"},
		{"", "nobody", xdsnode.ErrNoProxy, "nobody"},
		{"", "web", xdsnode.ErrNotServed, "terminating-gateway"},
	} {
		p, err := m.Find(test.node, test.id)
		if !errors.Is(err, test.want) || (err == nil) != (p != nil) || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s/%s: %v, %v", test.node, test.id, p, err)
		}
	}
}

// Whatever has happened, what a machine serves is what a new one would serve, and every
// difference to before was in a change.
func TestIncrementalEqualsFresh(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, m := newRoutes(), xdsnode.NewMachine()
		m.Apply(r.transaction(true))
		m.Ready()
		names, nodes := []string{"a", "b", "c"}, []string{"n1", "n2", "n3"}
		before := map[string]map[string]string{}
		for range rapid.IntRange(1, 30).Draw(t, "transactions") {
			for range rapid.IntRange(1, 4).Draw(t, "changes") {
				name, node := rapid.SampledFrom(names).Draw(t, "name"), rapid.SampledFrom(nodes).Draw(t, "node")
				switch rapid.IntRange(0, 8).Draw(t, "change") {
				case 0:
					r.set(name)
				case 1:
					r.set(name, rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "host.example"}).Draw(t, "address"))
				case 2:
					r.name(name, rapid.SampledFrom(names).Draw(t, "set"))
				case 3:
					r.drop(isthmusv1.NameKey(service(name), ""))
				case 4:
					r.wildcard(rapid.SampledFrom([]string{"dc2", "dc3"}).Draw(t, "dc"))
				case 5:
					r.drop(isthmusv1.WildcardKey("dc2"))
				case 6:
					s := binds(rapid.Uint32Range(1, 3).Draw(t, "port"))
					if rapid.Bool().Draw(t, "limited") {
						s.Limits = &isthmusv1.UpstreamLimits{MaxConnections: proto.Uint32(7)}
					}
					r.gateway(node, "mg", s)
				case 7:
					r.drop(isthmusv1.ProxyKey("", node, "", "mg"))
				case 8:
					r.drop(setOf(name).ID().Key(0))
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
				want, err := fresh.Find(node, "mg")
				got, gotErr := m.Find(node, "mg")
				if errors.Is(err, xdsnode.ErrNoProxy) != errors.Is(gotErr, xdsnode.ErrNoProxy) {
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
				for what, version := range is {
					if had, ok := before[node]; ok && had[what] != version && !said[node+"/mg "+what] {
						t.Fatalf("nobody said that %s of %s changed", what, node)
					}
				}
				for what := range before[node] {
					if _, there := is[what]; !there && !said[node+"/mg "+what] {
						t.Fatalf("nobody said that %s of %s is gone", what, node)
					}
				}
				before[node] = is
			}
		}
	})
}

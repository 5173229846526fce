package resolver

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// proxyOf is a proxy of web in dc1 with upstreams.
func proxyOf(upstreams ...*isthmusv1.Upstream) *isthmusv1.ServiceInstance {
	return &isthmusv1.ServiceInstance{
		Kind: isthmusv1.InstanceKindProxy, Node: "n", Id: "web-proxy", Name: "web-proxy",
		Proxy: &isthmusv1.Proxy{DestinationServiceName: "web", Upstreams: upstreams},
	}
}

// TestRoutesOfUpstreams: an upstream is known by its destination, whatever it
// binds and however it is spelled; of different upstreams with one destination
// the later ones are counted.
func TestRoutesOfUpstreams(t *testing.T) {
	for _, test := range []struct {
		name      string
		upstreams []*isthmusv1.Upstream
		want      []string
	}{
		{"names", []*isthmusv1.Upstream{{DestinationName: "api"}, {DestinationName: "Db"}}, []string{"api", "db"}},
		{"another datacenter", []*isthmusv1.Upstream{{DestinationName: "api", Datacenter: "dc2"}}, []string{"api@dc2"}},
		{"the own datacenter", []*isthmusv1.Upstream{{DestinationName: "api", Datacenter: "DC1"}}, []string{"api"}},
		{
			"binds say nothing",
			[]*isthmusv1.Upstream{
				{DestinationName: "api", LocalBindPort: 1}, {DestinationName: "api", LocalBindAddress: "127.0.0.2", LocalBindPort: 2},
				{DestinationName: "api", LocalBindSocketPath: "/run/a"}, {DestinationName: "api", LocalBindSocketPath: "/run/b", LocalBindSocketMode: "0600"},
			},
			[]string{"api", "api", "api", "api"},
		},
		{
			"a datacenter in another case is the same",
			[]*isthmusv1.Upstream{{DestinationName: "api", Datacenter: "dc2"}, {DestinationName: "api", Datacenter: "DC2"}},
			[]string{"api@dc2", "api@dc2"},
		},
		{
			"one destination, different otherwise",
			[]*isthmusv1.Upstream{
				{DestinationName: "api"}, {DestinationName: "api", ConfigJson: []byte("{}")},
				{DestinationName: "api"}, {DestinationName: "api", ConfigJson: []byte(`{"a":1}`)},
			},
			[]string{"api", "api#2", "api", "api#3"},
		},
		{"a query", []*isthmusv1.Upstream{{DestinationName: "Near", DestinationType: "Prepared_Query"}}, []string{"prepared_query:near"}},
		{"a peer", []*isthmusv1.Upstream{{DestinationName: "api", DestinationPeer: "Cloud"}}, []string{"api%cloud"}},
		{
			"a namespace and a partition",
			[]*isthmusv1.Upstream{{DestinationName: "api", DestinationNamespace: "ns1"}, {DestinationName: "api", DestinationPartition: "p1"}},
			[]string{"default/ns1/api", "p1/default/api"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, routes := newSource(proxyOf(test.upstreams...), "dc1")
			if !slices.Equal(routes, test.want) {
				t.Errorf("routes %q, want %q", routes, test.want)
			}
		})
	}
}

// TestRouteIDFolds: an ID is one whatever spelling it is asked for with.
func TestRouteIDFolds(t *testing.T) {
	s, _ := newSource(proxyOf(), "dc1")
	for _, test := range []struct {
		up   *isthmusv1.Upstream
		want string
	}{
		{&isthmusv1.Upstream{DestinationName: "API", Datacenter: "DC2", DestinationPeer: "Cloud"}, "api@dc2%cloud"},
		{&isthmusv1.Upstream{DestinationName: "api", Datacenter: "DC1"}, "api"},
	} {
		if got := s.routeID(test.up, "dc1"); got != test.want {
			t.Errorf("%v is %s, want %s", test.up, got, test.want)
		}
	}
}

// TestWithoutBind: what is left is only where to and how, and the registration
// stays as it was.
func TestWithoutBind(t *testing.T) {
	up := &isthmusv1.Upstream{
		DestinationName: "api", Datacenter: "DC2", ConfigJson: []byte("{}"), MeshGateway: &isthmusv1.MeshGateway{Mode: "local"},
		LocalBindAddress: "127.0.0.1", LocalBindPort: 1, LocalBindSocketPath: "/run/a", LocalBindSocketMode: "0600",
	}
	before := proto.CloneOf(up)
	want := &isthmusv1.Upstream{
		DestinationName: "api", Datacenter: "dc2", ConfigJson: []byte("{}"), MeshGateway: &isthmusv1.MeshGateway{Mode: "local"},
	}
	if got := withoutBind(up, "dc1"); !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := withoutBind(&isthmusv1.Upstream{Datacenter: "Dc1"}, "dc1"); got.GetDatacenter() != "" {
		t.Errorf("the own datacenter stays: %v", got)
	}
	if !proto.Equal(up, before) {
		t.Errorf("the registration was changed to %v", up)
	}
}

// TestQualify: an upstream's own namespace and partition go before its proxy's.
func TestQualify(t *testing.T) {
	m := proxyOf()
	m.Namespace, m.Partition = "team", "part"
	s, _ := newSource(m, "dc1")
	for _, test := range []struct {
		up   *isthmusv1.Upstream
		want string
	}{
		{&isthmusv1.Upstream{DestinationName: "api"}, "part/team/api"},
		{&isthmusv1.Upstream{DestinationName: "api", DestinationNamespace: "other"}, "part/other/api"},
		{&isthmusv1.Upstream{DestinationName: "api", DestinationPartition: "other"}, "other/team/api"},
		{&isthmusv1.Upstream{DestinationName: "api", DestinationNamespace: "default", DestinationPartition: "default"}, "api"},
	} {
		if got := s.destination(test.up).Qualified(); got != test.want {
			t.Errorf("%v names %s, want %s", test.up, got, test.want)
		}
	}
}

// TestFindOverride: of a peer's service an override of that peer counts, in any
// spelling, and no other.
func TestFindOverride(t *testing.T) {
	s, _ := newSource(proxyOf(), "dc1")
	sd := &isthmusv1.ServiceDefaults{UpstreamOverrides: []*isthmusv1.UpstreamConfig{
		{Name: "api", Peer: "edge", Protocol: "edge"}, {Name: "api", Peer: "Cloud", Protocol: "cloud"}, {Name: "api", Protocol: "own"},
	}}
	for peer, want := range map[string]string{"": "own", "cLOUD": "cloud", "EDGE": "edge", "other": ""} {
		up := &isthmusv1.Upstream{DestinationName: "Api", DestinationPeer: peer}
		if got := findOverride(sd, s, up).GetProtocol(); got != want {
			t.Errorf("of peer %q the override is %q, want %q", peer, got, want)
		}
	}
}

// TestFindOverrideOfMergedModes: what Consul merged was found by the exact name.
func TestFindOverrideOfMergedModes(t *testing.T) {
	s, _ := newSource(proxyOf(), "dc1")
	s.merged = true
	sd := &isthmusv1.ServiceDefaults{UpstreamOverrides: []*isthmusv1.UpstreamConfig{{Name: "Api", Protocol: "upper"}, {Name: "api", Protocol: "lower"}}}
	for name, want := range map[string]string{"api": "lower", "Api": "upper", "API": ""} {
		if got := findOverride(sd, s, &isthmusv1.Upstream{DestinationName: name}).GetProtocol(); got != want {
			t.Errorf("of %s the override is %q, want %q", name, got, want)
		}
	}
}

// TestSourceHash: the hash names what the routes depend on and nothing else.
func TestSourceHash(t *testing.T) {
	hash := func(m *isthmusv1.ServiceInstance) string {
		s, _ := newSource(m, "dc1")
		if len(s.hash) != 16 {
			t.Errorf("hash %s has %d digits, want 16", s.hash, len(s.hash))
		}
		return s.hash
	}
	api := func(change func(*isthmusv1.ServiceInstance)) string {
		m := proxyOf(&isthmusv1.Upstream{DestinationName: "api", LocalBindPort: 1}, &isthmusv1.Upstream{DestinationName: "db", LocalBindPort: 2})
		change(m)
		return hash(m)
	}
	plain := api(func(*isthmusv1.ServiceInstance) {})
	same := map[string]func(*isthmusv1.ServiceInstance){
		"its ID": func(m *isthmusv1.ServiceInstance) { m.Id = "other" },
		"its binds": func(m *isthmusv1.ServiceInstance) {
			m.Proxy.Upstreams[0].LocalBindPort, m.Proxy.Upstreams[0].LocalBindAddress = 9, "127.0.0.9"
			m.Proxy.Upstreams[1].LocalBindSocketPath, m.Proxy.Upstreams[1].LocalBindSocketMode = "/run/s", "0600"
		},
		"the order of its upstreams":            func(m *isthmusv1.ServiceInstance) { slices.Reverse(m.Proxy.Upstreams) },
		"a datacenter that goes without saying": func(m *isthmusv1.ServiceInstance) { m.Proxy.Upstreams[0].Datacenter = "DC1" },
	}
	for name, change := range same {
		if got := api(change); got != plain {
			t.Errorf("%s changes the hash", name)
		}
	}
	seen := map[string]string{plain: "nothing"}
	for name, change := range map[string]func(*isthmusv1.ServiceInstance){
		"its service":               func(m *isthmusv1.ServiceInstance) { m.Proxy.DestinationServiceName = "site" },
		"its mode":                  func(m *isthmusv1.ServiceInstance) { m.Proxy.MeshGateway = &isthmusv1.MeshGateway{Mode: "local"} },
		"that its modes are merged": func(m *isthmusv1.ServiceInstance) { m.MergedCentralConfig = true },
		"an upstream":               func(m *isthmusv1.ServiceInstance) { m.Proxy.Upstreams = m.Proxy.Upstreams[:1] },
		"an upstream's mode": func(m *isthmusv1.ServiceInstance) {
			m.Proxy.Upstreams[0].MeshGateway = &isthmusv1.MeshGateway{Mode: "local"}
		},
	} {
		got := api(change)
		if seen[got] != "" {
			t.Errorf("%s gives the hash that %s gives", name, seen[got])
		}
		seen[got] = name
	}
}

// TestSourceHashOfBrokenText: names that are not UTF-8 cannot be marshalled; the
// hash is then that of the routes' names alone.
func TestSourceHashOfBrokenText(t *testing.T) {
	s, _ := newSource(proxyOf(&isthmusv1.Upstream{DestinationName: "b\xff"}, &isthmusv1.Upstream{DestinationName: "a\xff"}), "dc1")
	sum := sha256.Sum256([]byte("a\uFFFD\x00b\uFFFD"))
	if want := hex.EncodeToString(sum[:8]); s.hash != want {
		t.Errorf("hash %s, want %s", s.hash, want)
	}
}

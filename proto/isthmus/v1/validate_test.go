package isthmusv1_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestValidateName(t *testing.T) {
	for name, want := range map[string]error{
		"web": nil, "Web_2.v1/x": nil, "ünïcode": nil, "*": nil, strings.Repeat("a", 512): nil,
		"":                       isthmusv1.ErrNameEmpty,
		strings.Repeat("a", 513): isthmusv1.ErrNameTooLong,
		"a\x00b":                 isthmusv1.ErrNameText,
		"a\nb":                   isthmusv1.ErrNameText,
		"a\u0085b":               isthmusv1.ErrNameText,
		"\u0020a":                isthmusv1.ErrNameText,
		"a\u00a0":                isthmusv1.ErrNameText,
		"\xff":                   isthmusv1.ErrNameText,
	} {
		if err := isthmusv1.ValidateName(name); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", name, err, want)
		}
	}
}

// sidecar is a legal proxy with one upstream, to be spoiled by a test.
func sidecar() *isthmusv1.ServiceInstance {
	return &isthmusv1.ServiceInstance{
		Node: "n", Id: "web-sidecar-proxy", Name: "web-sidecar-proxy", Kind: isthmusv1.InstanceKindProxy, Port: 20000,
		Proxy: &isthmusv1.Proxy{
			DestinationServiceName: "web",
			Upstreams:              []*isthmusv1.Upstream{{DestinationName: "api", LocalBindPort: 10000}},
		},
	}
}

func gateway() *isthmusv1.ServiceInstance {
	return &isthmusv1.ServiceInstance{Node: "n", Id: "gw", Name: "gw", Kind: isthmusv1.InstanceKindMeshGateway, Port: 8443}
}

// only demands that a value breaks one rule, at one path.
func only(t *testing.T, violations isthmusv1.Violations, path, text string) {
	t.Helper()
	if len(violations) != 1 || violations[0].Path != path || !strings.Contains(violations[0].Text, text) || violations[0].Fix == "" {
		t.Errorf("want %q at %s, got %v", text, path, violations)
	}
}

func TestValidInstances(t *testing.T) {
	socket := sidecar()
	socket.Proxy.Upstreams[0] = &isthmusv1.Upstream{DestinationName: "api", LocalBindSocketPath: "/x", LocalBindSocketMode: "0600"}
	for name, s := range map[string]*isthmusv1.ServiceInstance{
		"plain": {Id: "web", Name: "web"}, "sidecar": sidecar(), "gateway": gateway(), "socket": socket,
	} {
		if v := s.Validate(); len(v) > 0 {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestInstanceRules(t *testing.T) {
	for _, test := range []struct {
		name       string
		spoil      func(s *isthmusv1.ServiceInstance)
		path, text string
	}{
		{"no id", func(s *isthmusv1.ServiceInstance) { s.Id = "" }, "id", "must not be empty"},
		{"no name", func(s *isthmusv1.ServiceInstance) { s.Name = "" }, "name", "must not be empty"},
		{"port", func(s *isthmusv1.ServiceInstance) { s.Port = 65536 }, "port", "out of range"},
		{"no port", func(s *isthmusv1.ServiceInstance) { s.Port = 0 }, "port", "must have a port"},
		{"no destination", func(s *isthmusv1.ServiceInstance) { s.Proxy.DestinationServiceName = "" }, "proxy.destination_service_name", "must name the service"},
		{"native", func(s *isthmusv1.ServiceInstance) { s.ConnectNative = true }, "connect.native", "cannot be Connect-native"},
		{"mode", func(s *isthmusv1.ServiceInstance) { s.Proxy.MeshGateway = &isthmusv1.MeshGateway{Mode: "Local"} }, "proxy.mesh_gateway.mode", `Invalid Mesh Gateway Mode: "Local"`},
		{"upstream mode", func(s *isthmusv1.ServiceInstance) {
			s.Proxy.Upstreams[0].MeshGateway = &isthmusv1.MeshGateway{Mode: "x"}
		}, "proxy.upstreams[0].mesh_gateway.mode", "Invalid Mesh Gateway Mode"},
		{"no destination name", func(s *isthmusv1.ServiceInstance) { s.Proxy.Upstreams[0].DestinationName = "" }, "proxy.upstreams[0].destination_name", "must have a destination_name"},
		{"same destination", func(s *isthmusv1.ServiceInstance) {
			s.Proxy.Upstreams = append(s.Proxy.Upstreams, &isthmusv1.Upstream{DestinationName: "API", DestinationType: "service", LocalBindPort: 1})
		}, "proxy.upstreams[1].destination_name", "already has the destination api"},
		{"same bind", func(s *isthmusv1.ServiceInstance) {
			s.Proxy.Upstreams = append(s.Proxy.Upstreams, &isthmusv1.Upstream{DestinationName: "db", LocalBindAddress: "127.0.0.1", LocalBindPort: 10000})
		}, "proxy.upstreams[1].local_bind_port", "already has the bind 127.0.0.1:10000"},
		{"same bind in another spelling", func(s *isthmusv1.ServiceInstance) {
			s.Proxy.Upstreams[0].LocalBindAddress = "::1"
			s.Proxy.Upstreams = append(s.Proxy.Upstreams, &isthmusv1.Upstream{DestinationName: "db", LocalBindAddress: "0:0:0:0:0:0:0:1", LocalBindPort: 10000})
		}, "proxy.upstreams[1].local_bind_port", "already has the bind [::1]:10000"},
		{"datacenter from a partition", func(s *isthmusv1.ServiceInstance) {
			s.Partition = "p"
			s.Proxy.Upstreams[0].Datacenter = "dc2"
		}, "proxy.upstreams[0].datacenter", "default partition"},
		{"check", func(s *isthmusv1.ServiceInstance) {
			s.Checks = []*isthmusv1.Check{{CheckId: "c", Status: "down"}}
		}, "checks.c.status", "Invalid check status"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := sidecar()
			test.spoil(s)
			only(t, s.Validate(), test.path, test.text)
		})
	}
}

// Two upstreams to one service are apart when their datacenters are, and two
// binds of one port when their addresses are.
func TestUpstreamsThatDiffer(t *testing.T) {
	s := sidecar()
	s.Proxy.Upstreams = append(s.Proxy.Upstreams,
		&isthmusv1.Upstream{DestinationName: "api", Datacenter: "dc2", LocalBindAddress: "127.0.0.2", LocalBindPort: 10000},
		&isthmusv1.Upstream{DestinationName: "api", DestinationType: "prepared_query", LocalBindAddress: "::1", LocalBindPort: 10000},
	)
	if v := s.Validate(); len(v) > 0 {
		t.Error(v)
	}
}

func TestGatewayRules(t *testing.T) {
	for key, spoil := range map[string]func(p *isthmusv1.Proxy){
		"proxy.destination_service_name":  func(p *isthmusv1.Proxy) { p.DestinationServiceName = "a" },
		"proxy.destination_service_id":    func(p *isthmusv1.Proxy) { p.DestinationServiceId = "a" },
		"proxy.local_service_address":     func(p *isthmusv1.Proxy) { p.LocalServiceAddress = "127.0.0.1" },
		"proxy.local_service_port":        func(p *isthmusv1.Proxy) { p.LocalServicePort = 1 },
		"proxy.local_service_socket_path": func(p *isthmusv1.Proxy) { p.LocalServiceSocketPath = "/x" },
		"proxy.upstreams": func(p *isthmusv1.Proxy) {
			p.Upstreams = []*isthmusv1.Upstream{{DestinationName: "a", LocalBindPort: 1}}
		},
	} {
		g := gateway()
		g.Proxy = &isthmusv1.Proxy{}
		spoil(g.Proxy)
		only(t, g.Validate(), key, "must not have "+key)
	}
	g := gateway()
	g.Port = 0
	only(t, g.Validate(), "port", "a mesh-gateway must have a port")
}

func TestUpstreamRules(t *testing.T) {
	for _, test := range []struct {
		name       string
		upstream   *isthmusv1.Upstream
		path, text string
	}{
		{"type", &isthmusv1.Upstream{DestinationName: "a", DestinationType: "x", LocalBindPort: 1}, "destination_type", "Invalid destination type"},
		{"wildcard", &isthmusv1.Upstream{DestinationName: "*", LocalBindPort: 1}, "destination_name", "a wildcard is not a name"},
		{"no bind", &isthmusv1.Upstream{DestinationName: "a"}, "local_bind_port", "must have local_bind_port"},
		{"both binds", &isthmusv1.Upstream{DestinationName: "a", LocalBindPort: 1, LocalBindSocketPath: "/x"}, "local_bind_socket_path", "on a port or on a socket"},
		{"address and socket", &isthmusv1.Upstream{DestinationName: "a", LocalBindAddress: "127.0.0.1", LocalBindSocketPath: "/x"}, "local_bind_socket_path", "on a port or on a socket"},
		{"peer and datacenter", &isthmusv1.Upstream{DestinationName: "a", DestinationPeer: "p", Datacenter: "d", LocalBindPort: 1}, "destination_peer", "to a peer or to a datacenter"},
		{"partition and datacenter", &isthmusv1.Upstream{DestinationName: "a", DestinationPartition: "p", Datacenter: "d", LocalBindPort: 1}, "datacenter", "default partition"},
		{"mode without socket", &isthmusv1.Upstream{DestinationName: "a", LocalBindPort: 1, LocalBindSocketMode: "0600"}, "local_bind_socket_mode", "needs local_bind_socket_path"},
		{"mode of letters", &isthmusv1.Upstream{DestinationName: "a", LocalBindSocketPath: "/x", LocalBindSocketMode: "rw"}, "local_bind_socket_mode", "is not an octal file mode"},
		{"mode too high", &isthmusv1.Upstream{DestinationName: "a", LocalBindSocketPath: "/x", LocalBindSocketMode: "1777"}, "local_bind_socket_mode", "is not an octal file mode"},
	} {
		t.Run(test.name, func(t *testing.T) { only(t, test.upstream.Validate(), test.path, test.text) })
	}
}

// Every kind of entry that is legal and says nothing but what it must.
func TestValidEntries(t *testing.T) {
	for _, e := range []*isthmusv1.ConfigEntry{
		{Kind: "proxy-defaults", Name: "global", Entry: &isthmusv1.ConfigEntry_ProxyDefaults{ProxyDefaults: &isthmusv1.ProxyDefaults{}}},
		{Kind: "service-defaults", Name: "web", Entry: &isthmusv1.ConfigEntry_ServiceDefaults{ServiceDefaults: &isthmusv1.ServiceDefaults{}}},
		{Kind: "service-resolver", Name: "web", Entry: &isthmusv1.ConfigEntry_ServiceResolver{ServiceResolver: &isthmusv1.ServiceResolver{}}},
		{Kind: "service-splitter", Name: "web", Entry: &isthmusv1.ConfigEntry_ServiceSplitter{ServiceSplitter: &isthmusv1.ServiceSplitter{Splits: []*isthmusv1.ServiceSplit{{Weight: 10000}}}}},
		{Kind: "service-router", Name: "web", Entry: &isthmusv1.ConfigEntry_ServiceRouter{ServiceRouter: &isthmusv1.ServiceRouter{}}},
		{Kind: "service-intentions", Name: "*", Entry: &isthmusv1.ConfigEntry_ServiceIntentions{ServiceIntentions: &isthmusv1.ServiceIntentions{Sources: []*isthmusv1.SourceIntention{{Name: "*", Action: "deny"}}}}},
		{Kind: "mesh", Name: "mesh", Entry: &isthmusv1.ConfigEntry_Mesh{Mesh: &isthmusv1.Mesh{}}},
		{Kind: "exported-services", Name: "default", Entry: &isthmusv1.ConfigEntry_ExportedServices{ExportedServices: &isthmusv1.ExportedServices{}}},
		{Kind: "http-route", Name: "r", Entry: &isthmusv1.ConfigEntry_UnsupportedJson{UnsupportedJson: []byte("{}")}},
	} {
		if v := e.Validate(); len(v) > 0 {
			t.Errorf("%s: %v", e.GetKind(), v)
		}
	}
}

func TestSplitterWeights(t *testing.T) {
	splitter := func(weights ...uint32) *isthmusv1.ConfigEntry {
		s := &isthmusv1.ServiceSplitter{}
		for i, w := range weights {
			s.Splits = append(s.Splits, &isthmusv1.ServiceSplit{Weight: w, ServiceSubset: string(rune('a' + i))})
		}
		return &isthmusv1.ConfigEntry{Kind: "service-splitter", Name: "web", Entry: &isthmusv1.ConfigEntry_ServiceSplitter{ServiceSplitter: s}}
	}
	for _, good := range [][]uint32{{10000}, {1, 9999}, {3333, 3333, 3334}, {0, 10000}} {
		if v := splitter(good...).Validate(); len(v) > 0 {
			t.Errorf("%v: %v", good, v)
		}
	}
	only(t, splitter(3333, 3333, 3333).Validate(), "splits", "add up to 99.99, not 100")
	only(t, splitter(5000, 5001).Validate(), "splits", "add up to 100.01, not 100")
	only(t, splitter(1).Validate(), "splits", "add up to 0.01, not 100")
	only(t, splitter(1<<31, 1<<31).Validate(), "splits", "not 100")
	only(t, splitter().Validate(), "splits", "at least one split")
}

func TestResolverRules(t *testing.T) {
	base := func() (*isthmusv1.ConfigEntry, *isthmusv1.ServiceResolver) {
		r := &isthmusv1.ServiceResolver{Subsets: []*isthmusv1.ServiceSubset{{Name: "v1"}}}
		return &isthmusv1.ConfigEntry{Kind: "service-resolver", Name: "web", Entry: &isthmusv1.ConfigEntry_ServiceResolver{ServiceResolver: r}}, r
	}
	for _, test := range []struct {
		name       string
		spoil      func(r *isthmusv1.ServiceResolver)
		path, text string
	}{
		{"default subset", func(r *isthmusv1.ServiceResolver) { r.DefaultSubset = "v2" }, "default_subset", "is not a subset of web"},
		{"subset name", func(r *isthmusv1.ServiceResolver) { r.Subsets[0].Name = "-v" }, "subsets.-v", "cannot name a subset"},
		{"long subset name", func(r *isthmusv1.ServiceResolver) { r.Subsets[0].Name = strings.Repeat("a", 64) }, "subsets." + strings.Repeat("a", 64), "cannot name a subset"},
		{"timeout", func(r *isthmusv1.ServiceResolver) { r.ConnectTimeout = durationpb.New(-1) }, "connect_timeout", "is negative"},
		{"empty redirect", func(r *isthmusv1.ServiceResolver) { r.Redirect = &isthmusv1.ServiceRedirect{} }, "redirect", "leads nowhere"},
		{"own subset in other case", func(r *isthmusv1.ServiceResolver) {
			r.Redirect = &isthmusv1.ServiceRedirect{Service: "WEB", ServiceSubset: "v2"}
		}, "redirect.service_subset", "is not a subset of web"},
		{"failover", func(r *isthmusv1.ServiceResolver) { r.Failover = []*isthmusv1.ServiceFailover{{Subset: "v1"}} }, "failover.v1", "leads nowhere"},
		{"failover of nothing", func(r *isthmusv1.ServiceResolver) {
			r.Failover = []*isthmusv1.ServiceFailover{{Datacenters: []string{"dc2"}}}
		}, "failover", "must name its subset"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, r := base()
			test.spoil(r)
			only(t, e.Validate(), test.path, test.text)
		})
	}
	t.Run("another service's subset is not judged", func(t *testing.T) {
		e, r := base()
		r.Redirect = &isthmusv1.ServiceRedirect{Service: "api", ServiceSubset: "v9", Datacenter: "dc2"}
		if v := e.Validate(); len(v) > 0 {
			t.Error(v)
		}
	})
}

func TestNodeRules(t *testing.T) {
	only(t, (&isthmusv1.Node{Name: "a"}).Validate(), "advertise_addr", "needs an address")
	only(t, (&isthmusv1.Node{Name: "a", Address: "0.0.0.0"}).Validate(), "advertise_addr", "every interface")
	only(t, (&isthmusv1.Node{Name: "a", Address: "10.0.0.1", TaggedAddresses: []*isthmusv1.TaggedAddress{{Tag: "wan", Address: "a:b"}}}).Validate(), "advertise_addr_wan", "neither an IP address")
	only(t, (&isthmusv1.Node{Address: "10.0.0.1"}).Validate(), "node_name", "must not be empty")
}

package check_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/check"
	"github.com/isthmus-mesh/isthmus/services/consul"
)

// wellAgent is an agent of a datacenter where nothing is wrong.
func wellAgent(dc string, others ...string) check.AgentFacts {
	a := check.AgentFacts{
		URL: "http://" + dc, Home: true, TrustDomain: "td.consul", Datacenters: append([]string{dc}, others...),
		Self: &consul.Self{
			Datacenter: dc, PrimaryDatacenter: "dc1", NodeName: dc + "-1", Version: "1.22.5", Server: true,
			ConnectEnabled: true, CentralConfig: true, DefaultIntentionPolicy: "allow", GRPCPort: 8502,
		},
		LAN:     []consul.Member{{Name: dc + "-1", Datacenter: dc, ID: dc, Build: "1.22.5", Server: true, Alive: true}},
		Through: map[string]check.ThroughFacts{},
		Catalog: &check.CatalogFacts{Nodes: []*consul.NodeState{{
			Node: &isthmusv1.Node{Name: dc + "-1", Address: "127.0.0.1"},
			Instances: []*isthmusv1.ServiceInstance{{
				Node: dc + "-1", Id: "gw", Name: "gw", Kind: isthmusv1.InstanceKindMeshGateway, Port: 1,
				Checks: []*isthmusv1.Check{{CheckId: "c", Status: "passing"}},
			}},
		}}},
	}
	for _, name := range append([]string{dc}, others...) {
		a.WAN = append(a.WAN, consul.Member{Name: name + "-1." + name, Datacenter: name, ID: name, Build: "1.22.5", Server: true, Alive: true})
	}
	for _, name := range others {
		a.Through[name] = check.ThroughFacts{TrustDomain: "td.consul"}
	}
	return a
}

func wellFacts() *check.Facts {
	f := &check.Facts{From: "m", Agents: []check.AgentFacts{wellAgent("dc1", "dc2", "dc3"), wellAgent("dc2", "dc1", "dc3"), wellAgent("dc3", "dc1", "dc2")}}
	for _, dc := range []string{"dc1", "dc2", "dc3"} {
		f.Paths = append(f.Paths, check.PathFacts{Gateway: true, Datacenter: dc, Name: dc + "-1/gw", WAN: true, Address: "a:1"})
	}
	return f
}

func wellBus() *check.BusFacts {
	return &check.BusFacts{Datacenters: []check.BusDatacenter{{
		Datacenter: "dc1", Compared: true,
		Catalog:  &check.StreamFacts{Sequence: 7, Filled: true, Owner: "w"},
		Routes:   &check.StreamFacts{Sequence: 9, Filled: true, Owner: "r"},
		Gateways: []check.GatewayFacts{{Name: "dc1-1/gw", Registered: true, State: "serving"}},
		Proxies:  []check.ProxyFacts{{Proxy: "dc1-1/web", Reporter: "sidecar/web", Connected: true}},
	}}}
}

// Each fact that is not as it should be has its finding, and no other comes with it.
func TestJudge(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*check.Facts)
		fails  []string
		warns  []string
		says   string
	}{
		"all is well":                {func(*check.Facts) {}, nil, nil, "1 server: Consul 1.22.5"},
		"an old agent":               {func(f *check.Facts) { f.Agents[1].Self.Version = "1.5.3" }, []string{"VERSION dc2"}, nil, "Consul 1.5.3"},
		"an old server":              {func(f *check.Facts) { f.Agents[1].LAN[0].Build = "1.5.9+ent" }, []string{"VERSION dc2"}, nil, "older than 1.6.0: dc2-1 1.5.9+ent"},
		"the oldest that will do":    {func(f *check.Facts) { f.Agents[1].Self.Version = "1.6.0-dev" }, nil, nil, "Consul 1.6.0-dev"},
		"a newer major":              {func(f *check.Facts) { f.Agents[1].Self.Version = "2.0" }, nil, nil, "Consul 2.0"},
		"a clock that shows nothing": {func(f *check.Facts) { f.Agents[0].Clock = clock(-1200 * time.Millisecond) }, nil, nil, ""},
		"a clock a little behind":    {func(f *check.Facts) { f.Agents[0].Clock = clock(-3 * time.Second) }, nil, []string{"CLOCK dc1"}, "2.5s behind"},
		"a clock far ahead":          {func(f *check.Facts) { f.Agents[0].Clock = clock(40 * time.Second) }, []string{"CLOCK dc1"}, nil, "39.5s ahead of"},
		"the third has another primary": {
			func(f *check.Facts) { f.Agents[0].Self.PrimaryDatacenter = "DC3" }, []string{"PRIMARY_DATACENTER dc1"}, nil, "dc1 has dc3, dc2 has dc1, dc3 has dc1",
		},
		"two mesh gateways": {
			func(f *check.Facts) {
				n := f.Agents[0].Catalog.Nodes[0]
				n.Instances = append(n.Instances, &isthmusv1.ServiceInstance{
					Node: "dc1-1", Id: "gw2", Name: "gw", Kind: isthmusv1.InstanceKindMeshGateway, Checks: n.Instances[0].GetChecks(),
				})
			}, nil, nil, "2 mesh gateways: dc1-1/gw, dc1-1/gw2",
		},
		"an agent that does not say of which datacenter it is": {
			func(f *check.Facts) {
				f.Agents = f.Agents[:1]
				f.Agents[0].Self, f.Agents[0].SelfErr, f.Agents[0].LAN, f.Agents[0].Catalog = nil, consul.ErrDenied, nil, nil
				f.Agents[0].Through, f.Paths = nil, nil
			}, []string{"INTENTION_DEFAULT http://dc1"}, []string{
				"CENTRAL_CONFIG http://dc1", "DATACENTER_NAME http://dc1", "GRPC http://dc1", "PRIMARY_DATACENTER http://dc1", "VERSION http://dc1", "WAN_JOINED http://dc1",
			}, "does not say of which datacenter it is",
		},
		"a mode as bare text": {
			func(f *check.Facts) {
				f.Agents[0].Catalog.Entries = append(f.Agents[0].Catalog.Entries, &isthmusv1.ConfigEntry{
					Kind: isthmusv1.EntryProxyDefaults, Name: "global", Entry: &isthmusv1.ConfigEntry_ProxyDefaults{
						ProxyDefaults: &isthmusv1.ProxyDefaults{ConfigJson: []byte(`{"mesh_gateway":"local"}`)},
					},
				})
			}, []string{"MODE_INVALID dc1"}, nil, `mesh_gateway is the text "local"`,
		},
		"a terminating gateway": {
			func(f *check.Facts) {
				n := f.Agents[0].Catalog.Nodes[0]
				n.Instances = append(n.Instances, &isthmusv1.ServiceInstance{Node: "dc1-1", Id: "tgw", Name: "tgw", Kind: isthmusv1.InstanceKindTerminatingGateway})
			}, nil, []string{"GATEWAY_NAMES dc1"}, "terminating gateway dc1-1/tgw",
		},
		"a service for a peer": {
			func(f *check.Facts) {
				f.Agents[1].Catalog.Entries = append(f.Agents[1].Catalog.Entries, &isthmusv1.ConfigEntry{
					Kind: isthmusv1.EntryExportedServices, Name: "default", Entry: &isthmusv1.ConfigEntry_ExportedServices{
						ExportedServices: &isthmusv1.ExportedServices{Services: []*isthmusv1.ExportedService{
							{Name: "api", Consumers: []*isthmusv1.ServiceConsumer{{Peer: "p"}}},
						}},
					},
				})
			}, nil, []string{"GATEWAY_NAMES dc2"}, "api exported to a peer",
		},
		"another trust":               {func(f *check.Facts) { f.Agents[2].TrustDomain = "other.consul" }, []string{"TRUST_DOMAIN dc3"}, nil, "dc3 has other.consul"},
		"a server of another is away": {func(f *check.Facts) { f.Agents[0].WAN[1].Alive = false }, []string{"WAN_JOINED dc1"}, nil, "no server of dc2 is alive"},
		"no answer from another": {
			func(f *check.Facts) {
				f.Agents[0].Through["dc2"] = check.ThroughFacts{CatalogErr: consul.ErrUnavailable}
			}, []string{"WAN_JOINED dc1"}, nil, "gets no answer",
		},
		"a refusal is an answer": {
			func(f *check.Facts) { f.Agents[0].Through["dc2"] = check.ThroughFacts{CatalogErr: consul.ErrDenied} }, nil, nil, "",
		},
		"a datacenter that is gone for good": {
			func(f *check.Facts) { f.Agents[0].Datacenters = append(f.Agents[0].Datacenters, "dc9") }, nil, []string{"WAN_JOINED dc1"}, "",
		},
		"a stranger in the WAN pool": {
			func(f *check.Facts) {
				f.Agents[0].WAN = append(f.Agents[0].WAN, consul.Member{Name: "x.dc1", Datacenter: "dc1", ID: "x", Build: "1.22.5", Server: true, Alive: true})
			}, []string{"DATACENTER_NAME dc1"}, nil, "x.dc1",
		},
		"no gateway": {func(f *check.Facts) { f.Agents[0].Catalog.Nodes = nil }, nil, []string{"GATEWAYS dc1"}, "have no path"},
		"a gateway without a check": {
			func(f *check.Facts) { f.Agents[0].Catalog.Nodes[0].Instances[0].Checks = nil }, nil, []string{"GATEWAY_HEALTH dc1"}, "no check of its own",
		},
		"a critical gateway": {
			func(f *check.Facts) { f.Agents[0].Catalog.Nodes[0].Instances[0].Checks[0].Status = "critical" }, []string{"GATEWAY_HEALTH dc1"}, nil, "no path through them",
		},
		"one critical gateway of two": {
			func(f *check.Facts) {
				n := f.Agents[0].Catalog.Nodes[0]
				n.Instances = append(n.Instances, &isthmusv1.ServiceInstance{
					Node: "dc1-1", Id: "gw2", Name: "gw", Kind: isthmusv1.InstanceKindMeshGateway, Checks: []*isthmusv1.Check{{CheckId: "c", Status: "critical"}},
				})
			}, nil, []string{"GATEWAY_HEALTH dc1"}, "it gets no traffic",
		},
		"a gateway that is not reached": {
			func(f *check.Facts) { f.Paths[0].Outcome, f.Paths[0].Err = check.NotConnected, errors.New("refused") }, []string{"GATEWAY_REACH dc1"}, nil, "no connection: refused",
		},
		"nothing behind a gateway": {func(f *check.Facts) { f.Paths[0].Outcome = check.Connected }, nil, []string{"GATEWAY_REACH dc1"}, ""},
		"a WAN address that this machine does without": {
			func(f *check.Facts) {
				f.Paths[0].Outcome = check.NotConnected
				f.Paths = append(f.Paths, check.PathFacts{Gateway: true, Datacenter: "dc1", Name: "dc1-1/gw", Address: "b:1"})
			}, nil, []string{"GATEWAY_REACH dc1"}, "does without",
		},
		"a service that is not reached": {
			func(f *check.Facts) {
				f.Paths = append(f.Paths, check.PathFacts{Datacenter: "dc1", Name: "dc1-1/web", Outcome: check.Impostor})
			},
			[]string{"SERVICE_REACH dc1"}, nil, "not of that service",
		},
		"a datacenter without an agent of its own": {func(f *check.Facts) {
			f.Agents = f.Agents[:2]
			f.Agents[0].Through["dc3"] = check.ThroughFacts{TrustDomain: "td.consul", Catalog: wellAgent("dc3").Catalog}
		}, nil, []string{"ACL_TOKEN dc3", "AGENT dc3", "CENTRAL_CONFIG dc3", "CLOCK dc3", "GRPC dc3", "INTENTION_DEFAULT dc3", "PRIMARY_DATACENTER dc3", "SERVICE_REACH dc3"}, "no agent of dc3 was asked"},
		"one whose agent does not answer": {func(f *check.Facts) {
			f.Agents[2] = check.AgentFacts{Given: "dc3", URL: "http://dc3", Err: consul.ErrUnavailable}
			f.Agents[0].Through["dc3"] = check.ThroughFacts{TrustDomain: "td.consul", Catalog: wellAgent("dc3").Catalog}
		}, []string{"AGENT dc3"}, []string{"ACL_TOKEN dc3", "CENTRAL_CONFIG dc3", "CLOCK dc3", "GRPC dc3", "INTENTION_DEFAULT dc3", "PRIMARY_DATACENTER dc3", "SERVICE_REACH dc3"}, "does not answer"},
		"a token that is local": {func(f *check.Facts) {
			f.Agents = f.Agents[:1]
			for _, dc := range []string{"dc2", "dc3"} {
				f.Agents[0].Through[dc] = check.ThroughFacts{CatalogErr: consul.ErrDenied, TrustDomain: "td.consul"}
			}
			f.Paths = nil
			f.Agents[0].Datacenters, f.Agents[0].WAN = []string{"dc1", "dc2"}, f.Agents[0].WAN[:2]
			delete(f.Agents[0].Through, "dc3")
		}, nil, []string{"ACL_TOKEN dc2", "AGENT dc2", "CATALOG dc2", "CENTRAL_CONFIG dc2", "CLOCK dc2", "GRPC dc2", "INTENTION_DEFAULT dc2", "PRIMARY_DATACENTER dc2"}, "not judged: denied"},
		"gRPC is closed": {func(f *check.Facts) { f.Agents[0].Self.GRPCPort = -1 }, nil, []string{"GRPC dc1"}, "does not need it"},
		"gRPC is closed to an Envoy": {func(f *check.Facts) {
			f.Agents[0].Self.GRPCPort, f.Bus = -1, wellBus()
			gateway := f.Agents[0].Catalog.Nodes[0].Instances[0]
			gateway.Checks[0].Name, f.Bus.Datacenters[0].Gateways[0].State = "mesh-gateway listening", ""
		}, []string{"GRPC dc1"}, []string{"GATEWAY_REPORT dc1"}, "Consul's own Envoys are registered on it: dc1-1/gw"},
		"gRPC is closed to ours": {func(f *check.Facts) {
			f.Agents[0].Self.GRPCPort, f.Bus = -1, wellBus()
			f.Agents[0].Catalog.Nodes[0].Instances[0].Checks[0].Name = "mesh-gateway listening"
		}, nil, []string{"GRPC dc1"}, "Envoys that Consul runs would"},
		"a machine elsewhere": {func(f *check.Facts) { f.Agents[1].Home = false }, nil, []string{"SERVICE_REACH dc2"}, "this machine is not in dc2"},
		"what others have found": {func(f *check.Facts) {
			f.Extra = []check.Finding{{Code: "STICKY", Datacenter: "dc1", Status: check.Fail}}
		}, []string{"STICKY dc1"}, nil, ""},
		"the log is well":                 {func(f *check.Facts) { f.Bus = wellBus() }, nil, nil, "the log is what Consul says"},
		"no log":                          {func(f *check.Facts) { f.Bus = &check.BusFacts{Err: errors.New("away")} }, []string{"BUS "}, nil, "away"},
		"routes in a domain of their own": {onBus(func(d *check.BusDatacenter) { mirror(time.Second)(d); d.Routes = nil; d.Gateways[0].State = "" }), nil, nil, "in its own domain"},
		"no routes":                       {onBus(func(d *check.BusDatacenter) { d.Routes = nil }), []string{"BUS dc1"}, nil, "no ROUTES_dc1"},
		"no watcher":                      {onBus(func(d *check.BusDatacenter) { d.Catalog.Owner = "" }), []string{"WATCHER dc1"}, nil, "nobody writes"},
		"a watcher without Consul":        {onBus(func(d *check.BusDatacenter) { d.Catalog.SourceLost = true }), []string{"WATCHER dc1"}, nil, "no longer sees its source"},
		"a first fill that is open":       {onBus(func(d *check.BusDatacenter) { d.Catalog.Filled = false }), []string{"WATCHER dc1"}, nil, "not whole"},
		"no resolver":                     {onBus(func(d *check.BusDatacenter) { d.Routes.Owner = "" }), []string{"RESOLVER dc1"}, nil, ""},
		"a lag":                           {onBus(func(d *check.BusDatacenter) { d.Differing = []string{"node/x"} }), []string{"WATCHER_LAG dc1"}, nil, "1 value of the log stayed different from what Consul says: node/x"},
		"old routes":                      {onBus(func(d *check.BusDatacenter) { d.Behind = []string{"CATALOG_dc1 is at #7, the routes are those of #5"} }), []string{"RESOLVER_LAG dc1"}, nil, "of #5"},
		"a late mirror":                   {onBus(mirror(20 * time.Second)), nil, []string{"MIRROR dc1"}, "20s ago"},
		"a stale mirror":                  {onBus(mirror(2 * time.Minute)), []string{"MIRROR dc1"}, nil, "stale"},
		"a mirror without news":           {onBus(mirror(-1)), []string{"MIRROR dc1"}, nil, "ever came"},
		"a gateway that has ended":        {onBus(func(d *check.BusDatacenter) { d.Gateways[0].Registered, d.Gateways[0].Age = false, time.Hour }), nil, nil, ""},
		"a gateway that is silent":        {onBus(func(d *check.BusDatacenter) { d.Gateways[0].State = "" }), nil, []string{"GATEWAY_REPORT dc1"}, "never reported"},
		"a gateway that was heard":        {onBus(func(d *check.BusDatacenter) { d.Gateways[0].Age = 3 * time.Minute }), []string{"GATEWAY_REPORT dc1"}, nil, "3m0s old"},
		"a gateway that lags":             {onBus(func(d *check.BusDatacenter) { d.Gateways[0].Behind = 3 }), nil, []string{"GATEWAY_REPORT dc1"}, "3 messages behind"},
		"an Envoy without a node":         {onBus(func(d *check.BusDatacenter) { d.Gateways[0].Away = true }), nil, []string{"GATEWAY_REPORT dc1"}, "no xds node"},
		"a gateway by its table":          {onBus(func(d *check.BusDatacenter) { d.Gateways[0].SavedTable = true }), nil, []string{"GATEWAY_REPORT dc1"}, ""},
		"a gateway nobody knows":          {onBus(func(d *check.BusDatacenter) { d.Gateways[0].Registered = false }), nil, []string{"GATEWAY_REPORT dc1"}, ""},
		"a refusal":                       {onBus(func(d *check.BusDatacenter) { d.Proxies[0].Nack = "listener x: no" }), []string{"PROXY_REPORT dc1"}, nil, "listener x: no"},
		"a proxy in trouble":              {onBus(func(d *check.BusDatacenter) { d.Proxies[0].Problems = []string{"NO_GATEWAY: none"} }), nil, []string{"PROXY_REPORT dc1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			facts := wellFacts()
			test.change(facts)
			findings := check.Judge(facts)
			wantBad(t, findings, check.Fail, test.fails...)
			wantBad(t, findings, check.Warn, test.warns...)
			if test.says != "" && !slices.ContainsFunc(findings, func(f check.Finding) bool { return strings.Contains(f.Found, test.says) }) {
				t.Errorf("nothing says %q", test.says)
			}
			for _, f := range findings {
				if f.From != "m" || f.Found == "" && f.Code != "STICKY" || (f.Fix == "") != (f.Status == check.Pass) && f.Code != "STICKY" {
					t.Errorf("%+v", f)
				}
			}
			if again := check.Judge(facts); !slices.Equal(again, findings) {
				t.Error("judged again, it is not the same")
			}
		})
	}
}

func clock(skew time.Duration) consul.Clock {
	return consul.Clock{Skew: skew, Within: time.Second / 2}
}

func onBus(change func(*check.BusDatacenter)) func(*check.Facts) {
	return func(f *check.Facts) {
		f.Bus = wellBus()
		change(&f.Bus.Datacenters[0])
	}
}

func mirror(active time.Duration) func(*check.BusDatacenter) {
	return func(d *check.BusDatacenter) { d.Catalog.Mirrored, d.Catalog.Owner, d.Catalog.Active = true, "", active }
}

// Text is numbered, and sums up.
func TestText(t *testing.T) {
	var text strings.Builder
	check.WriteText(&text, []check.Finding{
		{Code: check.Agent, Datacenter: "dc1", Status: check.Pass, Subject: "agent a", From: "m", Found: "answers"},
		{Code: check.Bus, Status: check.Fail, Subject: "log", From: "m", Found: "away", Fix: "start it"},
	})
	const want = `1 √ AGENT dc1, agent a: answers
2 × BUS all, log: away
    to do: start it
2 checks: 1 passed, 0 warned, 1 failed, judged from m
`
	if text.String() != want {
		t.Errorf("%s\nwant\n%s", text.String(), want)
	}
}

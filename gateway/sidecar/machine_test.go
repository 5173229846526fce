package sidecar

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// feed applies one transaction of values; a nil value ends its key.
type feed struct {
	machine  *Machine
	sequence uint64
}

func (f *feed) apply(reset bool, basis *isthmusv1.Basis, values ...keyed) {
	t := &isthmusv1.Transaction{Stream: "ROUTES_dc1", Incarnation: "i", Reset: reset}
	if basis != nil {
		t.End = &isthmusv1.TransactionEnd{Basis: basis}
	}
	for _, v := range values {
		f.sequence++
		t.Changes = append(t.Changes, isthmusv1.Change{Key: v.key, Value: v.value, Tombstone: v.value == nil, Sequence: f.sequence})
	}
	t.Sequence = f.sequence
	f.machine.Apply(t)
}

// keyed is a value at its key.
type keyed struct {
	key   isthmusv1.Key
	value proto.Message
}

func proxyAt(node, id, service string) keyed {
	return keyed{isthmusv1.ProxyKey("", node, "", id), &isthmusv1.ProxyRoutes{
		Node: node, Id: id, Name: id, Kind: isthmusv1.InstanceKindProxy,
		Service: serviceRef(service), Address: "127.0.0.1", Port: 21000,
	}}
}

func routeSet(service, hash string, routes ...*isthmusv1.Route) keyed {
	ref := serviceRef(service)
	return keyed{isthmusv1.RouteSetKey(ref, hash), &isthmusv1.RouteSet{Service: ref, Hash: hash, Routes: routes}}
}

// setRef names the endpoint set of a service.
func setRef(service, datacenter string, scope isthmusv1.Scope) *isthmusv1.EndpointSetRef {
	return &isthmusv1.EndpointSetRef{Service: serviceRef(service), Datacenter: datacenter, Scope: scope}
}

// endpointSet fills a set; "!" before an address makes it unhealthy.
func endpointSet(ref *isthmusv1.EndpointSetRef, addresses ...string) keyed {
	set := &isthmusv1.EndpointSet{Ref: ref, Chunks: 1, Availability: isthmusv1.Availability_AVAILABILITY_EMPTY}
	for i, address := range addresses {
		host, unhealthy := strings.CutPrefix(address, "!")
		e := &isthmusv1.Endpoint{Address: host, Port: uint32(8000 + i), Weight: 1, Health: isthmusv1.Health_HEALTH_HEALTHY}
		if unhealthy {
			e.Health = isthmusv1.Health_HEALTH_UNHEALTHY
			if set.GetAvailability() == isthmusv1.Availability_AVAILABILITY_EMPTY {
				set.Availability = isthmusv1.Availability_AVAILABILITY_UNHEALTHY
			}
		} else {
			set.Availability = isthmusv1.Availability_AVAILABILITY_HEALTHY
		}
		set.Endpoints = append(set.Endpoints, e)
	}
	return keyed{ref.ID().Key(0), set}
}

func inboundAt(in *isthmusv1.Inbound) keyed { return keyed{isthmusv1.InboundKey(in.GetService()), in} }

func TestMachineFindsItsProxy(t *testing.T) {
	gateway := proxyAt("n1", "gw", "mesh-gateway")
	gateway.value.(*isthmusv1.ProxyRoutes).Kind = isthmusv1.InstanceKindMeshGateway
	all := []keyed{proxyAt("n1", "web-proxy", "web"), proxyAt("n2", "web-proxy", "web"), proxyAt("n2", "Api-Proxy", "api"), gateway}
	tests := []struct {
		proxy, found string
		err          error
		says         string
	}{
		{"n2/web-proxy", "n2/web-proxy", nil, ""},
		{"N1/WEB-PROXY", "n1/web-proxy", nil, ""},
		{"api-proxy", "n2/Api-Proxy", nil, ""},
		{"web-proxy", "", ErrAmbiguous, "n1/web-proxy, n2/web-proxy"},
		{"n3/web-proxy", "", ErrNoProxy, "n3/web-proxy"},
		{"proxy", "", ErrNoProxy, ""},
		{"gw", "", ErrNotSidecar, "mesh-gateway"},
	}
	for _, test := range tests {
		t.Run(test.proxy, func(t *testing.T) {
			f := feed{machine: NewMachine(test.proxy)}
			f.apply(true, nil, all...)
			view, err := f.machine.View()
			if !errors.Is(err, test.err) {
				t.Fatalf("got %v; want %v", err, test.err)
			}
			if err == nil && view.Name() != test.found {
				t.Errorf("found %s; want %s", view.Name(), test.found)
			}
			if err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%q does not say %q", err, test.says)
			}
		})
	}
}

// TestMachineStaysWithItsProxy: another of the same ID, registered later, takes
// nothing over.
func TestMachineStaysWithItsProxy(t *testing.T) {
	f := feed{machine: NewMachine("web-proxy")}
	f.apply(true, nil)
	if _, err := f.machine.View(); !errors.Is(err, ErrNoProxy) {
		t.Fatalf("before it is there: %v", err)
	}
	f.apply(false, nil, proxyAt("n2", "web-proxy", "web"))
	if !f.machine.Stale() {
		t.Fatal("its own arrival went unnoticed")
	}
	if view, err := f.machine.View(); err != nil || view.Name() != "n2/web-proxy" {
		t.Fatalf("got %v, %v", view, err)
	}
	f.apply(false, nil, proxyAt("n1", "web-proxy", "web"))
	if f.machine.Stale() {
		t.Error("another proxy concerns it")
	}
	f.apply(true, nil, proxyAt("n1", "web-proxy", "web"), proxyAt("n2", "web-proxy", "web"))
	if view, err := f.machine.View(); err != nil || view.Name() != "n2/web-proxy" {
		t.Errorf("after a reset: %v, %v", view, err)
	}
	f.apply(false, nil, keyed{key: isthmusv1.ProxyKey("", "n2", "", "web-proxy")})
	if view, err := f.machine.View(); err != nil || view.Name() != "n1/web-proxy" {
		t.Errorf("after it left: %v, %v", view, err)
	}
}

// TestMachineWorksForWhatConcernsIt: only a change of what the view was made of
// makes a new one.
func TestMachineWorksForWhatConcernsIt(t *testing.T) {
	lan, health := setRef("api", "dc1", isthmusv1.Scope_SCOPE_LAN), setRef("api", "dc1", isthmusv1.Scope_SCOPE_HEALTH)
	route := resolverRoute("api", &isthmusv1.Target{Id: "api.dc1", EndpointSets: []*isthmusv1.EndpointSetRef{lan}, Backend: health})
	web := proxyAt("n1", "web-proxy", "web")
	web.value.(*isthmusv1.ProxyRoutes).RoutesetHash = "h"
	base := []keyed{
		web, routeSet("web", "h", route), endpointSet(lan, "10.0.0.1"), endpointSet(health),
		inboundAt(&isthmusv1.Inbound{Service: serviceRef("web")}),
		{isthmusv1.MeshKey(), &isthmusv1.MeshRoutes{Datacenter: "dc1", TrustDomain: td}},
	}
	tests := []struct {
		name  string
		value keyed
		stale bool
	}{
		{"its own proxy", web, true},
		{"its route set", routeSet("web", "h", route), true},
		{"an endpoint set of a target", endpointSet(lan), true},
		{"the set of a target's backend", endpointSet(health, "!x"), true},
		{"its service's intentions", inboundAt(&isthmusv1.Inbound{Service: serviceRef("web")}), true},
		{"the mesh", keyed{isthmusv1.MeshKey(), &isthmusv1.MeshRoutes{}}, true},
		{"the end of an endpoint set", keyed{key: lan.ID().Key(0)}, true},
		{"another proxy", proxyAt("n2", "db-proxy", "db"), false},
		{"another service's route set", routeSet("db", "h", route), false},
		{"its service's route set for others", routeSet("web", "other", route), false},
		{"another endpoint set", endpointSet(setRef("db", "dc1", isthmusv1.Scope_SCOPE_LAN), "x"), false},
		{"the same service elsewhere", endpointSet(setRef("api", "dc2", isthmusv1.Scope_SCOPE_LAN), "x"), false},
		{"another service's intentions", inboundAt(&isthmusv1.Inbound{Service: serviceRef("db")}), false},
		{"a name", keyed{isthmusv1.NameKey(serviceRef("api"), ""), &isthmusv1.NameRoute{}}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := feed{machine: NewMachine("web-proxy")}
			f.apply(true, nil, base...)
			if !f.machine.Stale() {
				t.Fatal("the first state is not new")
			}
			if _, err := f.machine.View(); err != nil {
				t.Fatal(err)
			}
			f.apply(false, nil, test.value)
			if f.machine.Stale() != test.stale {
				t.Errorf("stale: %v; want %v", f.machine.Stale(), test.stale)
			}
			routes, _ := f.machine.Position()
			if routes.GetSequence() != f.sequence {
				t.Errorf("position %d; want %d", routes.GetSequence(), f.sequence)
			}
		})
	}
}

func TestMachineJoinsChunks(t *testing.T) {
	lan := setRef("api", "dc1", isthmusv1.Scope_SCOPE_LAN)
	var chunks []keyed
	for i, address := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		chunk := endpointSet(lan, address)
		chunk.key = lan.ID().Key(uint32(i))
		set := chunk.value.(*isthmusv1.EndpointSet)
		set.Chunk, set.Chunks = uint32(i), 3
		chunks = append(chunks, chunk)
	}
	web := proxyAt("n1", "web-proxy", "web")
	web.value.(*isthmusv1.ProxyRoutes).RoutesetHash = "h"
	f := feed{machine: NewMachine("web-proxy")}
	f.apply(true, nil, slices.Concat(chunks, []keyed{
		routeSet("web", "h", resolverRoute("api", &isthmusv1.Target{Id: "api", EndpointSets: []*isthmusv1.EndpointSetRef{lan}})), web,
	})...)
	view, err := f.machine.View()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range view.Sets[lan.ID()].GetEndpoints() {
		got = append(got, e.GetAddress())
	}
	if !slices.Equal(got, []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}) {
		t.Errorf("endpoints %v", got)
	}
	if n := len(chunks[0].value.(*isthmusv1.EndpointSet).GetEndpoints()); n != 1 {
		t.Errorf("the applied chunk was written to: it has %d endpoints", n)
	}
	f.apply(false, nil, chunks[2])
	if !f.machine.Stale() {
		t.Error("a change of the last chunk went unnoticed")
	}
}

// TestMachineTellsTheBasis: of the last transaction that has one, or of the
// basis that changed no route.
func TestMachineTellsTheBasis(t *testing.T) {
	at := func(sequence uint64) *isthmusv1.Basis {
		return &isthmusv1.Basis{Positions: []*isthmusv1.Position{{Stream: "CATALOG_dc1", Incarnation: "c", Sequence: sequence}}}
	}
	f := feed{machine: NewMachine("web-proxy")}
	check := func(want uint64) {
		t.Helper()
		if _, basis := f.machine.Position(); basis.At("CATALOG_dc1").GetSequence() != want {
			t.Errorf("basis %s; want %d", basis.Text(), want)
		}
	}
	f.apply(true, at(4), proxyAt("n1", "web-proxy", "web"))
	check(4)
	f.apply(false, nil, proxyAt("n2", "x", "x"))
	check(4)
	f.apply(false, nil, keyed{isthmusv1.BasisKey(), at(7)})
	check(7)
	f.apply(false, at(9), proxyAt("n2", "x", "x"))
	check(9)
}

func TestSavedStateIsTheSameView(t *testing.T) {
	lan := setRef("api", "dc1", isthmusv1.Scope_SCOPE_LAN)
	web := proxyAt("n1", "web-proxy", "web")
	web.value.(*isthmusv1.ProxyRoutes).RoutesetHash = "h"
	f := feed{machine: NewMachine("web-proxy")}
	f.apply(true, &isthmusv1.Basis{Positions: []*isthmusv1.Position{{Stream: "CATALOG_dc1", Sequence: 3}}},
		web, endpointSet(lan, "10.0.0.1"), inboundAt(inboundOf("deny", "allow web")), proxyAt("n2", "other", "other"),
		routeSet("web", "h", resolverRoute("api", &isthmusv1.Target{Id: "api", EndpointSets: []*isthmusv1.EndpointSetRef{lan}})))
	want, err := f.machine.View()
	if err != nil {
		t.Fatal(err)
	}
	text, err := encodeState(f.machine, testTime)
	if err != nil {
		t.Fatal(err)
	}
	transaction, saved, err := decodeState(text)
	if err != nil || !saved.Equal(testTime) {
		t.Fatalf("%v, %v", saved, err)
	}
	restored := NewMachine("web-proxy")
	restored.Apply(transaction)
	got, err := restored.View()
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got.Proxy, want.Proxy) || !proto.Equal(got.Routes["api"], want.Routes["api"]) ||
		!proto.Equal(got.Sets[lan.ID()], want.Sets[lan.ID()]) || !proto.Equal(got.Basis, want.Basis) ||
		!proto.Equal(got.Position, want.Position) || !proto.Equal(got.Inbound, want.Inbound) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if strings.Contains(string(text), "other") {
		t.Error("it holds what does not concern the proxy")
	}
	for _, bad := range []string{"", "{", `{"basis":"AAAA"}`, `{"values":[{"kind":"proxy","parts":["a","b"],"value":"/w=="}]}`} {
		if _, _, err := decodeState([]byte(bad)); !errors.Is(err, errBadState) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

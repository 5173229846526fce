package table_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// stream makes the transactions of a routes stream.
type stream struct{ sequence uint64 }

func (s *stream) transaction(reset bool, changes ...isthmusv1.Change) *isthmusv1.Transaction {
	s.sequence += uint64(len(changes))
	return &isthmusv1.Transaction{
		Stream: "ROUTES_dc1", Incarnation: "i1", Sequence: s.sequence, Reset: reset, Changes: changes,
		End: &isthmusv1.TransactionEnd{Basis: &isthmusv1.Basis{Positions: []*isthmusv1.Position{
			{Stream: "CATALOG_dc1", Incarnation: "c1", Sequence: 100 + s.sequence},
		}}},
	}
}

func set(key isthmusv1.Key, value proto.Message) isthmusv1.Change {
	return isthmusv1.Change{Key: key, Value: value}
}

func gone(key isthmusv1.Key) isthmusv1.Change { return isthmusv1.Change{Key: key, Tombstone: true} }

func service(name string) *isthmusv1.ServiceRef { return &isthmusv1.ServiceRef{Name: name} }

func setRef(name string) *isthmusv1.EndpointSetRef {
	return &isthmusv1.EndpointSetRef{Datacenter: "dc1", Scope: isthmusv1.Scope_SCOPE_LAN, Service: service(name)}
}

func gateways(datacenter string) *isthmusv1.EndpointSetRef {
	return &isthmusv1.EndpointSetRef{Datacenter: datacenter, Scope: isthmusv1.Scope_SCOPE_WAN, MeshGateways: true}
}

// endpoints is the value of a set in one chunk, or one chunk of several.
func endpoints(ref *isthmusv1.EndpointSetRef, chunk, chunks uint32, list ...*isthmusv1.Endpoint) isthmusv1.Change {
	return set(ref.ID().Key(chunk), &isthmusv1.EndpointSet{Ref: ref, Endpoints: list, Chunk: chunk, Chunks: chunks})
}

func name(service_ string) isthmusv1.Change {
	ref := service(service_)
	return set(isthmusv1.NameKey(ref, ""), &isthmusv1.NameRoute{
		Sni: isthmusv1.SNI(ref, "", "dc1", "td"), Service: ref, Endpoints: setRef(service_),
		ConnectTimeout: durationpb.New(3 * time.Second),
	})
}

func wildcard(datacenter string) isthmusv1.Change {
	return set(isthmusv1.WildcardKey(datacenter), &isthmusv1.WildcardRoute{
		Suffix: "." + isthmusv1.GatewaySNI("", datacenter, "td"), Datacenter: datacenter, Endpoints: gateways(datacenter),
	})
}

// text shows a table: each route with its set, sorted.
func text(t *table.Table) string {
	var lines []string
	for r := range t.All {
		lines = append(lines, fmt.Sprintf("%s → %s", r.Name, r.Endpoints))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestBuilder(t *testing.T) {
	var s stream
	b := table.NewBuilder(table.Ejection{})
	for _, step := range []struct {
		name  string
		apply *isthmusv1.Transaction
		want  string
	}{
		{"a first fill", s.transaction(true,
			endpoints(setRef("api"), 0, 1, endpoint("10.0.0.1", 80, 1)),
			endpoints(setRef("unused"), 0, 1, endpoint("10.0.0.9", 80, 1)),
			endpoints(gateways("dc2"), 0, 1, endpoint("192.0.2.1", 8443, 1)),
			name("api"), wildcard("dc2"),
		), `
*.dc2.internal.td → 192.0.2.1:8443 (100%)
api.default.dc1.internal.td → 10.0.0.1:80 (100%)`},
		{"a set is swapped", s.transaction(false,
			endpoints(setRef("api"), 0, 1, endpoint("10.0.0.1", 80, 1), endpoint("10.0.0.2", 80, 1)),
		), `
*.dc2.internal.td → 192.0.2.1:8443 (100%)
api.default.dc1.internal.td → 10.0.0.1:80 (50%), 10.0.0.2:80 (50%)`},
		{"a set over several messages", s.transaction(false,
			endpoints(setRef("api"), 0, 2, endpoint("10.0.0.1", 80, 1)),
			endpoints(setRef("api"), 1, 2, endpoint("10.0.0.3", 80, 3)),
		), `
*.dc2.internal.td → 192.0.2.1:8443 (100%)
api.default.dc1.internal.td → 10.0.0.1:80 (25%), 10.0.0.3:80 (75%)`},
		{"only its second message changes", s.transaction(false,
			endpoints(setRef("api"), 1, 2, endpoint("10.0.0.4", 80, 1)),
		), `
*.dc2.internal.td → 192.0.2.1:8443 (100%)
api.default.dc1.internal.td → 10.0.0.1:80 (50%), 10.0.0.4:80 (50%)`},
		{"back to one message", s.transaction(false,
			endpoints(setRef("api"), 0, 1, endpoint("10.0.0.1", 80, 1)),
			gone(setRef("api").ID().Key(1)),
		), `
*.dc2.internal.td → 192.0.2.1:8443 (100%)
api.default.dc1.internal.td → 10.0.0.1:80 (100%)`},
		{"a name for a set that was there", s.transaction(false, name("unused")), `
*.dc2.internal.td → 192.0.2.1:8443 (100%)
api.default.dc1.internal.td → 10.0.0.1:80 (100%)
unused.default.dc1.internal.td → 10.0.0.9:80 (100%)`},
		{"a name before its set", s.transaction(false, name("db"), endpoints(setRef("db"), 0, 1, endpoint("10.0.0.5", 5432, 1))), `
*.dc2.internal.td → 192.0.2.1:8443 (100%)
api.default.dc1.internal.td → 10.0.0.1:80 (100%)
db.default.dc1.internal.td → 10.0.0.5:5432 (100%)
unused.default.dc1.internal.td → 10.0.0.9:80 (100%)`},
		{"a name without a set, a set gone, a name gone", s.transaction(false,
			name("none"), gone(setRef("db").ID().Key(0)), gone(isthmusv1.NameKey(service("unused"), "")),
		), `
*.dc2.internal.td → 192.0.2.1:8443 (100%)
api.default.dc1.internal.td → 10.0.0.1:80 (100%)
db.default.dc1.internal.td → no instance is registered
none.default.dc1.internal.td → no instance is registered`},
		{"kinds that a gateway does not need", s.transaction(false,
			set(isthmusv1.InboundKey(service("api")), &isthmusv1.Inbound{}), gone(isthmusv1.RouteSetKey(service("api"), "h")),
			isthmusv1.Change{Key: isthmusv1.NewKey("future", "x")},
		), `
*.dc2.internal.td → 192.0.2.1:8443 (100%)
api.default.dc1.internal.td → 10.0.0.1:80 (100%)
db.default.dc1.internal.td → no instance is registered
none.default.dc1.internal.td → no instance is registered`},
		{"a reset", s.transaction(true,
			endpoints(setRef("api"), 0, 1, endpoint("10.0.0.7", 80, 1)), name("api"),
		), `
api.default.dc1.internal.td → 10.0.0.7:80 (100%)`},
		{"an empty reset", s.transaction(true), ""},
	} {
		got := b.Apply(step.apply)
		if want := strings.TrimPrefix(step.want, "\n"); text(got) != want {
			t.Errorf("%s: the table is\n%s\nwant\n%s", step.name, text(got), want)
		}
		if got.Routes.GetSequence() != step.apply.Sequence || got.Basis != step.apply.End.GetBasis() {
			t.Errorf("%s: the table stands for %v at %v", step.name, got.Routes, got.Basis)
		}
	}
}

func TestBuilderKeepsWhatLivesOn(t *testing.T) {
	var s stream
	b := table.NewBuilder(table.Ejection{})
	before := b.Apply(s.transaction(true,
		endpoints(setRef("api"), 0, 1, endpoint("10.0.0.1", 80, 1)), name("api"), name("web"), endpoints(setRef("web"), 0, 1),
	))
	api := before.Lookup([]byte("api.default.dc1.internal.td"))
	if api.ConnectTimeout != 3*time.Second || api.Wildcard {
		t.Errorf("the route is %+v", api)
	}
	api.Counters.Connections.Add(5)
	e := api.Endpoints.Endpoints()[0]

	swapped := b.Apply(s.transaction(false, endpoints(setRef("api"), 0, 1, endpoint("10.0.0.1", 80, 9))))
	if swapped.Lookup([]byte(api.Name)) != api {
		t.Error("a change of endpoints made a new route")
	}
	renewed := b.Apply(s.transaction(false, name("api"))).Lookup([]byte(api.Name))
	if renewed == api || renewed.Endpoints != api.Endpoints || renewed.Counters != api.Counters {
		t.Error("a new route of the same name has another set or other counters")
	}
	reset := b.Apply(s.transaction(true, endpoints(setRef("api"), 0, 1, endpoint("10.0.0.1", 80, 1)), name("api"))).Lookup([]byte(api.Name))
	if reset.Endpoints != api.Endpoints || reset.Counters != api.Counters || reset.Endpoints.Endpoints()[0] != e {
		t.Error("a reset lost the set, the counters or the endpoint")
	}
	if before.Lookup([]byte("web.default.dc1.internal.td")) == nil {
		t.Error("a table that was given out has changed")
	}
}

func TestARenamedRouteLeavesItsOldName(t *testing.T) {
	var s stream
	b := table.NewBuilder(table.Ejection{})
	first := b.Apply(s.transaction(true, name("api"))).Lookup([]byte("api.default.dc1.internal.td"))
	first.Counters.Connections.Add(1)
	moved := proto.CloneOf(name("api").Value.(*isthmusv1.NameRoute))
	moved.Sni = "API.default.dc1.internal.other"
	got := b.Apply(s.transaction(false, set(isthmusv1.NameKey(service("api"), ""), moved)))
	if text(got) != "api.default.dc1.internal.other → no instance is registered" {
		t.Errorf("the table is\n%s", text(got))
	}
	if n := got.Lookup([]byte("api.default.dc1.internal.other")).Counters.Connections.Load(); n != 0 {
		t.Errorf("another name began with %d connections", n)
	}
}

func TestBasisOfADifferenceInSeveralTransactions(t *testing.T) {
	var s stream
	b := table.NewBuilder(table.Ejection{})
	first := s.transaction(true, name("api"))
	b.Apply(first)
	half := s.transaction(false, name("web"))
	half.End.Basis = nil
	if got := b.Apply(half); got.Basis != first.End.GetBasis() || got.Routes.GetSequence() != half.Sequence {
		t.Errorf("half a difference stands for %v", got.Basis)
	}
	unknown := s.transaction(true, name("api"))
	unknown.End = nil
	if got := b.Apply(unknown); got.Basis != nil {
		t.Errorf("a reset of unknown basis stands for %v", got.Basis)
	}
}

func TestBuilderResolvesHostNames(t *testing.T) {
	var s stream
	b := table.NewBuilder(table.Ejection{})
	tab := b.Apply(s.transaction(true,
		endpoints(gateways("dc2"), 0, 1, endpoint("gw.example", 443, 1)),
		endpoints(gateways("dc3"), 0, 1, endpoint("unused.example", 443, 1)),
		wildcard("dc2"),
	))
	if got := b.HostNames(); !slices.Equal(got, []string{"gw.example"}) {
		t.Errorf("host names %q", got)
	}
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for _, step := range []struct {
		addresses []netip.Addr
		changed   bool
		want      string
	}{
		{nil, false, "no host name has been resolved"},
		{[]netip.Addr{two, one, two}, true, "gw.example:443 (50%), gw.example:443 (50%)"},
		{[]netip.Addr{one, two}, false, "gw.example:443 (50%), gw.example:443 (50%)"},
		{nil, false, "gw.example:443 (50%), gw.example:443 (50%)"},
		{[]netip.Addr{one}, true, "gw.example:443 (100%)"},
	} {
		if got := b.Resolve("gw.example", step.addresses); got != step.changed {
			t.Errorf("%v: changed %v", step.addresses, got)
		}
		if want := "*.dc2.internal.td → " + step.want; text(tab) != want {
			t.Errorf("%v: the table is %s; want %s", step.addresses, text(tab), want)
		}
	}
	b.Apply(s.transaction(false, endpoints(gateways("dc2"), 0, 1, endpoint("192.0.2.7", 443, 1))))
	if got := b.HostNames(); len(got) != 0 {
		t.Errorf("host names %q are still needed", got)
	}
	b.Apply(s.transaction(false, endpoints(gateways("dc2"), 0, 1, endpoint("gw.example", 443, 1))))
	b.Apply(s.transaction(false, gone(isthmusv1.WildcardKey("dc2"))))
	if got := b.HostNames(); len(got) != 0 {
		t.Errorf("host names %q are still needed by no route", got)
	}
}

func TestEndpointReports(t *testing.T) {
	var s stream
	b := table.NewBuilder(table.Ejection{Failures: 1})
	shared := []*isthmusv1.Endpoint{endpoint("10.0.0.1", 80, 1), endpoint("10.0.0.2", 80, 1)}
	tab := b.Apply(s.transaction(true,
		endpoints(setRef("api"), 0, 1, shared...), endpoints(setRef("web"), 0, 1, shared...), name("api"), name("web"),
	))
	for _, route := range []string{"api.default.dc1.internal.td", "web.default.dc1.internal.td"} {
		set := tab.Lookup([]byte(route)).Endpoints
		set.Endpoints()[0].Counters.Connections.Add(2)
		if route[0] == 'w' {
			set.Failed(set.Endpoints()[0], now)
		}
	}
	want := []table.EndpointReport{
		{Name: "10.0.0.1:80", Connections: 4, Failures: 1, Ejected: true}, {Name: "10.0.0.2:80"},
	}
	if got := b.EndpointReports(now); !slices.Equal(got, want) {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

// Whatever the order of changes, the table equals that of one reset with the
// same values, and so does one made of what Values gives.
func TestBuilderEqualsFromScratch(t *testing.T) {
	services := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		var s stream
		state := make(map[isthmusv1.Key]isthmusv1.Change)
		b := table.NewBuilder(table.Ejection{})
		for range rapid.IntRange(1, 10).Draw(t, "transactions") {
			fresh := make(map[isthmusv1.Key]isthmusv1.Change)
			for range rapid.IntRange(0, 4).Draw(t, "changes") {
				service := rapid.SampledFrom(services).Draw(t, "service")
				c := draw(t, service)
				if c.Tombstone && state[c.Key].Value == nil {
					continue
				}
				fresh[c.Key] = c
			}
			var changes []isthmusv1.Change
			for _, c := range fresh {
				changes = append(changes, c)
				state[c.Key] = c
				if c.Tombstone {
					delete(state, c.Key)
				}
			}
			slices.SortFunc(changes, func(a, b isthmusv1.Change) int {
				return cmp.Or(rank(a)-rank(b), a.Key.Compare(b.Key))
			})
			b.Apply(s.transaction(false, changes...))
		}
		var all []isthmusv1.Change
		for _, c := range state {
			all = append(all, c)
		}
		want := text(table.NewBuilder(table.Ejection{}).Apply(s.transaction(true, all...)))
		if got := text(b.Table()); got != want {
			t.Fatalf("the table is\n%s\nfrom scratch\n%s", got, want)
		}
		var values []isthmusv1.Change
		for _, v := range b.Values() {
			values = append(values, set(v.Key, v.Value))
		}
		if got := text(table.NewBuilder(table.Ejection{}).Apply(s.transaction(true, values...))); got != want {
			t.Fatalf("the table of Values is\n%s\nwant\n%s", got, want)
		}
	})
}

// rank puts tombstones last, as the resolver emits them.
func rank(c isthmusv1.Change) int {
	if c.Tombstone {
		return 1
	}
	return 0
}

func draw(t *rapid.T, service string) isthmusv1.Change {
	ref := setRef(service)
	host := rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2"}).Draw(t, "host")
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		return name(service)
	case 1:
		return gone(isthmusv1.NameKey(&isthmusv1.ServiceRef{Name: service}, ""))
	case 2:
		return wildcard(service)
	case 3:
		return gone(ref.ID().Key(0))
	}
	return endpoints(ref, 0, 1, endpoint(host, 80, 1))
}

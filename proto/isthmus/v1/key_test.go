package isthmusv1_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// TestKeys: look-ups match without case, and the default partition and namespace
// go without saying.
func TestKeys(t *testing.T) {
	ref := func(partition, namespace, name string) *isthmusv1.ServiceRef {
		return &isthmusv1.ServiceRef{Partition: partition, Namespace: namespace, Name: name}
	}
	for _, test := range []struct {
		key  isthmusv1.Key
		want string
	}{
		{isthmusv1.NodeKey("", "N1"), "node/n1"},
		{isthmusv1.NodeKey("DEFAULT", "N1"), "node/n1"},
		{isthmusv1.NodeKey("P1", "N1"), "node/p1/n1"},
		{isthmusv1.InstanceKey("", "N1", "", "Web-1"), "instance/n1/web-1"},
		{isthmusv1.InstanceKey("p1", "n1", "Default", "web-1"), "instance/p1/n1/web-1"},
		{isthmusv1.InstanceKey("", "n1", "NS1", "web-1"), "instance/n1/ns1/web-1"},
		{isthmusv1.ConfigKey("service-defaults", "", "", "Web"), "config/service-defaults/web"},
		{isthmusv1.ConfigKey("service-defaults", "", "ns1", "Web"), "config/service-defaults/default/ns1/web"},
		{isthmusv1.ConfigKey("service-intentions", "default", "default", "*"), "config/service-intentions/*"},
		{isthmusv1.RootsKey(), "roots"},
		{isthmusv1.MeshFactsKey(), "mesh-facts"},
		{isthmusv1.WriterKey(), "writer"},
		{isthmusv1.BasisKey(), "basis"},
		{isthmusv1.MeshKey(), "mesh"},
		{isthmusv1.PreparedQueryKey("Near"), "prepared-query/near"},
		{isthmusv1.InboundKey(ref("", "", "API")), "inbound/api"},
		{isthmusv1.InboundKey(ref("p1", "", "API")), "inbound/p1/default/api"},
		{isthmusv1.RouteSetKey(ref("", "", "Web"), "abc"), "routeset/web/abc"},
		{isthmusv1.ProxyKey("", "N1", "", "Web-1"), "proxy/n1/web-1"},
		{isthmusv1.NameKey(ref("", "", "API"), ""), "sni/api"},
		{isthmusv1.NameKey(ref("", "", "API"), "V1"), "sni/api/v1"},
		{isthmusv1.WildcardKey("DC2"), "wildcard/dc2"},
		{isthmusv1.ReportKey("gateway", "g1"), "report/gateway/g1"},
	} {
		if got := test.key.String(); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
		if test.key.IsZero() || isthmusv1.NewKey(test.key.Kind, test.key.Parts()...) != test.key {
			t.Errorf("%s is not made of its parts %q", test.want, test.key.Parts())
		}
	}
	if !(isthmusv1.Key{}).IsZero() || (isthmusv1.Key{}).Parts() != nil {
		t.Error("the zero key names something")
	}
}

// TestKeyOrder is the order of emission: what others refer to comes first.
func TestKeyOrder(t *testing.T) {
	want := []isthmusv1.Key{
		isthmusv1.MeshKey(),
		isthmusv1.SetID{Datacenter: "dc1", Name: "api", Scope: isthmusv1.Scope_SCOPE_LAN}.Key(0),
		isthmusv1.SetID{Datacenter: "dc1", Name: "api", Scope: isthmusv1.Scope_SCOPE_LAN}.Key(1),
		isthmusv1.SetID{Datacenter: "dc2", Name: "api", Scope: isthmusv1.Scope_SCOPE_LAN}.Key(0),
		isthmusv1.InboundKey(&isthmusv1.ServiceRef{Name: "api"}),
		isthmusv1.RouteSetKey(&isthmusv1.ServiceRef{Name: "api"}, "0"),
		isthmusv1.ProxyKey("", "a", "", "z"),
		isthmusv1.ProxyKey("", "b", "", "a"),
		isthmusv1.NameKey(&isthmusv1.ServiceRef{Name: "api"}, ""),
		isthmusv1.NameKey(&isthmusv1.ServiceRef{Name: "api"}, "v1"),
		isthmusv1.WildcardKey("dc2"),
		isthmusv1.ReportKey("gateway", "g1"),
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		got := slices.Clone(want)
		random.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		isthmusv1.SortKeys(got)
		if !slices.Equal(got, want) {
			t.Fatalf("order %v", got)
		}
	}
}

// TestSetKeys: every set has a key of its own, whatever it is a set of.
func TestSetKeys(t *testing.T) {
	service := &isthmusv1.ServiceRef{Name: "API"}
	keys := map[isthmusv1.Key]string{}
	for _, test := range []struct {
		ref  *isthmusv1.EndpointSetRef
		want string
	}{
		{&isthmusv1.EndpointSetRef{Datacenter: "DC2", Scope: isthmusv1.Scope_SCOPE_WAN, Service: service}, "endpoints/dc2/service/wan/api/-/0"},
		{&isthmusv1.EndpointSetRef{Datacenter: "dc2", Scope: isthmusv1.Scope_SCOPE_LAN, Service: service}, "endpoints/dc2/service/lan/api/-/0"},
		{&isthmusv1.EndpointSetRef{Datacenter: "dc2", Scope: isthmusv1.Scope_SCOPE_HEALTH, Service: service, Subset: "V1"}, "endpoints/dc2/service/health/api/v1/0"},
		{&isthmusv1.EndpointSetRef{Datacenter: "dc2", Scope: isthmusv1.Scope_SCOPE_WAN, MeshGateways: true}, "endpoints/dc2/gateways/wan/default/-/0"},
		{&isthmusv1.EndpointSetRef{Datacenter: "dc2", Scope: isthmusv1.Scope_SCOPE_WAN, MeshGateways: true, Service: &isthmusv1.ServiceRef{Partition: "P1"}}, "endpoints/dc2/gateways/wan/p1/-/0"},
		{&isthmusv1.EndpointSetRef{Datacenter: "dc2", Scope: isthmusv1.Scope_SCOPE_WAN, PreparedQuery: "API"}, "endpoints/dc2/query/wan/api/-/0"},
	} {
		key := test.ref.ID().Key(0)
		if diff := cmp.Diff(test.want, key.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if other, ok := keys[key]; ok {
			t.Errorf("%s is also %s", test.want, other)
		}
		keys[key] = test.want
	}
}

// TestNewValue: every kind that a stream may hold has a value, and others none.
func TestNewValue(t *testing.T) {
	for _, kind := range []isthmusv1.Kind{
		isthmusv1.KindWriter, isthmusv1.KindNode, isthmusv1.KindInstance, isthmusv1.KindConfig, isthmusv1.KindRoots,
		isthmusv1.KindMeshFacts, isthmusv1.KindPreparedQuery, isthmusv1.KindBasis, isthmusv1.KindEndpoint, isthmusv1.KindInbound,
		isthmusv1.KindRouteSet, isthmusv1.KindProxy, isthmusv1.KindName, isthmusv1.KindWildcard, isthmusv1.KindMesh, isthmusv1.KindReport,
	} {
		if isthmusv1.NewValue(kind) == nil {
			t.Errorf("%s has no value", kind)
		}
	}
	if isthmusv1.NewValue("future") != nil {
		t.Error("a kind of the future has a value")
	}
}

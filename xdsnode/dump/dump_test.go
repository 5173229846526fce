package dump_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/encoding/protojson"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/dump"
)

// gateway is a mesh gateway that leads to a service, to one by host name, and to another
// datacenter.
func gateway(t *testing.T) *xdsnode.Proxy {
	t.Helper()
	set := func(ref *isthmusv1.EndpointSetRef, endpoints ...*isthmusv1.Endpoint) isthmusv1.Change {
		return isthmusv1.Change{Key: ref.ID().Key(0), Value: &isthmusv1.EndpointSet{Ref: ref, Chunks: 1, Endpoints: endpoints}}
	}
	lan := func(service string) *isthmusv1.EndpointSetRef {
		return &isthmusv1.EndpointSetRef{Datacenter: "dc1", Scope: isthmusv1.Scope_SCOPE_LAN, Service: &isthmusv1.ServiceRef{Name: service}}
	}
	wan := &isthmusv1.EndpointSetRef{Datacenter: "dc2", Scope: isthmusv1.Scope_SCOPE_WAN, MeshGateways: true}
	name := func(service string) isthmusv1.Change {
		ref := &isthmusv1.ServiceRef{Name: service}
		return isthmusv1.Change{Key: isthmusv1.NameKey(ref, ""), Value: &isthmusv1.NameRoute{Sni: service + ".dc1", Service: ref, Endpoints: lan(service)}}
	}
	const up, down = isthmusv1.Health_HEALTH_HEALTHY, isthmusv1.Health_HEALTH_UNHEALTHY
	m := xdsnode.NewMachine()
	m.Apply(&isthmusv1.Transaction{Stream: "ROUTES_dc1", Incarnation: "i", Sequence: 1, Reset: true, Changes: []isthmusv1.Change{
		{Key: isthmusv1.ProxyKey("", "n1", "", "mg"), Value: &isthmusv1.ProxyRoutes{
			Node: "n1", Id: "mg", Kind: isthmusv1.InstanceKindMeshGateway,
			Gateway: &isthmusv1.GatewaySettings{Binds: []*isthmusv1.GatewayBind{{Name: "lan", Address: "10.0.0.1", Port: 8443}}},
		}},
		name("api"), name("far"),
		set(lan("api"), &isthmusv1.Endpoint{Address: "10.1.0.1", Port: 80, Health: up, Weight: 1}, &isthmusv1.Endpoint{Address: "fd00::1", Port: 81, Health: down, Weight: 1}),
		set(lan("far"), &isthmusv1.Endpoint{Address: "far.example", Port: 443, Health: up, Weight: 1}),
		{Key: isthmusv1.WildcardKey("dc2"), Value: &isthmusv1.WildcardRoute{Suffix: ".dc2", Datacenter: "dc2", Endpoints: wan}},
		set(wan, &isthmusv1.Endpoint{Address: "192.0.2.2", Port: 443, Health: up, Weight: 1}),
	}})
	m.Ready()
	p, err := m.Find("n1", "mg")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLines(t *testing.T) {
	p := gateway(t)
	lines, err := dump.Lines(p, xdsnode.Types())
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, l := range lines {
		if len(l.Version) < 8 {
			t.Errorf("version %q of %s", l.Version, l.Name)
		}
		fmt.Fprintf(&got, "%s %s → %s\n", l.Type, l.Name, strings.Join(l.LeadsTo, ", "))
	}
	const want = `cluster api.dc1 → its endpoints
cluster dc2 → its endpoints
cluster far.dc1 → far.example:443
endpoint api.dc1 → 10.1.0.1:80, [fd00::1]:81 (UNHEALTHY)
endpoint dc2 → 192.0.2.2:443
listener lan:10.0.0.1:8443 → cluster dc2, the cluster of the server name
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// The dump is Envoy's own: what reads that reads it.
func TestJSON(t *testing.T) {
	p := gateway(t)
	text, err := dump.JSON(p, xdsnode.Types())
	if err != nil {
		t.Fatal(err)
	}
	again, err := dump.JSON(gateway(t), xdsnode.Types())
	if err != nil || string(again) != string(text) {
		t.Errorf("equal resources give other bytes, %v", err)
	}
	whole := &adminv3.ConfigDump{}
	if err := protojson.Unmarshal(text, whole); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, config := range whole.GetConfigs() {
		of, err := config.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		switch d := of.(type) {
		case *adminv3.ClustersConfigDump:
			for _, c := range d.GetDynamicActiveClusters() {
				var cluster clusterv3.Cluster
				if err := c.GetCluster().UnmarshalTo(&cluster); err != nil || c.GetVersionInfo() == "" {
					t.Errorf("%v, %v", c, err)
				}
				names = append(names, "cluster "+cluster.GetName())
			}
		case *adminv3.EndpointsConfigDump:
			names = append(names, fmt.Sprint(len(d.GetDynamicEndpointConfigs()), " endpoints"))
		case *adminv3.ListenersConfigDump:
			for _, l := range d.GetDynamicListeners() {
				names = append(names, "listener "+l.GetName()+" "+l.GetActiveState().GetVersionInfo())
			}
		}
	}
	listener := p.Resource(xdsnode.Listener, "lan:10.0.0.1:8443")
	want := []string{"cluster api.dc1", "cluster dc2", "cluster far.dc1", "2 endpoints", "listener lan:10.0.0.1:8443 " + listener.Version}
	if !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

// Every type that is served has a word, and a dump.
func TestEveryTypeHasADump(t *testing.T) {
	p := gateway(t)
	for _, typ := range xdsnode.Types() {
		types, ok := dump.Types(dump.Word(typ))
		if !ok || !slices.Equal(types, []xdsnode.Type{typ}) {
			t.Errorf("%s: %v, %v", dump.Word(typ), types, ok)
		}
		if _, err := dump.JSON(p, types); err != nil {
			t.Error(err)
		}
	}
	if types, ok := dump.Types(""); !ok || !slices.Equal(types, xdsnode.Types()) {
		t.Errorf("no word: %v, %v", types, ok)
	}
	if _, ok := dump.Types("secret"); ok {
		t.Error("secrets are served by nobody here")
	}
}

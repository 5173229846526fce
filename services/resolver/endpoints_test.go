package resolver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// setText shows one endpoint set of a machine, or that it is not there.
func setText(m *resolver.Machine, key string) string {
	for k, value := range m.All() {
		if set, ok := value.(*isthmusv1.EndpointSet); ok && k.String() == key {
			out := []string{word(set.GetAvailability().String())}
			for _, e := range set.GetEndpoints() {
				out = append(out, fmt.Sprintf("%s:%d/%d/%s", e.GetAddress(), e.GetPort(), e.GetWeight(), word(e.GetHealth().String())))
			}
			return strings.Join(out, " ")
		}
	}
	return "(not there)"
}

// TestAddresses: LAN within the datacenter, WAN from another one: the tag wan of
// the instance, else its address, else the tag wan of its node, else the node's
// address.
func TestAddresses(t *testing.T) {
	const node = `node n 10.0.0.1 { tagged_addresses { tag: "wan" address: "198.51.100.1" } tagged_addresses { tag: "lan" address: "10.9.9.9" } }`
	for _, test := range []struct{ name, instance, lan, wan string }{
		{"all addresses", "sidecar api 10.0.0.2:1 node=n wan=203.0.113.2:2", "10.0.0.2:1", "203.0.113.2:2"},
		{"a wan tag without a port", "sidecar api 10.0.0.2:1 node=n wan=203.0.113.2:0", "10.0.0.2:1", "203.0.113.2:1"},
		{"no wan tag", "sidecar api 10.0.0.2:1 node=n", "10.0.0.2:1", "10.0.0.2:1"},
		{"no address", "sidecar api :1 node=n wan=203.0.113.2:2", "10.0.0.1:1", "203.0.113.2:2"},
		{"nothing of its own", "sidecar api :1 node=n", "10.0.0.1:1", "198.51.100.1:1"},
		{"a node that is not there", "sidecar api :1 node=lost", "", ""},
		{"a host name", "sidecar api api.example:1 node=n", "api.example:1", "api.example:1"},
		{"no port", "sidecar api 10.0.0.2:0 node=n", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := world{
				"dc1": node + "\n" + test.instance + `
sidecar web 10.0.0.3:1 { proxy { upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 } } }`,
				"dc2": node + "\n" + test.instance,
			}.machine(t)
			want := func(address string) string {
				if address == "" {
					return "empty"
				}
				return "healthy " + address + "/1/healthy"
			}
			if got := setText(m, "endpoints/dc1/service/lan/api/-/0"); got != want(test.lan) {
				t.Errorf("LAN %s, want %s", got, want(test.lan))
			}
			if got := setText(m, "endpoints/dc2/service/wan/api/-/0"); got != want(test.wan) {
				t.Errorf("WAN %s, want %s", got, want(test.wan))
			}
		})
	}
}

// TestHealthAndWeight: any critical check of the instance or of its node fails
// it, as does a weight below 1, or a warning where only passing ones are taken;
// a warning takes the warning weight; weights are 1 to 128.
func TestHealthAndWeight(t *testing.T) {
	for _, test := range []struct{ name, node, options, all, passing string }{
		{"passing", "", "", "1/healthy", "1/healthy"},
		{"critical", "", "critical", "1/unhealthy", "1/unhealthy"},
		{"warning", "", "warning", "1/healthy", "1/unhealthy"},
		{"node critical", "critical", "", "1/unhealthy", "1/unhealthy"},
		{"node warning", "warning", "weight=7/3", "3/healthy", "3/unhealthy"},
		{"unknown state", "strange", "", "1/unhealthy", "1/unhealthy"},
		{"weight", "", "weight=7/3", "7/healthy", "7/healthy"},
		{"weight of a warning", "", "weight=7/3 warning", "3/healthy", "3/unhealthy"},
		{"weight 0", "", "weight=0/3", "1/unhealthy", "1/unhealthy"},
		{"warning weight 0", "", "weight=7/0 warning", "1/unhealthy", "1/unhealthy"},
		{"heavy", "", "weight=129/1", "128/healthy", "128/healthy"},
		{"as heavy as can be", "", "weight=128/1", "128/healthy", "128/healthy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			node := "node n 10.0.0.1 {}"
			if test.node != "" {
				node = fmt.Sprintf(`node n 10.0.0.1 { checks { check_id: "serfHealth" status: %q } }`, test.node)
			}
			m := world{"dc1": node + "\nsidecar api 10.0.0.2:1 node=n " + test.options + `
config service-resolver api { subsets { name: "ok" only_passing: true } }`}.machine(t)
			for set, want := range map[string]string{"-": test.all, "ok": test.passing} {
				got := setText(m, "endpoints/dc1/service/lan/api/"+set+"/0")
				if state := want[strings.Index(want, "/")+1:]; got != state+" 10.0.0.2:1/"+want {
					t.Errorf("subset %s: %s, want %s", set, got, want)
				}
			}
		})
	}
}

// TestSubsetFilters: filters name an instance's parts as Consul's do.
func TestSubsetFilters(t *testing.T) {
	for _, test := range []struct {
		filter string
		takes  bool
	}{
		{`Service.Meta.version == v1`, true},
		{`Service.Meta.version == v2`, false},
		{`Service.Meta.missing == v1`, false},
		{`"v1" in Service.Tags`, true},
		{`"v2" in Service.Tags`, false},
		{`"v2" not in Service.Tags and Service.Port == 1`, true},
		{`Service.ID == "api-sidecar-proxy"`, true},
		{`Service.Service == "api-sidecar-proxy" and Service.Kind == "connect-proxy"`, true},
		{`Service.Proxy.DestinationServiceName == api`, true},
		{`Service.Proxy.Config.depth == "deep"`, true},
		{`Service.TaggedAddresses.wan.Port == 2`, true},
		{`Service.TaggedAddresses.other.Port == 2`, false},
		{`Service.Proxy.Config.missing.deeper == x`, false},
		{`Service.Weights.Passing == 7`, true},
		{`Service.Address matches "^10\\."`, true},
		{`Service.Connect.Native == false`, true},
		{`Node.Node == n and Node.Datacenter == dc1 and Node.Address == "10.0.0.1"`, true},
		{`Node.Meta.rack == r1 and Node.TaggedAddresses.wan == "198.51.100.1"`, true},
		{`any Checks as c { c.Status == "warning" and c.CheckID == "check:api-sidecar-proxy" }`, true},
		{`any Checks as c { c.Name == "Serf" and c.ServiceID == "" }`, true},
		{`Checks is empty`, false},
	} {
		t.Run(test.filter, func(t *testing.T) {
			m := world{"dc1": fmt.Sprintf(`
node n 10.0.0.1 {
  meta { key: "rack" value: "r1" }
  tagged_addresses { tag: "wan" address: "198.51.100.1" }
  checks { check_id: "serfHealth" name: "Serf" status: "passing" }
}
sidecar api 10.0.0.2:1 node=n meta.version=v1 tag=v1 wan=203.0.113.2:2 weight=7/3 warning { proxy { config_json: '{"depth":"deep"}' } }
config service-resolver api { subsets { name: "some" filter: %q } }`, test.filter)}.machine(t)
			for key, value := range m.All() {
				if n, ok := value.(*isthmusv1.NameRoute); ok && len(n.GetProblems()) > 0 {
					t.Errorf("%v: %v", key, n.GetProblems())
				}
			}
			want := "empty"
			if test.takes {
				want = "healthy 10.0.0.2:1/3/healthy"
			}
			if got := setText(m, "endpoints/dc1/service/lan/api/some/0"); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

// TestChunks: a set over 256 KiB is several messages, which say so and agree on
// the availability; when it shrinks, the chunks that are left over go.
func TestChunks(t *testing.T) {
	const many = 6_000
	m := resolver.New("dc1")
	catalog := world{"dc1": ""}.transaction(t, "dc1")
	for i := range many {
		v := &isthmusv1.ServiceInstance{
			Node: fmt.Sprintf("a-node-with-a-rather-long-name-%05d", i), Id: "api", Name: "api", ConnectNative: true,
			Address: "10.0.0.1", Port: 1, Locality: &isthmusv1.Locality{Region: "a region of the world", Zone: "a zone"},
		}
		catalog.Changes = append(catalog.Changes, isthmusv1.Change{Key: instanceKey(v), Value: v})
	}
	m.Apply(catalog)
	m.Ready()
	var sets []*isthmusv1.EndpointSet
	var nodes []string
	for _, value := range m.All() {
		if set, ok := value.(*isthmusv1.EndpointSet); ok {
			sets = append(sets, set)
			for _, e := range set.GetEndpoints() {
				nodes = append(nodes, e.GetNode())
			}
		}
	}
	if len(sets) < 2 || len(nodes) != many {
		t.Fatalf("%d chunks of %d endpoints", len(sets), len(nodes))
	}
	for i, set := range sets {
		if size := proto.Size(set); size > 257<<10 || i < len(sets)-1 && size < 200<<10 {
			t.Errorf("chunk %d has %d bytes", i, size)
		}
		if set.GetChunk() != uint32(i) || set.GetChunks() != uint32(len(sets)) || set.GetAvailability() != isthmusv1.Availability_AVAILABILITY_HEALTHY {
			t.Errorf("chunk %d says %d of %d, %v", i, set.GetChunk(), set.GetChunks(), set.GetAvailability())
		}
	}
	m.Apply(&isthmusv1.Transaction{Stream: "CATALOG_dc1", Reset: true, Changes: catalog.Changes[:11]})
	u := m.Ready()
	if last := u.Changes[len(u.Changes)-1]; last.Value != nil || last.Key.Kind != isthmusv1.KindEndpoint {
		t.Errorf("last change %v, want a tombstone of a chunk", last.Key)
	}
	if diff := cmp.Diff(len(sets), len(u.Changes)); diff != "" {
		t.Errorf("changes %v", changed(u))
	}
}

package sim

import (
	"fmt"
	"math/rand/v2"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const trustDomain = "11111111-2222-3333-4444-555555555555.consul"

// The universe is small, so that references meet, and larger than any catalog,
// so that some dangle.
var (
	services  = []string{"web", "api", "db", "Api"}
	nodes     = []string{"n1", "n2", "n3"}
	modes     = []string{"", "none", "local", "remote"}
	statuses  = []string{"passing", "passing", "passing", "warning", "critical"}
	addresses = []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
)

// value is the nth value of a datacenter's universe. Several numbers have one
// key: they are its states.
func value(dc string, n int) (isthmusv1.Key, proto.Message) {
	r := &universe{rand.New(rand.NewPCG(uint64(n), uint64(len(dc))))}
	switch r.IntN(10) {
	case 0:
		return facts(dc, []string{"allow", "deny"}[r.IntN(2)])
	case 1, 2:
		return r.node()
	case 3, 4:
		return r.sidecar()
	case 5:
		return r.gateway()
	case 6, 7:
		return r.service()
	default:
		return r.entry()
	}
}

// facts are what a catalog must have to be resolved.
func facts(dc, policy string) (isthmusv1.Key, proto.Message) {
	return isthmusv1.MeshFactsKey(), &isthmusv1.MeshFacts{
		Datacenter: dc, TrustDomain: trustDomain, DefaultIntentionPolicy: policy,
		KnownDatacenters: datacenters, CentralConfig: true,
	}
}

type universe struct{ *rand.Rand }

func (r *universe) of(names []string) string { return names[r.IntN(len(names))] }

func (r *universe) node() (isthmusv1.Key, proto.Message) {
	n := &isthmusv1.Node{Name: r.of(nodes), Address: r.of(addresses)}
	n.Checks = []*isthmusv1.Check{{CheckId: "serfHealth", Status: r.of(statuses)}}
	return isthmusv1.NodeKey("", n.GetName()), n
}

func (r *universe) instance(id, name, kind string) *isthmusv1.ServiceInstance {
	return &isthmusv1.ServiceInstance{
		Node: r.of(nodes), Id: id, Name: name, Kind: kind, Port: uint32(8000 + r.IntN(3)),
		Checks:  []*isthmusv1.Check{{CheckId: id, Status: r.of(statuses)}},
		Weights: &isthmusv1.Weights{Passing: uint32(1 + r.IntN(3)), Warning: 1},
	}
}

func keyed(i *isthmusv1.ServiceInstance) (isthmusv1.Key, proto.Message) {
	return isthmusv1.InstanceKey("", i.GetNode(), "", i.GetId()), i
}

func (r *universe) service() (isthmusv1.Key, proto.Message) {
	name := r.of(services)
	return keyed(r.instance(fmt.Sprintf("%s-%d", name, r.IntN(2)), name, ""))
}

func (r *universe) gateway() (isthmusv1.Key, proto.Message) {
	g := r.instance("gateway", "mesh-gateway", isthmusv1.InstanceKindMeshGateway)
	g.TaggedAddresses = []*isthmusv1.TaggedAddress{{Tag: "wan", Address: r.of(addresses), Port: 443}}
	return keyed(g)
}

func (r *universe) sidecar() (isthmusv1.Key, proto.Message) {
	name := r.of(services)
	p := r.instance(name+"-proxy", name+"-sidecar-proxy", isthmusv1.InstanceKindProxy)
	p.Proxy = &isthmusv1.Proxy{DestinationServiceName: name, MeshGateway: &isthmusv1.MeshGateway{Mode: r.of(modes)}}
	for i := range r.IntN(3) {
		p.Proxy.Upstreams = append(p.Proxy.Upstreams, &isthmusv1.Upstream{
			DestinationName: r.of(services), Datacenter: r.of([]string{"", "dc1", "dc2", "dc9"}),
			MeshGateway: &isthmusv1.MeshGateway{Mode: r.of(modes)}, LocalBindPort: uint32(10000 + i),
		})
	}
	return keyed(p)
}

func (r *universe) entry() (isthmusv1.Key, proto.Message) {
	e := &isthmusv1.ConfigEntry{Name: r.of(services)}
	mode := &isthmusv1.MeshGateway{Mode: r.of(modes)}
	switch r.IntN(4) {
	case 0:
		e.Kind, e.Name = "proxy-defaults", "global"
		e.Entry = &isthmusv1.ConfigEntry_ProxyDefaults{ProxyDefaults: &isthmusv1.ProxyDefaults{MeshGateway: mode}}
	case 1:
		e.Kind = "service-defaults"
		e.Entry = &isthmusv1.ConfigEntry_ServiceDefaults{ServiceDefaults: &isthmusv1.ServiceDefaults{
			Protocol: r.of([]string{"", "tcp", "http"}), MeshGateway: mode,
		}}
	case 2:
		e.Kind = "service-resolver"
		resolver := &isthmusv1.ServiceResolver{}
		if r.IntN(2) == 0 {
			resolver.Redirect = &isthmusv1.ServiceRedirect{Service: r.of(services), Datacenter: r.of([]string{"", "dc2"})}
		} else {
			resolver.Failover = []*isthmusv1.ServiceFailover{{Subset: "*", Datacenters: []string{"dc2"}}}
		}
		e.Entry = &isthmusv1.ConfigEntry_ServiceResolver{ServiceResolver: resolver}
	default:
		e.Kind = "service-intentions"
		e.Entry = &isthmusv1.ConfigEntry_ServiceIntentions{ServiceIntentions: &isthmusv1.ServiceIntentions{
			Sources: []*isthmusv1.SourceIntention{{Name: r.of([]string{"web", "*"}), Action: r.of([]string{"allow", "deny"})}},
		}}
	}
	return isthmusv1.ConfigKey(e.GetKind(), "", "", e.GetName()), e
}

package consul

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// instance converts one service of a node. Transparent proxy mode and peers are
// taken as registered and stated.
func instance(node string, s *api.AgentService, checks []*isthmusv1.Check) *isthmusv1.ServiceInstance {
	out := &isthmusv1.ServiceInstance{
		Node: node, Id: s.ID, Name: s.Service, Namespace: plainName(s.Namespace), Partition: plainName(s.Partition),
		Kind: string(s.Kind), Address: s.Address, Port: number(s.Port), SocketPath: s.SocketPath,
		TaggedAddresses: serviceAddresses(s.TaggedAddresses), Tags: tags(s.Tags), Meta: pairs(s.Meta),
		Weights: weights(s.Weights), Checks: checks, Locality: locality(s.Locality), EnableTagOverride: s.EnableTagOverride,
		ConnectNative: s.Connect != nil && s.Connect.Native,
	}
	if s.Proxy != nil && out.Kind != "" {
		out.Proxy = proxyOf(s.Proxy, &out.Unsupported)
		if s.Namespace == "" && s.Partition == "" {
			unpartitioned(out)
		}
	}
	switch s.Kind {
	case api.ServiceKindIngressGateway, api.ServiceKindTerminatingGateway, api.ServiceKindAPIGateway:
		unsupported(&out.Unsupported, "a service of kind "+string(s.Kind)+" is not supported")
	}
	return out
}

// unpartitioned takes the upstreams as Consul without Enterprise does, which says of no
// service in which namespace and partition it is: those of an upstream are kept and not
// looked at.
func unpartitioned(i *isthmusv1.ServiceInstance) {
	for _, u := range i.GetProxy().GetUpstreams() {
		if u.GetDestinationNamespace() != "" || u.GetDestinationPartition() != "" {
			unsupported(&i.Unsupported, "namespaces and partitions are of Consul Enterprise: those of the upstream "+u.GetDestinationName()+" are ignored")
			u.DestinationNamespace, u.DestinationPartition = "", ""
		}
	}
}

func proxyOf(p *api.AgentServiceConnectProxyConfig, stated *[]string) *isthmusv1.Proxy {
	out := &isthmusv1.Proxy{
		DestinationServiceName: p.DestinationServiceName, DestinationServiceId: p.DestinationServiceID,
		LocalServiceAddress: p.LocalServiceAddress, LocalServicePort: number(p.LocalServicePort),
		LocalServiceSocketPath: p.LocalServiceSocketPath, Mode: string(p.Mode), ConfigJson: object(p.Config),
		MeshGateway: meshGateway(p.MeshGateway), Expose: expose(p.Expose), TransparentProxy: transparentProxy(p.TransparentProxy),
		AccessLogs: accessLogs(p.AccessLogs), EnvoyExtensionsJson: extensions(p.EnvoyExtensions),
	}
	if p.Mode == api.ProxyModeTransparent {
		unsupported(stated, "transparent proxy mode is not supported")
	}
	for _, u := range p.Upstreams {
		// The agent makes these up of service-defaults for transparent proxies: they
		// bind nothing.
		if u.CentrallyConfigured {
			continue
		}
		if u.DestinationPeer != "" {
			unsupported(stated, "cluster peering is not supported")
		}
		out.Upstreams = append(out.Upstreams, upstream(u))
	}
	return out
}

func upstream(u api.Upstream) *isthmusv1.Upstream {
	kind := string(u.DestinationType)
	if kind == string(api.UpstreamDestTypeService) {
		kind = "" // The default, which an agent writes out.
	}
	return &isthmusv1.Upstream{
		DestinationType: kind, DestinationName: u.DestinationName,
		DestinationNamespace: plainName(u.DestinationNamespace), DestinationPartition: plainName(u.DestinationPartition),
		DestinationPeer: u.DestinationPeer, Datacenter: u.Datacenter,
		LocalBindAddress: u.LocalBindAddress, LocalBindPort: number(u.LocalBindPort),
		LocalBindSocketPath: u.LocalBindSocketPath, LocalBindSocketMode: u.LocalBindSocketMode,
		ConfigJson: object(u.Config), MeshGateway: meshGateway(u.MeshGateway),
	}
}

func unsupported(stated *[]string, text string) {
	if !slices.Contains(*stated, text) {
		*stated = append(*stated, text)
		slices.Sort(*stated)
	}
}

func weights(w api.AgentWeights) *isthmusv1.Weights {
	// An instance without weights, which an agent never writes, is 1 and 1.
	if w.Passing == 0 && w.Warning == 0 || w.Passing == 1 && w.Warning == 1 {
		return nil
	}
	return &isthmusv1.Weights{Passing: number(w.Passing), Warning: number(w.Warning)}
}

func locality(l *api.Locality) *isthmusv1.Locality {
	if l == nil {
		return nil
	}
	return unlessEmpty(&isthmusv1.Locality{Region: l.Region, Zone: l.Zone})
}

func nodeAddresses(addresses map[string]string) []*isthmusv1.TaggedAddress {
	var out []*isthmusv1.TaggedAddress
	for _, tag := range slices.Sorted(maps.Keys(addresses)) {
		out = append(out, &isthmusv1.TaggedAddress{Tag: tag, Address: addresses[tag]})
	}
	return out
}

func serviceAddresses(addresses map[string]api.ServiceAddress) []*isthmusv1.TaggedAddress {
	var out []*isthmusv1.TaggedAddress
	for _, tag := range slices.Sorted(maps.Keys(addresses)) {
		a := addresses[tag]
		out = append(out, &isthmusv1.TaggedAddress{Tag: tag, Address: a.Address, Port: number(a.Port)})
	}
	return out
}

func tags(names []string) []string {
	out := slices.Sorted(slices.Values(names))
	return slices.Compact(out)
}

func pairs(m map[string]string) []*isthmusv1.KeyValue {
	var out []*isthmusv1.KeyValue
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, &isthmusv1.KeyValue{Key: key, Value: m[key]})
	}
	return out
}

// plainName leaves out the only namespace and partition that Consul without its Enterprise
// licence has.
func plainName(name string) string {
	if strings.EqualFold(name, isthmusv1.DefaultName) {
		return ""
	}
	return name
}

// number takes what a registration may hold; what is out of range is 0, as if it
// had not been given.
func number(n int) uint32 {
	if n < 0 || int64(n) > int64(^uint32(0)) {
		return 0
	}
	return uint32(n)
}

func object(m map[string]any) []byte {
	if len(m) == 0 {
		return nil
	}
	return canonicalJSON(m)
}

// unlessEmpty is nil for a message that says nothing.
func unlessEmpty[M proto.Message](m M) (none M) {
	if proto.Size(m) == 0 {
		return none
	}
	return m
}

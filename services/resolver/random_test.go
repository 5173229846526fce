package resolver_test

import (
	"iter"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// The universe of random catalogs is small, so that references meet, and larger
// than any catalog, so that some dangle.
var (
	datacenters = []string{"dc1", "dc2", "dc3"}
	anyService  = rapid.SampledFrom([]string{"a", "b", "c", "A", "d"})
	anyDC       = rapid.SampledFrom([]string{"", "dc1", "dc2", "DC2", "dc3", "dc9"})
	anyMode     = rapid.SampledFrom([]string{"", "none", "local", "remote", "bogus"})
	anySubset   = rapid.SampledFrom([]string{"", "", "v1", "v2", "gone"})
	anyFilter   = rapid.SampledFrom([]string{"", "Service.Meta.version == v1", `"v1" in Service.Tags`, "Service.Nope == 1", "(("})
	anyProtocol = rapid.SampledFrom([]string{"", "tcp", "http", "grpc"})
	anyStatus   = rapid.SampledFrom([]string{"passing", "passing", "warning", "critical"})
	anyNode     = rapid.SampledFrom([]string{"n1", "n2", "lost"})
	anyWeight   = rapid.SampledFrom([]uint32{0, 100, 2500, 10_000})
	anyAction   = rapid.SampledFrom([]string{"allow", "deny", ""})
	anyPart     = rapid.SampledFrom([]string{"", "", "", "default", "p2"})
)

// state is what a stream holds.
type state map[isthmusv1.Key]proto.Message

func (s state) reset(dc string, sequence uint64) *isthmusv1.Transaction {
	t := &isthmusv1.Transaction{
		Stream: isthmusv1.StreamName(isthmusv1.ClassCatalog, dc), Incarnation: "first", Sequence: sequence, Reset: true,
	}
	for _, key := range slices.SortedFunc(maps.Keys(s), isthmusv1.Key.Compare) {
		t.Changes = append(t.Changes, isthmusv1.Change{Key: key, Value: s[key]})
	}
	return t
}

// randomHistories gives the transactions of every datacenter and the state that
// they end in. Each begins and ends with mesh facts, which may go in between.
func randomHistories(t *rapid.T) (map[string][]*isthmusv1.Transaction, map[string]state) {
	histories, states := map[string][]*isthmusv1.Transaction{}, map[string]state{}
	for _, dc := range datacenters {
		s := state{}
		var history []*isthmusv1.Transaction
		for range rapid.IntRange(2, 5).Draw(t, "transactions") {
			history = append(history, randomTransaction(t, dc, s, uint64(len(history)+1)))
		}
		last := &isthmusv1.Transaction{
			Stream: isthmusv1.StreamName(isthmusv1.ClassCatalog, dc), Incarnation: "first", Sequence: uint64(len(history) + 1),
		}
		set(last, s, isthmusv1.MeshFactsKey(), randomFacts(t, dc))
		histories[dc], states[dc] = append(history, last), s
	}
	return histories, states
}

func set(t *isthmusv1.Transaction, s state, key isthmusv1.Key, m proto.Message) {
	if i := slices.IndexFunc(t.Changes, func(c isthmusv1.Change) bool { return c.Key == key }); i >= 0 {
		t.Changes = slices.Delete(t.Changes, i, i+1)
	}
	t.Changes = append(t.Changes, isthmusv1.Change{Key: key, Value: m, Tombstone: m == nil})
	if m == nil {
		delete(s, key)
	} else {
		s[key] = m
	}
}

func randomTransaction(t *rapid.T, dc string, s state, sequence uint64) *isthmusv1.Transaction {
	if rapid.IntRange(0, 9).Draw(t, "reset") == 0 {
		for _, key := range slices.SortedFunc(maps.Keys(s), isthmusv1.Key.Compare) {
			if rapid.Bool().Draw(t, "lost") {
				delete(s, key)
			}
		}
		return s.reset(dc, sequence)
	}
	tx := &isthmusv1.Transaction{
		Stream: isthmusv1.StreamName(isthmusv1.ClassCatalog, dc), Incarnation: "first", Sequence: sequence,
	}
	for range rapid.IntRange(8, 24).Draw(t, "changes") {
		if len(s) > 0 && rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
			keys := slices.SortedFunc(maps.Keys(s), isthmusv1.Key.Compare)
			set(tx, s, rapid.SampledFrom(keys).Draw(t, "key"), nil)
			continue
		}
		key, m := randomValue(t, dc)
		set(tx, s, key, m)
	}
	return tx
}

func randomValue(t *rapid.T, dc string) (isthmusv1.Key, proto.Message) {
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		return isthmusv1.MeshFactsKey(), randomFacts(t, dc)
	case 1:
		n := &isthmusv1.Node{
			Name: anyNode.Draw(t, "node"), Address: rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2"}).Draw(t, "address"),
			Checks: []*isthmusv1.Check{{CheckId: "serfHealth", Status: anyStatus.Draw(t, "status")}},
		}
		return isthmusv1.NodeKey("", n.GetName()), n
	case 2:
		q := &isthmusv1.PreparedQuery{Name: "near"}
		for range rapid.IntRange(0, 2).Draw(t, "results") {
			q.Results = append(q.Results, &isthmusv1.PreparedQueryResult{
				Datacenter: anyDC.Draw(t, "dc"), Node: anyNode.Draw(t, "node"), InstanceId: "i1", Service: anyService.Draw(t, "service"),
				Healthy: true, Weight: 1,
			})
		}
		return isthmusv1.PreparedQueryKey("near"), q
	case 3, 4, 5, 6:
		return randomInstance(t)
	}
	return randomEntry(t)
}

func randomFacts(t *rapid.T, dc string) *isthmusv1.MeshFacts {
	return &isthmusv1.MeshFacts{
		Datacenter: dc, TrustDomain: trustDomain,
		DefaultIntentionPolicy: rapid.SampledFrom([]string{"allow", "deny", ""}).Draw(t, "policy"),
		KnownDatacenters:       rapid.SampledFrom([][]string{nil, {"dc1", "dc2"}, {"dc1", "dc2", "dc3", "dc4"}}).Draw(t, "known"),
	}
}

func randomInstance(t *rapid.T) (isthmusv1.Key, proto.Message) {
	m := &isthmusv1.ServiceInstance{
		Node: anyNode.Draw(t, "node"), Id: rapid.SampledFrom([]string{"i1", "i2", "i3"}).Draw(t, "id"),
		Name: anyService.Draw(t, "name"), Port: 443, Partition: anyPart.Draw(t, "partition"),
		Kind:          rapid.SampledFrom([]string{"", "connect-proxy", "connect-proxy", "connect-proxy", "mesh-gateway", "ingress-gateway"}).Draw(t, "kind"),
		Address:       rapid.SampledFrom([]string{"", "10.1.1.1"}).Draw(t, "address"),
		ConnectNative: rapid.Bool().Draw(t, "native"),
		Tags:          rapid.SampledFrom([][]string{nil, {"v1"}}).Draw(t, "tags"),
		Checks:        []*isthmusv1.Check{{CheckId: "c", Status: anyStatus.Draw(t, "status")}},
	}
	if m.GetKind() == isthmusv1.InstanceKindProxy {
		m.MergedCentralConfig = rapid.Bool().Draw(t, "merged")
		m.Proxy = &isthmusv1.Proxy{
			DestinationServiceName: rapid.SampledFrom([]string{"a", "b", "A", ""}).Draw(t, "destination"),
			MeshGateway:            &isthmusv1.MeshGateway{Mode: anyMode.Draw(t, "mode")},
		}
		for range rapid.IntRange(0, 3).Draw(t, "upstreams") {
			m.Proxy.Upstreams = append(m.Proxy.Upstreams, &isthmusv1.Upstream{
				DestinationName: rapid.SampledFrom([]string{"a", "b", "c", "near", ""}).Draw(t, "upstream"), Datacenter: anyDC.Draw(t, "dc"),
				DestinationType: rapid.SampledFrom([]string{"", "", "service", "prepared_query"}).Draw(t, "type"),
				DestinationPeer: rapid.SampledFrom([]string{"", "", "", "peer"}).Draw(t, "peer"),
				MeshGateway:     &isthmusv1.MeshGateway{Mode: anyMode.Draw(t, "mode")},
				ConfigJson:      []byte(rapid.SampledFrom([]string{"", `{"protocol":"http"}`, `not json`}).Draw(t, "config")),
				LocalBindPort:   uint32(rapid.IntRange(1, 3).Draw(t, "port")),
			})
		}
	}
	return isthmusv1.InstanceKey(m.GetPartition(), m.GetNode(), m.GetNamespace(), m.GetId()), m
}

func randomEntry(t *rapid.T) (isthmusv1.Key, proto.Message) {
	e := &isthmusv1.ConfigEntry{Name: anyService.Draw(t, "name"), Partition: anyPart.Draw(t, "partition")}
	switch rapid.IntRange(0, 6).Draw(t, "entry") {
	case 0:
		e.Kind, e.Name = "proxy-defaults", "global"
		e.Entry = &isthmusv1.ConfigEntry_ProxyDefaults{ProxyDefaults: &isthmusv1.ProxyDefaults{
			MeshGateway: &isthmusv1.MeshGateway{Mode: anyMode.Draw(t, "mode")},
			ConfigJson:  []byte(rapid.SampledFrom([]string{"", `{"protocol":"http"}`, `{"mesh_gateway":"local"}`}).Draw(t, "config")),
		}}
	case 1, 2:
		e.Kind = "service-defaults"
		e.Entry = &isthmusv1.ConfigEntry_ServiceDefaults{ServiceDefaults: &isthmusv1.ServiceDefaults{
			Protocol: anyProtocol.Draw(t, "protocol"), MeshGateway: &isthmusv1.MeshGateway{Mode: anyMode.Draw(t, "mode")},
			ExternalSni:      rapid.SampledFrom([]string{"", "", "", "out.example"}).Draw(t, "sni"),
			UpstreamDefaults: &isthmusv1.UpstreamConfig{MeshGateway: &isthmusv1.MeshGateway{Mode: anyMode.Draw(t, "mode")}},
			UpstreamOverrides: []*isthmusv1.UpstreamConfig{{
				Name: anyService.Draw(t, "override"), MeshGateway: &isthmusv1.MeshGateway{Mode: anyMode.Draw(t, "mode")},
			}},
		}}
	case 3:
		e.Kind = "service-resolver"
		e.Entry = &isthmusv1.ConfigEntry_ServiceResolver{ServiceResolver: randomResolver(t)}
	case 4:
		e.Kind = "service-splitter"
		splitter := &isthmusv1.ServiceSplitter{}
		for range rapid.IntRange(0, 3).Draw(t, "splits") {
			splitter.Splits = append(splitter.Splits, &isthmusv1.ServiceSplit{
				Weight: anyWeight.Draw(t, "weight"), Service: anyService.Draw(t, "service"), ServiceSubset: anySubset.Draw(t, "subset"),
			})
		}
		e.Entry = &isthmusv1.ConfigEntry_ServiceSplitter{ServiceSplitter: splitter}
	case 5:
		e.Kind = "service-router"
		e.Entry = &isthmusv1.ConfigEntry_ServiceRouter{ServiceRouter: &isthmusv1.ServiceRouter{Routes: []*isthmusv1.ServiceRoute{{
			Match:       &isthmusv1.ServiceRouteMatch{PathPrefix: "/"},
			Destination: &isthmusv1.ServiceRouteDestination{Service: anyService.Draw(t, "service"), ServiceSubset: anySubset.Draw(t, "subset")},
		}}}}
	default:
		e.Kind = "service-intentions"
		e.Name = rapid.SampledFrom([]string{"a", "b", "*"}).Draw(t, "destination")
		e.Entry = &isthmusv1.ConfigEntry_ServiceIntentions{ServiceIntentions: &isthmusv1.ServiceIntentions{Sources: []*isthmusv1.SourceIntention{
			{Name: rapid.SampledFrom([]string{"a", "c", "*"}).Draw(t, "source"), Action: anyAction.Draw(t, "action")},
		}}}
	}
	return isthmusv1.ConfigKey(e.GetKind(), e.GetPartition(), e.GetNamespace(), e.GetName()), e
}

func randomResolver(t *rapid.T) *isthmusv1.ServiceResolver {
	r := &isthmusv1.ServiceResolver{
		DefaultSubset: anySubset.Draw(t, "default"),
		Subsets: []*isthmusv1.ServiceSubset{
			{Name: "v1", Filter: anyFilter.Draw(t, "filter")},
			{Name: "v2", Filter: anyFilter.Draw(t, "filter"), OnlyPassing: true},
		},
	}
	if rapid.Bool().Draw(t, "timeout") {
		r.ConnectTimeout = durationpb.New(3e9)
	}
	if rapid.IntRange(0, 2).Draw(t, "redirect") == 0 {
		r.Redirect = &isthmusv1.ServiceRedirect{Service: anyService.Draw(t, "to"), Datacenter: anyDC.Draw(t, "dc"), ServiceSubset: anySubset.Draw(t, "subset")}
	}
	if rapid.Bool().Draw(t, "failover") {
		r.Failover = []*isthmusv1.ServiceFailover{{
			Subset: rapid.SampledFrom([]string{"*", "v1"}).Draw(t, "of"), Datacenters: []string{anyDC.Draw(t, "dc"), "dc2"},
			Service: anyService.Draw(t, "service"),
		}}
	}
	return r
}

// interleaved merges the histories in a random order that keeps each one's own.
func interleaved(t *rapid.T, label string, histories map[string][]*isthmusv1.Transaction) iter.Seq[*isthmusv1.Transaction] {
	return func(yield func(*isthmusv1.Transaction) bool) {
		next := map[string]int{}
		for {
			var open []string
			for _, dc := range datacenters {
				if next[dc] < len(histories[dc]) {
					open = append(open, dc)
				}
			}
			if len(open) == 0 {
				return
			}
			dc := rapid.SampledFrom(open).Draw(t, label)
			if !yield(histories[dc][next[dc]]) {
				return
			}
			next[dc]++
		}
	}
}

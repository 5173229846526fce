package resolver_test

import (
	"fmt"
	"runtime"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// bigCatalog is a datacenter of many services, each with its sidecars spread
// over nodes, and each sidecar with upstreams to three other services here and
// two in dc2.
func bigCatalog(dc string, services, instances int) *isthmusv1.Transaction {
	t := &isthmusv1.Transaction{Stream: isthmusv1.StreamName(isthmusv1.ClassCatalog, dc), Incarnation: "first", Reset: true}
	add := func(c isthmusv1.Change) {
		c.Sequence = uint64(len(t.Changes) + 1)
		t.Changes, t.Sequence = append(t.Changes, c), c.Sequence
	}
	add(isthmusv1.Change{Key: isthmusv1.MeshFactsKey(), Value: &isthmusv1.MeshFacts{
		Datacenter: dc, TrustDomain: trustDomain, DefaultIntentionPolicy: "deny", KnownDatacenters: []string{"dc1", "dc2"},
	}})
	for n := range 1000 {
		node := &isthmusv1.Node{Name: fmt.Sprintf("node-%d", n), Address: fmt.Sprintf("10.%d.%d.1", n/250, n%250)}
		add(isthmusv1.Change{Key: isthmusv1.NodeKey("", node.GetName()), Value: node})
	}
	gateway := &isthmusv1.ServiceInstance{Node: "node-0", Id: "gateway", Name: "gateway", Kind: isthmusv1.InstanceKindMeshGateway, Port: 8443}
	add(isthmusv1.Change{Key: instanceKey(gateway), Value: gateway})
	add(isthmusv1.Change{Key: isthmusv1.ConfigKey("proxy-defaults", "", "", "global"), Value: &isthmusv1.ConfigEntry{
		Kind: "proxy-defaults", Name: "global",
		Entry: &isthmusv1.ConfigEntry_ProxyDefaults{ProxyDefaults: &isthmusv1.ProxyDefaults{MeshGateway: &isthmusv1.MeshGateway{Mode: "local"}}},
	}})
	for s := range services {
		for i := range instances {
			m := bigInstance(s, i, services)
			add(isthmusv1.Change{Key: instanceKey(m), Value: m})
		}
	}
	return t
}

func instanceKey(m *isthmusv1.ServiceInstance) isthmusv1.Key {
	return isthmusv1.InstanceKey(m.GetPartition(), m.GetNode(), m.GetNamespace(), m.GetId())
}

func bigInstance(s, i, services int) *isthmusv1.ServiceInstance {
	name := fmt.Sprintf("service-%d", s)
	m := &isthmusv1.ServiceInstance{
		Node: fmt.Sprintf("node-%d", (s*7+i*13)%1000), Id: fmt.Sprintf("%s-%d", name, i), Name: name + "-sidecar-proxy",
		Kind: isthmusv1.InstanceKindProxy, Port: 21000,
		Checks: []*isthmusv1.Check{{CheckId: "listening", Status: isthmusv1.CheckPassing}},
		Proxy:  &isthmusv1.Proxy{DestinationServiceName: name},
	}
	for n := range 5 {
		up := &isthmusv1.Upstream{DestinationName: fmt.Sprintf("service-%d", (s+n*n+1)%services), LocalBindPort: uint32(10_000 + n)}
		if n > 2 {
			up.Datacenter = "dc2"
		}
		m.Proxy.Upstreams = append(m.Proxy.Upstreams, up)
	}
	return m
}

// BenchmarkInstanceChange is the cost of one changed instance, from transaction
// to update, by the number of services: it must not grow with them. A hundred
// services change in turn, spread over all, so that what is measured is the work
// and not how much of the catalog the processor's cache holds.
func BenchmarkInstanceChange(b *testing.B) {
	for _, services := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			m := resolver.New("dc1")
			m.Apply(bigCatalog("dc1", services, 10))
			m.Apply(bigCatalog("dc2", 100, 1))
			m.Ready()
			runtime.GC()
			b.ReportAllocs()
			sequence := uint64(1 << 20)
			for b.Loop() {
				sequence++
				i := bigInstance(int(sequence%100)*(services/100), 3, services)
				i.Weights = &isthmusv1.Weights{Passing: uint32(2 + sequence/100%100)}
				m.Apply(&isthmusv1.Transaction{
					Stream: "CATALOG_dc1", Incarnation: "first", Sequence: sequence,
					Changes: []isthmusv1.Change{{Key: instanceKey(i), Value: i, Sequence: sequence}},
				})
				if u := m.Ready(); len(u.Changes) != 1 {
					b.Fatalf("%d changes of one weight", len(u.Changes))
				}
			}
		})
	}
}

// BenchmarkFirstResolve is the time from the catalog of 10,000 services with
// 100,000 instances to its routes, and the memory that both take afterwards.
func BenchmarkFirstResolve(b *testing.B) {
	b.Run("10000x10", func(b *testing.B) {
		near, far := bigCatalog("dc1", 10_000, 10), bigCatalog("dc2", 100, 1)
		b.ReportAllocs()
		var grown float64
		for b.Loop() {
			before := heap()
			m := resolver.New("dc1")
			m.Apply(near)
			m.Apply(far)
			if u := m.Ready(); len(u.Changes) < 140_000 {
				b.Fatalf("only %d outputs", len(u.Changes))
			}
			grown = float64(heap() - before)
			runtime.KeepAlive(m)
		}
		b.ReportMetric(grown/(1<<20), "MiB-held")
	})
}

func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

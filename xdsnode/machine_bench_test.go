package xdsnode_test

import (
	"fmt"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// oneEndpoint is the i-th change: another endpoint of the next of many services.
func oneEndpoint(i, services int) *isthmusv1.Transaction {
	ref := setOf(fmt.Sprintf("service-%d", i%services))
	set := &isthmusv1.EndpointSet{Ref: ref, Chunks: 1}
	for _, address := range []string{"10.0.0.1", fmt.Sprintf("10.0.%d.%d", i%200+1, i/200%200+1)} {
		set.Endpoints = append(set.Endpoints, &isthmusv1.Endpoint{Address: address, Port: 80, Health: isthmusv1.Health_HEALTH_HEALTHY, Weight: 1})
	}
	return &isthmusv1.Transaction{
		Stream: "ROUTES_dc1", Incarnation: "i", Sequence: uint64(i) + 2,
		Changes: []isthmusv1.Change{{Key: ref.ID().Key(0), Value: set, Sequence: uint64(i) + 2}},
	}
}

// BenchmarkEndpointChange is one endpoint that changes, of one of many services, for two
// mesh gateways: its cost must not grow with the services.
func BenchmarkEndpointChange(b *testing.B) {
	for _, services := range []int{100, 10_000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			r, m := newRoutes(), xdsnode.NewMachine()
			r.gateway("n1", "mg", binds(1))
			r.gateway("n2", "mg", binds(1))
			for i := range services {
				name := fmt.Sprintf("service-%d", i)
				r.name(name, name)
				r.set(name, "10.0.0.1", "10.0.0.2")
			}
			apply(m, r.transaction(true))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if len(apply(m, oneEndpoint(i, services))) == 0 {
					b.Fatal("nothing has changed")
				}
			}
		})
	}
}

// BenchmarkSidecarEndpointChange is the same for sidecars, two of each service, which use
// the next one.
func BenchmarkSidecarEndpointChange(b *testing.B) {
	for _, services := range []int{100, 10_000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			r, m := newRoutes(), xdsnode.NewMachine()
			for i := range services {
				name, hash := fmt.Sprintf("service-%d", i), fmt.Sprintf("hash-%d", i)
				r.set(name, "10.0.0.1", "10.0.0.2")
				r.routeSet(hash, "tcp", to{name, name, ""})
				for _, node := range []string{"n1", "n2"} {
					r.sidecar(node, fmt.Sprintf("web-%d", i), hash, false, name)
				}
			}
			apply(m, r.transaction(true))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if len(apply(m, oneEndpoint(i, services))) == 0 {
					b.Fatal("nothing has changed")
				}
			}
		})
	}
}

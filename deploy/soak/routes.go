package main

import (
	"context"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// routes are changes of the routes stream, which are written together.
type routes struct {
	puts    []bus.Put
	deletes []isthmusv1.Key
}

func serviceOf(name string) *isthmusv1.ServiceRef { return &isthmusv1.ServiceRef{Name: name} }

func setOf(name string) *isthmusv1.EndpointSetRef {
	return &isthmusv1.EndpointSetRef{Datacenter: datacenter, Scope: isthmusv1.Scope_SCOPE_LAN, Service: serviceOf(name)}
}

// sni is a service's name on the wire.
func sni(name string) string {
	return isthmusv1.SNI(serviceOf(name), "", datacenter, trustDomain)
}

// put gives a service its endpoints.
func (r *routes) put(name string, addresses ...string) {
	r.endpoints(name, addresses...)
	r.name(name, name)
}

// endpoints are those of a service's set.
func (r *routes) endpoints(name string, addresses ...string) {
	set := &isthmusv1.EndpointSet{Ref: setOf(name), Chunks: 1}
	for _, a := range addresses {
		at := netip.MustParseAddrPort(a)
		set.Endpoints = append(set.Endpoints, &isthmusv1.Endpoint{
			Address: at.Addr().String(), Port: uint32(at.Port()), Health: isthmusv1.Health_HEALTH_HEALTHY, Weight: 1,
		})
	}
	r.puts = append(r.puts, bus.Put{Key: set.Ref.ID().Key(0), Value: set})
}

// name leads a name to the endpoints of a service.
func (r *routes) name(name, service string) {
	r.puts = append(r.puts, bus.Put{
		Key:   isthmusv1.NameKey(serviceOf(name), ""),
		Value: &isthmusv1.NameRoute{Sni: sni(name), Service: serviceOf(name), Endpoints: setOf(service)},
	})
}

// forget ends a name.
func (r *routes) forget(name string) {
	r.deletes = append(r.deletes, isthmusv1.NameKey(serviceOf(name), ""))
}

// write writes changes, and returns their sequence.
func (w *world) write(ctx context.Context, r *routes) (uint64, error) {
	w.catalog++
	position, err := w.routes.Write(ctx, bus.Difference{
		Puts: r.puts, Deletes: r.deletes,
		Basis: &isthmusv1.Basis{Positions: []*isthmusv1.Position{
			{Stream: isthmusv1.StreamName(isthmusv1.ClassCatalog, datacenter), Incarnation: "soak", Sequence: w.catalog},
		}},
	})
	return position.GetSequence(), err
}

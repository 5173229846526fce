package resolver

import (
	"cmp"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// place is a service, subset and datacenter that a chain leads to, as written;
// names compare without case.
type place struct {
	service    *isthmusv1.ServiceRef
	subset     string
	datacenter string
}

// id is <subset>.<service>.<namespace>.<partition>.<datacenter>, lower-cased;
// without a subset it begins with the service.
func (p place) id() string {
	parts := []string{
		p.service.GetName(),
		cmp.Or(p.service.GetNamespace(), isthmusv1.DefaultName),
		cmp.Or(p.service.GetPartition(), isthmusv1.DefaultName),
		p.datacenter,
	}
	if p.subset != "" {
		parts = append([]string{p.subset}, parts...)
	}
	return strings.ToLower(strings.Join(parts, "."))
}

// elsewhere is the part of a redirect, failover, split or route that says where
// to; empty fields keep what was there.
type elsewhere struct {
	service, subset, namespace, partition, datacenter string
}

// to follows a redirect, failover, split or route. Another service does not
// keep the subset.
func (p place) to(e elsewhere) place {
	service := newRef(
		cmp.Or(e.partition, p.service.GetPartition()),
		cmp.Or(e.namespace, p.service.GetNamespace()),
		cmp.Or(e.service, p.service.GetName()),
	)
	next := place{
		service:    service,
		subset:     p.subset,
		datacenter: strings.ToLower(cmp.Or(e.datacenter, p.datacenter)),
	}
	if service.Qualified() != p.service.Qualified() {
		next.subset = ""
	} else if service.GetName() != p.service.GetName() {
		next.service = p.service
	}
	if e.subset != "" {
		next.subset = e.subset
	}
	return next
}

// set names the endpoint set of the place. Names are lower-cased, so that one
// set is always written in one way.
func (p place) set(scope isthmusv1.Scope) *isthmusv1.EndpointSetRef {
	return serviceSet(p.datacenter, scope, p.service, p.subset)
}

func serviceSet(datacenter string, scope isthmusv1.Scope, ref *isthmusv1.ServiceRef, subset string) *isthmusv1.EndpointSetRef {
	return &isthmusv1.EndpointSetRef{
		Datacenter: datacenter,
		Scope:      scope,
		Service: newRef(strings.ToLower(ref.GetPartition()),
			strings.ToLower(ref.GetNamespace()), strings.ToLower(ref.GetName())),
		Subset: strings.ToLower(subset),
	}
}

// gatewaySet names the set of all mesh gateways of a partition.
func gatewaySet(datacenter string, scope isthmusv1.Scope, partition string) *isthmusv1.EndpointSetRef {
	return &isthmusv1.EndpointSetRef{
		Datacenter:   datacenter,
		Scope:        scope,
		Service:      newRef(strings.ToLower(partition), "", ""),
		MeshGateways: true,
	}
}

package resolver

import (
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// serviceJob makes what a service of the own datacenter needs as a destination:
// who may connect to it, and the names by which gateways find it.
type serviceJob struct {
	name string
	ref  *isthmusv1.ServiceRef
}

func (j *serviceJob) forget(m *Machine) { delete(m.services, j.name) }

func (j *serviceJob) make(v *view) {
	dc := v.machine.datacenter
	if len(v.names(dc, j.ref)) == 0 {
		v.retire()
		return
	}
	ref := v.spelled(dc, j.ref)
	v.emit(isthmusv1.InboundKey(ref), v.inbound(ref))
	_, entry := v.resolver(ref)
	v.serverName(ref, "", entry)
	for _, s := range entry.GetSubsets() {
		// Of two spellings of one name only the first is found by its name.
		if s.GetName() != "" && subsetName(entry, s.GetName()) == s.GetName() {
			v.serverName(ref, s.GetName(), entry)
		}
	}
}

// serverName puts out one name for the gateways. The unnamed name leads to the
// default subset.
func (v *view) serverName(ref *isthmusv1.ServiceRef, subset string, entry *isthmusv1.ServiceResolver) {
	dc := v.machine.datacenter
	leads := place{service: ref, subset: subset, datacenter: dc}
	if subset == "" {
		leads.subset = entry.GetDefaultSubset()
	}
	n := &isthmusv1.NameRoute{
		Sni:            isthmusv1.SNI(ref, subset, dc, v.trustDomain()),
		Service:        ref,
		Subset:         subset,
		Endpoints:      leads.set(isthmusv1.Scope_SCOPE_LAN),
		ConnectTimeout: entry.GetConnectTimeout(),
	}
	if leads.subset != "" {
		if problem := v.subsetProblem(leads); problem != nil {
			n.Problems = append(n.Problems, problem)
		}
	}
	v.useSet(n.GetEndpoints())
	v.emit(isthmusv1.NameKey(ref, subset), n)
}

// meshJob makes what every node of the datacenter needs beside the routes.
type meshJob struct{}

func (meshJob) forget(*Machine) {}

func (meshJob) make(v *view) {
	m := &isthmusv1.MeshRoutes{
		Datacenter:       v.machine.datacenter,
		TrustDomain:      v.trustDomain(),
		KnownDatacenters: v.datacenters(),
	}
	roots := map[string]struct{}{}
	for _, root := range v.roots().GetRoots() {
		roots[root.GetRootCertPem()] = struct{}{}
	}
	delete(roots, "")
	m.RootCertsPem = sortedKeys(roots)
	v.emit(isthmusv1.MeshKey(), m)
}

// wildcardsJob leads the names of every other datacenter to its gateways.
type wildcardsJob struct{}

func (wildcardsJob) forget(*Machine) {}

func (wildcardsJob) make(v *view) {
	for _, dc := range v.datacenters() {
		if dc == v.machine.datacenter {
			continue
		}
		w := &isthmusv1.WildcardRoute{
			Suffix:     "." + isthmusv1.GatewaySNI("", dc, v.trustDomain()),
			Datacenter: dc,
			Endpoints:  gatewaySet(dc, isthmusv1.Scope_SCOPE_WAN, ""),
		}
		if !v.hasCatalog(dc) {
			w.Problems = append(w.Problems, problemError(CodeNoCatalog, "",
				"the catalog of %s is not here: its gateways are not known", dc))
		} else if problem := v.gatewayProblem(w.GetEndpoints()); problem != nil {
			w.Problems = append(w.Problems, problem)
		}
		v.useSet(w.GetEndpoints())
		v.emit(isthmusv1.WildcardKey(dc), w)
	}
}

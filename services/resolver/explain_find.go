package resolver

import (
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// proxyKey is the key of the routes of a proxy's instance.
func (v *value) proxyKey() isthmusv1.Key {
	m := v.instance()
	return isthmusv1.ProxyKey(m.GetPartition(), m.GetNode(), m.GetNamespace(), m.GetId())
}

// proxyName is NODE/ID, with the partition and namespace where they are not the
// default ones.
func proxyName(v *value) string {
	m := v.instance()
	name := m.GetNode() + "/"
	if partition := trimDefault(m.GetPartition()); partition != "" {
		name = partition + "/" + name
	}
	if namespace := trimDefault(m.GetNamespace()); namespace != "" {
		name += namespace + "/"
	}
	return name + m.GetId()
}

// sidecars are the proxies of the own datacenter, by node and ID.
func (m *Machine) sidecars() []*value {
	var out []*value
	for key := range m.proxies {
		v := m.catalogs[m.datacenter].values[key]
		if v != nil && v.instance().GetKind() == isthmusv1.InstanceKindProxy && destinationOf(v.instance()) != nil {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *value) int { return a.key.Compare(b.key) })
	return out
}

// findProxies finds what a question names: NODE/ID, a unique ID, or a service,
// be it the one that proxies stand for or the one that they are registered as.
func (m *Machine) findProxies(name string) ([]*value, error) {
	var byID, byService []*value
	var services, proxies []string
	for _, v := range m.sidecars() {
		i := v.instance()
		services = append(services, destinationOf(i).GetName())
		proxies = append(proxies, proxyName(v))
		switch {
		case strings.EqualFold(proxyName(v), name):
			return []*value{v}, nil
		case strings.EqualFold(i.GetId(), name), strings.EqualFold(i.GetNode()+"/"+i.GetId(), name):
			byID = append(byID, v)
		case destinationOf(i).Qualified() == strings.ToLower(name), strings.EqualFold(i.GetName(), name):
			byService = append(byService, v)
		}
	}
	switch {
	case len(byID) > 1:
		return nil, &NoAnswerError{Err: ErrAmbiguousProxy, Name: name, Candidates: proxyNames(byID)}
	case len(byID) == 1:
		return byID, nil
	case len(byService) > 0:
		return byService, nil
	}
	return nil, &NoAnswerError{Err: ErrUnknownProxy, Name: name, Candidates: distinct(append(services, proxies...))}
}

func proxyNames(list []*value) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = proxyName(v)
	}
	return distinct(out)
}

func distinct(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// registered is one upstream of a proxy with its route.
type registered struct {
	upstream *isthmusv1.Upstream
	route    *isthmusv1.Route
	// label is how a question names it: api, or api@dc2.
	label string
}

func (m *Machine) upstreamsOf(p *value) []registered {
	routes, _ := m.outputs[p.proxyKey()].(*isthmusv1.ProxyRoutes)
	set, _ := m.outputs[isthmusv1.RouteSetKey(routes.GetService(), routes.GetRoutesetHash())].(*isthmusv1.RouteSet)
	var out []registered
	for i, up := range p.instance().GetProxy().GetUpstreams() {
		if i >= len(routes.GetBinds()) {
			break
		}
		id := routes.GetBinds()[i].GetRoute()
		for _, r := range set.GetRoutes() {
			if r.GetId() == id {
				out = append(out, registered{upstream: up, route: r, label: label(r)})
			}
		}
	}
	return out
}

func label(r *isthmusv1.Route) string {
	return r.GetDestination().Qualified() + "@" + r.GetDatacenter()
}

// answers reports whether an upstream is one that the question asks for.
func (r registered) answers(q Question) bool {
	if q.Upstream != "" && !strings.EqualFold(q.Upstream, r.route.GetDestination().Qualified()) &&
		!strings.EqualFold(q.Upstream, r.upstream.GetDestinationName()) {
		return false
	}
	return q.Datacenter == "" || strings.EqualFold(q.Datacenter, r.route.GetDatacenter())
}

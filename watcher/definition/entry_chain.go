package definition

import (
	"cmp"
	"slices"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func (d *decoder) serviceResolver(e *isthmusv1.ConfigEntry) schema {
	r := &isthmusv1.ServiceResolver{}
	e.Entry = &isthmusv1.ConfigEntry_ServiceResolver{ServiceResolver: r}
	return schema{
		"default_subset":         d.text(&r.DefaultSubset),
		"subsets":                d.subsets(&r.Subsets),
		"redirect":               whole(d, &r.Redirect, d.redirect),
		"failover":               d.failovers(&r.Failover),
		"connect_timeout":        d.duration(&r.ConnectTimeout),
		"request_timeout":        d.duration(&r.RequestTimeout),
		"load_balancer":          d.shaped(&r.LoadBalancerJson, loadBalancerShape),
		"prioritize_by_locality": d.nested(schema{"mode": d.text(&r.PrioritizeByLocality)}),
	}
}

func (d *decoder) subsets(dst *[]*isthmusv1.ServiceSubset) func(cursor) {
	return func(c cursor) {
		d.named(func(name string, c cursor) {
			s := &isthmusv1.ServiceSubset{Name: name}
			d.nested(schema{"filter": d.filter(&s.Filter), "only_passing": d.flag(&s.OnlyPassing)})(c)
			*dst = append(*dst, s)
		})(c)
		slices.SortFunc(*dst, func(a, b *isthmusv1.ServiceSubset) int { return cmp.Compare(a.GetName(), b.GetName()) })
	}
}

func (d *decoder) redirect(r *isthmusv1.ServiceRedirect) schema {
	return schema{
		"service": d.text(&r.Service), "service_subset": d.text(&r.ServiceSubset),
		"namespace": d.text(&r.Namespace), "partition": d.text(&r.Partition),
		"datacenter": d.text(&r.Datacenter), "peer": d.peer(&r.Peer),
		"sameness_group": d.samenessGroup(&r.SamenessGroup),
	}
}

func (d *decoder) failovers(dst *[]*isthmusv1.ServiceFailover) func(cursor) {
	return func(c cursor) {
		d.named(func(name string, c cursor) {
			f := &isthmusv1.ServiceFailover{Subset: name}
			d.nested(schema{
				"service": d.text(&f.Service), "service_subset": d.text(&f.ServiceSubset),
				"namespace": d.text(&f.Namespace), "datacenters": d.texts(&f.Datacenters),
				"targets": list(d, &f.Targets, d.failoverTarget), "policy": part(d, &f.Policy, d.failoverPolicy),
				"sameness_group": d.samenessGroup(&f.SamenessGroup),
			})(c)
			*dst = append(*dst, f)
		})(c)
		slices.SortFunc(*dst, func(a, b *isthmusv1.ServiceFailover) int { return cmp.Compare(a.GetSubset(), b.GetSubset()) })
	}
}

func (d *decoder) failoverTarget(t *isthmusv1.ServiceFailoverTarget) schema {
	return schema{
		"service": d.text(&t.Service), "service_subset": d.text(&t.ServiceSubset),
		"namespace": d.text(&t.Namespace), "partition": d.text(&t.Partition),
		"datacenter": d.text(&t.Datacenter), "peer": d.peer(&t.Peer),
	}
}

func (d *decoder) serviceSplitter(e *isthmusv1.ConfigEntry) schema {
	s := &isthmusv1.ServiceSplitter{}
	e.Entry = &isthmusv1.ConfigEntry_ServiceSplitter{ServiceSplitter: s}
	return schema{"splits": list(d, &s.Splits, func(p *isthmusv1.ServiceSplit) schema {
		return schema{
			"weight": d.weight(&p.Weight), "service": d.text(&p.Service), "service_subset": d.text(&p.ServiceSubset),
			"namespace": d.text(&p.Namespace), "partition": d.text(&p.Partition),
			"request_headers":  part(d, &p.RequestHeaders, d.headerModifiers),
			"response_headers": part(d, &p.ResponseHeaders, d.headerModifiers),
		}
	})}
}

func (d *decoder) headerModifiers(h *isthmusv1.HeaderModifiers) schema {
	return schema{"add": d.headerPairs(&h.Add), "set": d.headerPairs(&h.Set), "remove": d.texts(&h.Remove)}
}

func (d *decoder) headerPairs(dst *[]*isthmusv1.HeaderPair) func(cursor) {
	return func(c cursor) {
		d.named(func(name string, c cursor) {
			if text, ok := d.asText(c); ok {
				*dst = append(*dst, &isthmusv1.HeaderPair{Name: name, Value: text})
			}
		})(c)
		slices.SortFunc(*dst, func(a, b *isthmusv1.HeaderPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	}
}

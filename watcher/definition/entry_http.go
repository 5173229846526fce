package definition

import (
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func (d *decoder) serviceRouter(e *isthmusv1.ConfigEntry) schema {
	r := &isthmusv1.ServiceRouter{}
	e.Entry = &isthmusv1.ConfigEntry_ServiceRouter{ServiceRouter: r}
	return schema{"routes": list(d, &r.Routes, func(r *isthmusv1.ServiceRoute) schema {
		return schema{
			"match":       d.routeMatch(&r.Match),
			"destination": whole(d, &r.Destination, d.routeDestination),
		}
	})}
}

// routeMatch reads match { http { } }. A match that says nothing is none: the
// route takes all.
func (d *decoder) routeMatch(dst **isthmusv1.ServiceRouteMatch) func(cursor) {
	return d.nested(schema{"http": part(d, dst, func(m *isthmusv1.ServiceRouteMatch) schema {
		return schema{
			"path_exact": d.text(&m.PathExact), "path_prefix": d.text(&m.PathPrefix), "path_regex": d.text(&m.PathRegex),
			"case_insensitive": d.flag(&m.CaseInsensitive),
			"header":           list(d, &m.Headers, d.headerMatch),
			"query_param": list(d, &m.QueryParams, func(q *isthmusv1.QueryParamMatch) schema {
				return schema{
					"name": d.text(&q.Name), "present": d.flag(&q.Present),
					"exact": d.text(&q.Exact), "regex": d.text(&q.Regex),
				}
			}),
			"methods": d.uppered(&m.Methods),
		}
	})})
}

func (d *decoder) headerMatch(h *isthmusv1.HeaderMatch) schema {
	return schema{
		"name": d.text(&h.Name), "present": d.flag(&h.Present), "exact": d.text(&h.Exact),
		"prefix": d.text(&h.Prefix), "suffix": d.text(&h.Suffix), "contains": d.text(&h.Contains),
		"regex": d.text(&h.Regex), "invert": d.flag(&h.Invert), "ignore_case": d.flag(&h.IgnoreCase),
	}
}

func (d *decoder) routeDestination(r *isthmusv1.ServiceRouteDestination) schema {
	return schema{
		"service": d.text(&r.Service), "service_subset": d.text(&r.ServiceSubset),
		"namespace": d.text(&r.Namespace), "partition": d.text(&r.Partition),
		"prefix_rewrite":           d.text(&r.PrefixRewrite),
		"request_timeout":          d.duration(&r.RequestTimeout),
		"idle_timeout":             d.duration(&r.IdleTimeout),
		"num_retries":              d.number(&r.NumRetries),
		"retry_on_connect_failure": d.flag(&r.RetryOnConnectFailure),
		"retry_on":                 d.texts(&r.RetryOn),
		"retry_on_status_codes":    d.numbers(&r.RetryOnStatusCodes),
		"request_headers":          part(d, &r.RequestHeaders, d.headerModifiers),
		"response_headers":         part(d, &r.ResponseHeaders, d.headerModifiers),
	}
}

func (d *decoder) serviceIntentions(e *isthmusv1.ConfigEntry) schema {
	s := &isthmusv1.ServiceIntentions{}
	e.Entry = &isthmusv1.ConfigEntry_ServiceIntentions{ServiceIntentions: s}
	return schema{"sources": list(d, &s.Sources, d.sourceIntention), "jwt": d.jwt(&s.JwtJson)}
}

func (d *decoder) sourceIntention(s *isthmusv1.SourceIntention) schema {
	return schema{
		"name": d.text(&s.Name), "namespace": d.text(&s.Namespace), "partition": d.text(&s.Partition),
		"peer": d.peer(&s.Peer), "sameness_group": d.samenessGroup(&s.SamenessGroup),
		"action": d.text(&s.Action), "description": d.text(&s.Description),
		"permissions": list(d, &s.Permissions, d.permission),
		"type":        d.consulOnly, "precedence": accepted,
		// What Consul adds to intentions made by its older API.
		"legacy_id": accepted, "legacy_meta": accepted, "legacy_create_time": accepted, "legacy_update_time": accepted,
	}
}

// consulOnly reads the type of a source, of which there is one.
func (d *decoder) consulOnly(c cursor) {
	if text, ok := d.asText(c); ok && text != "consul" {
		d.refuse(c, "the only type of a source is consul", "leave out type")
	}
}

func (d *decoder) permission(p *isthmusv1.IntentionPermission) schema {
	return schema{
		"action": d.text(&p.Action),
		"http": d.nested(schema{
			"path_exact": d.text(&p.PathExact), "path_prefix": d.text(&p.PathPrefix), "path_regex": d.text(&p.PathRegex),
			"header": list(d, &p.Headers, d.headerMatch), "methods": d.uppered(&p.Methods),
		}),
		"jwt": d.jwt(&p.JwtJson),
	}
}

// jwt keeps a requirement that nothing here can check. It is not dropped:
// whoever serves the entry must refuse what it cannot check.
func (d *decoder) jwt(dst *[]byte) func(cursor) {
	return func(c cursor) {
		d.opaqueObject(dst)(c)
		if len(*dst) > 0 {
			d.warn(c, "JSON web tokens are not supported", "leave out jwt")
		}
	}
}

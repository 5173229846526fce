package consul

import (
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func serviceRouter(e *api.ServiceRouterConfigEntry) *isthmusv1.ServiceRouter {
	out := &isthmusv1.ServiceRouter{}
	for _, r := range e.Routes {
		route := &isthmusv1.ServiceRoute{}
		if r.Match != nil && r.Match.HTTP != nil {
			route.Match = unlessEmpty(routeMatch(r.Match.HTTP))
		}
		if d := r.Destination; d != nil {
			route.Destination = routeDestination(d)
		}
		out.Routes = append(out.Routes, route)
	}
	return out
}

func routeMatch(m *api.ServiceRouteHTTPMatch) *isthmusv1.ServiceRouteMatch {
	out := &isthmusv1.ServiceRouteMatch{
		PathExact: m.PathExact, PathPrefix: m.PathPrefix, PathRegex: m.PathRegex, CaseInsensitive: m.CaseInsensitive,
		Methods: upper(m.Methods),
	}
	for _, h := range m.Header {
		out.Headers = append(out.Headers, &isthmusv1.HeaderMatch{
			Name: h.Name, Present: h.Present, Exact: h.Exact, Prefix: h.Prefix, Suffix: h.Suffix, Regex: h.Regex, Invert: h.Invert,
		})
	}
	for _, q := range m.QueryParam {
		out.QueryParams = append(out.QueryParams, &isthmusv1.QueryParamMatch{Name: q.Name, Present: q.Present, Exact: q.Exact, Regex: q.Regex})
	}
	return out
}

func routeDestination(d *api.ServiceRouteDestination) *isthmusv1.ServiceRouteDestination {
	return &isthmusv1.ServiceRouteDestination{
		Service: d.Service, ServiceSubset: d.ServiceSubset, Namespace: plainName(d.Namespace), Partition: plainName(d.Partition),
		PrefixRewrite: d.PrefixRewrite, RequestTimeout: duration(d.RequestTimeout), IdleTimeout: duration(d.IdleTimeout),
		NumRetries: d.NumRetries, RetryOnConnectFailure: d.RetryOnConnectFailure, RetryOn: d.RetryOn,
		RetryOnStatusCodes: d.RetryOnStatusCodes, RequestHeaders: headerModifiers(d.RequestHeaders), ResponseHeaders: headerModifiers(d.ResponseHeaders),
	}
}

func serviceIntentions(e *api.ServiceIntentionsConfigEntry) *isthmusv1.ServiceIntentions {
	out := &isthmusv1.ServiceIntentions{JwtJson: jwt(e.JWT)}
	for _, s := range e.Sources {
		out.Sources = append(out.Sources, sourceIntention(s))
	}
	// Consul orders them by precedence, and equal ones by the time of writing.
	slices.SortStableFunc(out.Sources, func(a, b *isthmusv1.SourceIntention) int {
		return strings.Compare(intentionOrder(a), intentionOrder(b))
	})
	return out
}

func intentionOrder(s *isthmusv1.SourceIntention) string {
	return strings.Join([]string{s.GetPartition(), s.GetNamespace(), s.GetPeer(), s.GetSamenessGroup(), s.GetName()}, "\x00")
}

func sourceIntention(s *api.SourceIntention) *isthmusv1.SourceIntention {
	out := &isthmusv1.SourceIntention{
		Name: s.Name, Namespace: plainName(s.Namespace), Partition: plainName(s.Partition), Peer: s.Peer,
		SamenessGroup: s.SamenessGroup, Action: string(s.Action), Description: s.Description,
	}
	for _, p := range s.Permissions {
		permission := &isthmusv1.IntentionPermission{Action: string(p.Action), JwtJson: jwt(p.JWT)}
		if h := p.HTTP; h != nil {
			permission.PathExact, permission.PathPrefix, permission.PathRegex = h.PathExact, h.PathPrefix, h.PathRegex
			permission.Methods = upper(h.Methods)
			for _, m := range h.Header {
				permission.Headers = append(permission.Headers, &isthmusv1.HeaderMatch{
					Name: m.Name, Present: m.Present, Exact: m.Exact, Prefix: m.Prefix, Suffix: m.Suffix, Contains: m.Contains,
					Regex: m.Regex, Invert: m.Invert, IgnoreCase: m.IgnoreCase,
				})
			}
		}
		out.Permissions = append(out.Permissions, permission)
	}
	return out
}

func jwt(j *api.IntentionJWTRequirement) []byte {
	if j == nil {
		return nil
	}
	return respelledJSON(j)
}

func upper(methods []string) []string {
	var out []string
	for _, m := range methods {
		out = append(out, strings.ToUpper(m))
	}
	return out
}

package resource

import (
	"regexp"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func anyRequest() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

// routeMatch is what a route of a router takes. It is not ok where a part of it is one
// that an Envoy refuses: with the other parts alone it would take what it was not meant
// to.
func routeMatch(m *isthmusv1.ServiceRouteMatch) (*routev3.RouteMatch, bool) {
	out, ok := anyRequest(), true
	switch {
	case m.GetPathExact() != "":
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.GetPathExact()}
	case m.GetPathPrefix() != "":
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: m.GetPathPrefix()}
	case m.GetPathRegex() != "":
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex(m.GetPathRegex())}
		ok = isthmusv1.CheckRegex(m.GetPathRegex()) == nil
	}
	if m.GetCaseInsensitive() {
		out.CaseSensitive = wrapperspb.Bool(false)
	}
	for _, h := range m.GetHeaders() {
		header, is := headerMatch(h)
		out.Headers, ok = append(out.Headers, header), ok && is
	}
	if len(m.GetMethods()) > 0 {
		method, is := methodMatch(m.GetMethods())
		out.Headers, ok = append(out.Headers, method), ok && is
	}
	for _, q := range m.GetQueryParams() {
		parameter, is := queryMatch(q)
		out.QueryParameters, ok = append(out.QueryParameters, parameter), ok && is
	}
	return out, ok
}

// longestParameter is the longest name of a query parameter that an Envoy matches.
const longestParameter = 1024

func queryMatch(q *isthmusv1.QueryParamMatch) (*routev3.QueryParameterMatcher, bool) {
	out := &routev3.QueryParameterMatcher{Name: q.GetName()}
	ok := q.GetName() != "" && len(q.GetName()) <= longestParameter
	text := func(by textMatch, text string) {
		out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_StringMatch{StringMatch: stringMatch(by, text, false)}
	}
	switch {
	case q.GetExact() != "":
		text(textExact, q.GetExact())
	case q.GetRegex() != "":
		text(textRegex, q.GetRegex())
		ok = ok && isthmusv1.CheckRegex(q.GetRegex()) == nil
	case q.GetPresent():
		out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: true}
	default:
		ok = false
	}
	return out, ok
}

// quoted is a text as an expression that matches it alone.
func quoted(text string) string { return regexp.QuoteMeta(text) }

func substitution(pattern, by string) *matcher.RegexMatchAndSubstitute {
	return &matcher.RegexMatchAndSubstitute{Pattern: regex(pattern), Substitution: by}
}

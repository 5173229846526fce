package resource

import (
	"regexp"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
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

// modifiers are headers to add, of which those that are set take the place of others,
// and to remove.
func modifiers(m *isthmusv1.HeaderModifiers) (add []*core.HeaderValueOption, remove []string) {
	for _, p := range m.GetAdd() {
		if modifiable(p.GetName()) && headerValue(p.GetValue()) {
			add = append(add, &core.HeaderValueOption{Header: &core.HeaderValue{Key: p.GetName(), Value: p.GetValue()}})
		}
	}
	for _, p := range m.GetSet() {
		if modifiable(p.GetName()) && headerValue(p.GetValue()) {
			add = append(add, &core.HeaderValueOption{
				Header:       &core.HeaderValue{Key: p.GetName(), Value: p.GetValue()},
				AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			})
		}
	}
	for _, name := range m.GetRemove() {
		if modifiable(name) {
			remove = append(remove, name)
		}
	}
	return add, remove
}

// longestHeader is the longest name or value of a header that an Envoy writes.
const longestHeader = 16384

// modifiable reports whether an Envoy lets a header be modified: of what it routes by it
// refuses that.
func modifiable(name string) bool {
	return headerName(name) && len(name) <= longestHeader && name[0] != ':' && !strings.EqualFold(name, "host")
}

// headerValue reports whether an Envoy takes the value of a header, where percent signs
// stand around commands, as in %DOWNSTREAM_REMOTE_ADDRESS%.
func headerValue(value string) bool {
	return len(value) <= longestHeader && !strings.ContainsAny(value, "\x00\r\n") && formatted.MatchString(value)
}

var formatted = regexp.MustCompile(`^(?:[^%]|%%|%[A-Z][A-Z0-9_]*(?:\([^%()]*\))?(?::[0-9]+)?%)*$`)

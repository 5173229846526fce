package resource

import (
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// How a text is matched.
type textMatch int

const (
	textExact textMatch = iota
	textPrefix
	textSuffix
	textContains
	textRegex
)

func stringMatch(by textMatch, text string, ignoreCase bool) *matcher.StringMatcher {
	m := &matcher.StringMatcher{IgnoreCase: ignoreCase}
	switch by {
	case textExact:
		m.MatchPattern = &matcher.StringMatcher_Exact{Exact: text}
	case textPrefix:
		m.MatchPattern = &matcher.StringMatcher_Prefix{Prefix: text}
	case textSuffix:
		m.MatchPattern = &matcher.StringMatcher_Suffix{Suffix: text}
	case textContains:
		m.MatchPattern = &matcher.StringMatcher_Contains{Contains: text}
	case textRegex:
		// The case is the expression's own matter: Envoy refuses both together.
		m.IgnoreCase, m.MatchPattern = false, &matcher.StringMatcher_SafeRegex{SafeRegex: regex(text)}
	}
	return m
}

// headerMatch is a header as Envoy matches it, if it is one. A header that a request
// does not have is matched by the inversion of present alone.
func headerMatch(h *isthmusv1.HeaderMatch) (*routev3.HeaderMatcher, bool) {
	m := &routev3.HeaderMatcher{Name: h.GetName(), InvertMatch: h.GetInvert()}
	text := func(by textMatch, text string) {
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: stringMatch(by, text, h.GetIgnoreCase())}
	}
	ok := headerName(h.GetName())
	switch {
	case h.GetExact() != "":
		text(textExact, h.GetExact())
	case h.GetRegex() != "":
		text(textRegex, h.GetRegex())
		ok = ok && isthmusv1.CheckRegex(h.GetRegex()) == nil
	case h.GetPrefix() != "":
		text(textPrefix, h.GetPrefix())
	case h.GetSuffix() != "":
		text(textSuffix, h.GetSuffix())
	case h.GetContains() != "":
		text(textContains, h.GetContains())
	case h.GetPresent():
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
	default:
		ok = false
	}
	return m, ok
}

// headerName reports whether an Envoy takes a name of a header.
func headerName(name string) bool { return name != "" && plainText(name) }

// methodMatch is any of the methods (Consul: one expression for all).
func methodMatch(methods []string) (*routev3.HeaderMatcher, bool) {
	quoted, ok := make([]string, len(methods)), true
	for i, m := range methods {
		quoted[i] = regexp.QuoteMeta(strings.ToUpper(m))
		ok = ok && m != ""
	}
	return &routev3.HeaderMatcher{
		Name: ":method",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
			StringMatch: stringMatch(textRegex, strings.Join(quoted, "|"), false),
		},
	}, ok
}

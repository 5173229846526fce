package resource_test

import (
	"regexp"
	"slices"
	"strings"

	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// request is one that a service is asked, by whom.
type request struct {
	// id is the caller's SPIFFE ID.
	id           string
	method, path string
	headers      map[string]string
}

// rules are what a filter holds.
func rules(config *anypb.Any) *rbac.RBAC {
	message, err := config.UnmarshalNew()
	if err != nil {
		panic(err)
	}
	if m, ok := message.(*networkrbac.RBAC); ok {
		return m.GetRules()
	}
	return message.(*httprbac.RBAC).GetRules()
}

// envoyAllows decides as an Envoy does by such rules: if any policy matches, the action
// is done, and else the other one.
func envoyAllows(rules *rbac.RBAC, r request) bool {
	matched := false
	for _, p := range rules.GetPolicies() {
		matched = matched || slices.ContainsFunc(p.GetPrincipals(), r.isOf) && slices.ContainsFunc(p.GetPermissions(), r.asks)
	}
	return matched == (rules.GetAction() == rbac.RBAC_ALLOW)
}

func (r request) isOf(p *rbac.Principal) bool {
	switch by := p.GetIdentifier().(type) {
	case *rbac.Principal_AndIds:
		return !slices.ContainsFunc(by.AndIds.GetIds(), func(p *rbac.Principal) bool { return !r.isOf(p) })
	case *rbac.Principal_NotId:
		return !r.isOf(by.NotId)
	case *rbac.Principal_Authenticated_:
		return textMatches(by.Authenticated.GetPrincipalName(), r.id)
	}
	panic("a principal that nobody makes")
}

func (r request) asks(p *rbac.Permission) bool {
	switch by := p.GetRule().(type) {
	case *rbac.Permission_Any:
		return by.Any
	case *rbac.Permission_AndRules:
		return !slices.ContainsFunc(by.AndRules.GetRules(), func(p *rbac.Permission) bool { return !r.asks(p) })
	case *rbac.Permission_NotRule:
		return !r.asks(by.NotRule)
	case *rbac.Permission_UrlPath:
		path, _, _ := strings.Cut(r.path, "?")
		return textMatches(by.UrlPath.GetPath(), path)
	case *rbac.Permission_Header:
		return r.headerMatches(by.Header)
	}
	panic("a permission that nobody makes")
}

// headerMatches: a header that is not there is matched by nothing but its absence.
func (r request) headerMatches(m *routev3.HeaderMatcher) bool {
	value, there := r.headers[m.GetName()]
	if m.GetName() == ":method" {
		value, there = r.method, true
	}
	if m.GetPresentMatch() {
		return there != m.GetInvertMatch()
	}
	return there && textMatches(m.GetStringMatch(), value) != m.GetInvertMatch()
}

func textMatches(m *matcher.StringMatcher, text string) bool {
	fold := func(s string) string {
		if m.GetIgnoreCase() {
			return strings.ToLower(s)
		}
		return s
	}
	switch by := m.GetMatchPattern().(type) {
	case *matcher.StringMatcher_Exact:
		return fold(text) == fold(by.Exact)
	case *matcher.StringMatcher_Prefix:
		return strings.HasPrefix(fold(text), fold(by.Prefix))
	case *matcher.StringMatcher_Suffix:
		return strings.HasSuffix(fold(text), fold(by.Suffix))
	case *matcher.StringMatcher_Contains:
		return strings.Contains(fold(text), fold(by.Contains))
	case *matcher.StringMatcher_SafeRegex:
		return regexp.MustCompile("^(?:" + by.SafeRegex.GetRegex() + ")$").MatchString(text)
	}
	panic("a match that nobody makes")
}

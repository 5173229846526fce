package resource

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// networkIntentions is who may connect to a service that is not HTTP (Consul
// agent/xds/rbac.go). Without intentions, which is not the same as with none, nobody
// may.
func networkIntentions(in *isthmusv1.Inbound) *listenerv3.Filter {
	return filter("envoy.filters.network.rbac", &networkrbac.RBAC{StatPrefix: "connect_authz", Rules: rulesOf(in, false)})
}

// httpIntentions is who may ask what of a service that is HTTP.
func httpIntentions(in *isthmusv1.Inbound) *hcm.HttpFilter {
	return httpFilter("envoy.filters.http.rbac", &httprbac.RBAC{Rules: rulesOf(in, true)})
}

func httpFilter(name string, config proto.Message) *hcm.HttpFilter {
	return &hcm.HttpFilter{Name: name, ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: packed(config)}}
}

// rulesOf are intentions as Envoy takes them: policies that all say the opposite of the
// default action, and know no order. So what says the same as the default action is
// left out, and each that is left excepts what goes before it.
func rulesOf(in *isthmusv1.Inbound, byRequest bool) *rbac.RBAC {
	out := &rbac.RBAC{Action: rbac.RBAC_ALLOW}
	if in.GetTrustDomain() == "" {
		return out // Nobody is known, and no policy is for nobody.
	}
	allow := in.GetDefaultAction() == isthmusv1.ActionAllow
	if allow {
		out.Action = rbac.RBAC_DENY
	}
	intentions := deciding(in)
	layer4 := &rbac.Policy{Permissions: []*rbac.Permission{anyPermission()}}
	kept := 0
	for i, intention := range intentions {
		permissions, allowed := intention.GetPermissions(), allows(intention)
		if byRequest && len(intention.GetJwtJson()) > 0 || in.AsksForTokens(intention) {
			permissions, allowed = nil, false // There is nobody to check a token.
		}
		principal := principalOf(in.GetTrustDomain(), intentions[:i], intention)
		switch {
		case len(permissions) > 0 && byRequest:
			flat := flattened(permissions, allow)
			if len(flat) == 0 {
				continue
			}
			setPolicy(out, fmt.Sprintf("consul-intentions-layer7-%d", kept), &rbac.Policy{
				Principals: []*rbac.Principal{principal}, Permissions: flat,
			})
		case allowed == allow:
			continue
		default:
			layer4.Principals = append(layer4.Principals, principal)
			setPolicy(out, "consul-intentions-layer4", layer4)
		}
		kept++
	}
	return out
}

func setPolicy(rules *rbac.RBAC, name string, policy *rbac.Policy) {
	if rules.Policies == nil {
		rules.Policies = map[string]*rbac.Policy{}
	}
	rules.Policies[name] = policy
}

// allows reports whether an intention lets its source in whatever it asks for. One with
// permissions does not, where nobody can tell what is asked for.
func allows(i *isthmusv1.InboundIntention) bool {
	return len(i.GetPermissions()) == 0 && i.GetAction() == isthmusv1.ActionAllow
}

// deciding are the intentions that decide about a source: not those about peers, which
// nobody of the trust domain is, and not one of whose source all is decided before it.
// (Consul's Envoys let an exact source with any destination go before any source with
// this destination, against the precedence that Consul itself tells: differences.md, "An
// exact source and any destination".)
func deciding(in *isthmusv1.Inbound) []*isthmusv1.InboundIntention {
	var out []*isthmusv1.InboundIntention
	var wide []*isthmusv1.ServiceRef
	decided := map[string]bool{}
	for _, i := range in.GetIntentions() {
		s := i.GetSource()
		if i.GetPeer() != "" || decided[s.Qualified()] || slices.ContainsFunc(wide, func(w *isthmusv1.ServiceRef) bool { return covers(w, s) }) {
			continue
		}
		out = append(out, i)
		decided[s.Qualified()] = true
		if isWide(s) {
			wide = append(wide, s)
		}
	}
	return out
}

// isWide reports whether a name stands for several.
func isWide(s *isthmusv1.ServiceRef) bool {
	return s.GetName() == isthmusv1.Wildcard || namespaceOf(s) == isthmusv1.Wildcard
}

// covers reports whether all that one name stands for, another does too; and meets
// whether there is something that both stand for.
func covers(a, b *isthmusv1.ServiceRef) bool {
	open := func(a, b string) bool { return a == isthmusv1.Wildcard || strings.EqualFold(a, b) }
	return samePartition(a, b) && open(namespaceOf(a), namespaceOf(b)) && open(a.GetName(), b.GetName())
}

func meets(a, b *isthmusv1.ServiceRef) bool {
	open := func(a, b string) bool {
		return a == isthmusv1.Wildcard || b == isthmusv1.Wildcard || strings.EqualFold(a, b)
	}
	return samePartition(a, b) && open(namespaceOf(a), namespaceOf(b)) && open(a.GetName(), b.GetName())
}

func samePartition(a, b *isthmusv1.ServiceRef) bool {
	return strings.EqualFold(cmp.Or(a.GetPartition(), isthmusv1.DefaultName), cmp.Or(b.GetPartition(), isthmusv1.DefaultName))
}

func namespaceOf(s *isthmusv1.ServiceRef) string {
	return cmp.Or(s.GetNamespace(), isthmusv1.DefaultName)
}

// principalOf is the sources of an intention without those of the ones before it. Of
// these one that another covers need not be named.
func principalOf(trustDomain string, before []*isthmusv1.InboundIntention, i *isthmusv1.InboundIntention) *rbac.Principal {
	var except, wide []*isthmusv1.ServiceRef
	if !isWide(i.GetSource()) {
		before = nil // One that is about it would have decided.
	}
	for _, b := range slices.Backward(before) {
		s := b.GetSource()
		if !meets(s, i.GetSource()) || slices.ContainsFunc(wide, func(w *isthmusv1.ServiceRef) bool { return covers(w, s) }) {
			continue
		}
		except = append(except, s)
		if isWide(s) {
			wide = append(wide, s)
		}
	}
	all := []*rbac.Principal{identity(trustDomain, i.GetSource())}
	for _, s := range except {
		all = append(all, &rbac.Principal{Identifier: &rbac.Principal_NotId{NotId: identity(trustDomain, s)}})
	}
	if len(all) == 1 {
		return all[0]
	}
	return &rbac.Principal{Identifier: &rbac.Principal_AndIds{AndIds: &rbac.Principal_Set{Ids: all}}}
}

// anySegment is one segment of a SPIFFE ID, whatever it is.
const anySegment = "[^/]+"

// identity is whoever shows the SPIFFE ID of a service, of any datacenter. Names match
// without case, as they do in look-ups.
func identity(trustDomain string, s *isthmusv1.ServiceRef) *rbac.Principal {
	pattern := "(?i)^" + quoted("spiffe://"+trustDomain)
	if !samePartition(s, nil) {
		pattern += "/ap/" + segment(s.GetPartition(), false)
	}
	pattern += "/ns/" + segment(namespaceOf(s), true) + "/dc/" + anySegment + "/svc/" + segment(s.GetName(), true) + "$"
	return &rbac.Principal{Identifier: &rbac.Principal_Authenticated_{Authenticated: &rbac.Principal_Authenticated{
		PrincipalName: &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_SafeRegex{SafeRegex: regex(pattern)}},
	}}}
}

// segment is a name as it stands in a SPIFFE ID.
func segment(name string, open bool) string {
	if open && name == isthmusv1.Wildcard {
		return anySegment
	}
	return quoted(strings.TrimPrefix((&url.URL{Path: "/" + name}).EscapedPath(), "/"))
}

func regex(pattern string) *matcher.RegexMatcher { return &matcher.RegexMatcher{Regex: pattern} }

package resource

import (
	"slices"

	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// flattened are permissions that say the opposite of the default action, each excepting
// those before it, so that their order counts no more.
func flattened(permissions []*isthmusv1.IntentionPermission, allowByDefault bool) []*rbac.Permission {
	var out, before []*rbac.Permission
	for _, p := range permissions {
		match, allow, ok := permissionOf(p)
		if !ok {
			continue
		}
		if allow != allowByDefault {
			all := []*rbac.Permission{match}
			for _, b := range slices.Backward(before) {
				all = append(all, &rbac.Permission{Rule: &rbac.Permission_NotRule{NotRule: b}})
			}
			out = append(out, allPermissions(all))
		}
		before = append(before, match)
	}
	return out
}

// permissionOf is the requests that a permission is about, and whether it allows them.
// One that asks for a token, which nothing here can check, denies them. Where a part of
// it cannot be understood, it allows nothing, or denies whatever the other parts match:
// then it is not ok, or says less.
func permissionOf(p *isthmusv1.IntentionPermission) (match *rbac.Permission, allow, ok bool) {
	allow = p.GetAction() == isthmusv1.ActionAllow && len(p.GetJwtJson()) == 0
	parts, whole := conditions(p)
	if !whole && allow {
		return nil, false, false
	}
	return allPermissions(parts), allow, true
}

// conditions are the parts of a permission, and whether these are all of them.
func conditions(p *isthmusv1.IntentionPermission) (parts []*rbac.Permission, whole bool) {
	whole = true
	add := func(part *rbac.Permission, ok bool) {
		whole = whole && ok
		if ok {
			parts = append(parts, part)
		}
	}
	switch {
	case p.GetPathExact() != "":
		add(urlPath(stringMatch(textExact, p.GetPathExact(), false)), true)
	case p.GetPathPrefix() != "":
		add(urlPath(stringMatch(textPrefix, p.GetPathPrefix(), false)), true)
	case p.GetPathRegex() != "":
		add(urlPath(stringMatch(textRegex, p.GetPathRegex(), false)), isthmusv1.CheckRegex(p.GetPathRegex()) == nil)
	}
	for _, h := range p.GetHeaders() {
		m, ok := headerMatch(h)
		add(header(m), ok)
	}
	if len(p.GetMethods()) > 0 {
		m, ok := methodMatch(p.GetMethods())
		add(header(m), ok)
	}
	return parts, whole
}

func urlPath(m *matcher.StringMatcher) *rbac.Permission {
	return &rbac.Permission{Rule: &rbac.Permission_UrlPath{UrlPath: &matcher.PathMatcher{Rule: &matcher.PathMatcher_Path{Path: m}}}}
}

func header(m *routev3.HeaderMatcher) *rbac.Permission {
	return &rbac.Permission{Rule: &rbac.Permission_Header{Header: m}}
}

func anyPermission() *rbac.Permission {
	return &rbac.Permission{Rule: &rbac.Permission_Any{Any: true}}
}

func allPermissions(all []*rbac.Permission) *rbac.Permission {
	switch len(all) {
	case 0:
		return anyPermission()
	case 1:
		return all[0]
	}
	return &rbac.Permission{Rule: &rbac.Permission_AndRules{AndRules: &rbac.Permission_Set{Rules: all}}}
}

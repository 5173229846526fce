package resource_test

import (
	"regexp"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// reading decides by intentions as they are written, without Envoy's policies: the first
// that is about the source decides, by the first of its permissions that is about the
// request; and where there is none, the default action. What cannot be understood, or
// checked, lets nobody in.
func reading(in *isthmusv1.Inbound, source *isthmusv1.ServiceRef, r request, http bool) bool {
	if in.GetTrustDomain() == "" {
		return false
	}
	byDefault := in.GetDefaultAction() == "allow"
	for _, i := range in.GetIntentions() {
		if i.GetPeer() != "" || !about(i.GetSource(), source) {
			continue
		}
		if len(i.GetJwtJson()) > 0 && (http || in.GetProtocol() == "http") {
			return false
		}
		if len(i.GetPermissions()) == 0 {
			return i.GetAction() == "allow"
		}
		if !http {
			return false
		}
		for _, p := range i.GetPermissions() {
			allow := p.GetAction() == "allow" && len(p.GetJwtJson()) == 0
			if permits(p, r, !allow) {
				return allow
			}
		}
		return byDefault
	}
	return byDefault
}

func about(written, source *isthmusv1.ServiceRef) bool {
	same := func(a, b string, open bool) bool {
		plain := func(s string) string {
			if s == "" {
				return "default"
			}
			return strings.ToLower(s)
		}
		return open && a == "*" || plain(a) == plain(b)
	}
	return same(written.GetPartition(), source.GetPartition(), false) &&
		same(written.GetNamespace(), source.GetNamespace(), true) && same(written.GetName(), source.GetName(), true)
}

// permits reports whether all that a permission says is so. doubt is what is thought of
// what cannot be understood.
func permits(p *isthmusv1.IntentionPermission, r request, doubt bool) bool {
	path, _, _ := strings.Cut(r.path, "?")
	switch {
	case p.GetPathExact() != "" && path != p.GetPathExact(),
		p.GetPathPrefix() != "" && !strings.HasPrefix(path, p.GetPathPrefix()),
		p.GetPathRegex() != "" && !whole(p.GetPathRegex(), path, doubt),
		len(p.GetMethods()) > 0 && !slices.Contains(p.GetMethods(), r.method):
		return false
	}
	for _, h := range p.GetHeaders() {
		if !carries(h, r, doubt) {
			return false
		}
	}
	return true
}

func whole(expression, text string, doubt bool) bool {
	re, err := regexp.Compile("^(?:" + expression + ")$")
	if err != nil {
		return doubt
	}
	return re.MatchString(text)
}

func carries(h *isthmusv1.HeaderMatch, r request, doubt bool) bool {
	value, there := r.headers[h.GetName()]
	if h.GetPresent() {
		return there != h.GetInvert()
	}
	if h.GetRegex() != "" {
		if _, err := regexp.Compile(h.GetRegex()); err != nil {
			return doubt
		}
		return there && whole(h.GetRegex(), value, doubt) != h.GetInvert()
	}
	fold := func(s string) string {
		if h.GetIgnoreCase() {
			return strings.ToUpper(s)
		}
		return s
	}
	value = fold(value)
	var is bool
	switch {
	case h.GetExact() != "":
		is = value == fold(h.GetExact())
	case h.GetPrefix() != "":
		is = strings.HasPrefix(value, fold(h.GetPrefix()))
	case h.GetSuffix() != "":
		is = strings.HasSuffix(value, fold(h.GetSuffix()))
	case h.GetContains() != "":
		is = strings.Contains(value, fold(h.GetContains()))
	default:
		return doubt
	}
	return there && is != h.GetInvert()
}

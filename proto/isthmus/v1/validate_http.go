package isthmusv1

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// httpMethods are those that routes and permissions may name.
var httpMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
	http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace,
}

// retryConditions are those that a route may retry on.
var retryConditions = []string{
	"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited",
	"retriable-4xx", "refused-stream", "cancelled", "deadline-exceeded", "internal",
	"resource-exhausted", "unavailable",
}

func (v *Violations) router(r *ServiceRouter) {
	for i, route := range r.GetRoutes() {
		place, match, to := item("routes", i), route.GetMatch(), route.GetDestination()
		if match != nil {
			v.match(at(place, "match.http"), match)
		}
		if to == nil {
			continue
		}
		place = at(place, "destination")
		if to.GetService() != "" {
			v.exactName(at(place, "service"), to.GetService())
		}
		if to.GetPrefixRewrite() != "" && match.GetPathExact() == "" && match.GetPathPrefix() == "" {
			v.add(at(place, "prefix_rewrite"), "prefix_rewrite needs a path to rewrite", "match by path_exact or path_prefix")
		}
		v.notNegative(at(place, "request_timeout"), to.GetRequestTimeout())
		v.notNegative(at(place, "idle_timeout"), to.GetIdleTimeout())
		for j, condition := range to.GetRetryOn() {
			v.oneOf(item(at(place, "retry_on"), j), "retry condition", condition, retryConditions...)
		}
		for j, code := range to.GetRetryOnStatusCodes() {
			if code < 100 || code > 599 {
				v.add(item(at(place, "retry_on_status_codes"), j), fmt.Sprintf("%d is not an HTTP status", code), "use a status from 100 to 599")
			}
		}
	}
}

func (v *Violations) match(path string, m *ServiceRouteMatch) {
	v.paths(path, m.GetPathExact(), m.GetPathPrefix(), m.GetPathRegex())
	v.headers(path, m.GetHeaders())
	v.methods(path, m.GetMethods())
	for i, q := range m.GetQueryParams() {
		place := item(at(path, "query_param"), i)
		if q.GetName() == "" {
			v.add(at(place, "name"), "the query parameter has no name", "give name")
		}
		if count(q.GetPresent(), q.GetExact() != "", q.GetRegex() != "") != 1 {
			v.add(place, "a query parameter is matched in one way", "give exactly one of present, exact and regex")
		}
		v.regex(at(place, "regex"), q.GetRegex())
	}
}

func count(conditions ...bool) int {
	n := 0
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

func (v *Violations) paths(path, exact, prefix, regex string) {
	if count(exact != "", prefix != "", regex != "") > 1 {
		v.add(path, "a path is matched in one way", "give at most one of path_exact, path_prefix and path_regex")
	}
	for _, p := range []struct{ key, text string }{{"path_exact", exact}, {"path_prefix", prefix}} {
		if p.text != "" && !strings.HasPrefix(p.text, "/") {
			v.add(at(path, p.key), fmt.Sprintf("path %q does not begin with /", p.text), "begin the path with /")
		}
	}
	v.regex(at(path, "path_regex"), regex)
}

// regex checks an expression as Envoy and Go read it (RE2).
func (v *Violations) regex(path, expression string) {
	if expression == "" {
		return
	}
	if err := CheckRegex(expression); err != nil {
		v.add(path, fmt.Sprintf("%q is not a regular expression: %s", expression, strings.TrimPrefix(err.Error(), "error parsing regexp: ")),
			"write it in the syntax of RE2")
	}
}

func (v *Violations) headers(path string, headers []*HeaderMatch) {
	for i, h := range headers {
		place := item(at(path, "header"), i)
		if h.GetName() == "" {
			v.add(at(place, "name"), "the header has no name", "give name")
		}
		if count(h.GetPresent(), h.GetExact() != "", h.GetPrefix() != "", h.GetSuffix() != "", h.GetContains() != "", h.GetRegex() != "") != 1 {
			v.add(place, "a header is matched in one way", "give exactly one of present, exact, prefix, suffix, contains and regex")
		}
		if h.GetIgnoreCase() && (h.GetPresent() || h.GetRegex() != "") {
			v.add(at(place, "ignore_case"), "ignore_case has no meaning for present and regex", "leave out ignore_case")
		}
		v.regex(at(place, "regex"), h.GetRegex())
	}
}

func (v *Violations) methods(path string, methods []string) {
	for i, m := range methods {
		place := item(at(path, "methods"), i)
		if m == "" {
			v.add(place, "a method must not be empty", "use one of "+quoted(httpMethods))
		}
		v.oneOf(place, "HTTP method", strings.ToUpper(m), httpMethods...)
		if slices.Index(methods, m) < i {
			v.add(place, fmt.Sprintf("method %s stands twice", m), "write each method once")
		}
	}
}

func (v *Violations) intentions(e *ConfigEntry, s *ServiceIntentions) {
	v.name("name", e.GetName())
	v.wholeWildcard("name", e.GetName(), e.GetNamespace())
	if len(s.GetSources()) == 0 {
		v.add("sources", "intentions need at least one source", "give sources")
	}
	seen := map[string]int{}
	for i, source := range s.GetSources() {
		place := item("sources", i)
		v.source(place, e, source)
		key := Qualified(source.GetPartition(), source.GetNamespace(), source.GetName()) + "\x00" + source.GetPeer() + "\x00" + source.GetSamenessGroup()
		if first, twice := seen[key]; twice && source.GetName() != "" {
			v.add(at(place, "name"), fmt.Sprintf("sources[%d] is already %s", first, source.GetName()), "keep one source per service")
		} else {
			seen[key] = i
		}
	}
}

// wholeWildcard refuses a wildcard that is a part of a name, and an exact name
// in every namespace.
func (v *Violations) wholeWildcard(path, name, namespace string) {
	if name != Wildcard && strings.Contains(name, Wildcard) {
		v.add(path, fmt.Sprintf("%q: a wildcard stands for the whole name", name), `write "*" alone`)
	}
	if name != Wildcard && namespace == Wildcard {
		v.add(path, "an exact name cannot stand in every namespace", "name one namespace")
	}
}

func (v *Violations) source(path string, e *ConfigEntry, s *SourceIntention) {
	v.name(at(path, "name"), s.GetName())
	v.wholeWildcard(at(path, "name"), s.GetName(), s.GetNamespace())
	if count(s.GetPeer() != "", s.GetPartition() != "", s.GetSamenessGroup() != "") > 1 {
		v.add(at(path, "peer"), "a source is in one partition, peer or sameness group", "give at most one of them")
	}
	if len(s.GetDescription()) > maxMetaValue {
		v.add(at(path, "description"), fmt.Sprintf("the description is longer than %d bytes", maxMetaValue), "shorten it")
	}
	if len(s.GetPermissions()) == 0 {
		v.action(at(path, "action"), s.GetAction())
		return
	}
	if s.GetAction() != "" {
		v.add(at(path, "action"), "action cannot stand beside permissions", "leave out action: each permission has its own")
	}
	if e.GetName() == Wildcard {
		v.add(at(path, "permissions"), "permissions need one destination, not a wildcard", "name the service of the entry")
	}
	for i, p := range s.GetPermissions() {
		place := item(at(path, "permissions"), i)
		v.action(at(place, "action"), p.GetAction())
		http := at(place, "http")
		v.paths(http, p.GetPathExact(), p.GetPathPrefix(), p.GetPathRegex())
		v.headers(http, p.GetHeaders())
		v.methods(http, p.GetMethods())
		if p.GetPathExact()+p.GetPathPrefix()+p.GetPathRegex() == "" && len(p.GetHeaders()) == 0 && len(p.GetMethods()) == 0 {
			v.add(http, "a permission must match something", "give a path, header or methods")
		}
	}
}

func (v *Violations) action(path, action string) {
	if action == "" {
		v.add(path, "the action is missing", `write "allow" or "deny"`)
	}
	v.oneOf(path, "action", action, "allow", "deny")
}

package compare

import (
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Facts are what routes say of a proxy's targets, by their server names in lower case:
// some differences are intended for the reason that is stated there, which resources do
// not show.
type Facts map[string][]*isthmusv1.Target

// FactsOf are those of a route set; nil has none.
func FactsOf(set *isthmusv1.RouteSet) Facts {
	out := Facts{}
	for _, route := range set.GetRoutes() {
		for _, t := range route.GetTargets() {
			name := strings.ToLower(t.GetSni())
			out[name] = append(out[name], t)
		}
	}
	return out
}

// behind reports whether a target is reached by gateways.
func (f Facts) behind(sni string) bool {
	return slices.ContainsFunc(f[sni], func(t *isthmusv1.Target) bool {
		return t.GetPath() == isthmusv1.Path_PATH_LOCAL_GATEWAY || t.GetPath() == isthmusv1.Path_PATH_REMOTE_GATEWAY
	})
}

// states reports whether a problem is stated of a target.
func (f Facts) states(sni, code string) bool {
	return slices.ContainsFunc(f[sni], func(t *isthmusv1.Target) bool {
		return slices.ContainsFunc(t.GetProblems(), func(p *isthmusv1.Problem) bool { return p.GetCode() == code })
	})
}

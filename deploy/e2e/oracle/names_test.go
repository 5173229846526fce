package oracle_test

import (
	"cmp"
	"slices"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// names are the server names that a mesh gateway leads on, those of other
// datacenters with a star.
type names map[string]lead

// lead is what a name leads to.
type lead struct {
	Timeout   time.Duration
	Endpoints []string
	// Problems that we state.
	Problems []string
}

// usual is the timeout of a gateway that nobody has told another one: routes have
// a service-resolver's only.
const usual = 5 * time.Second

// ourNames are those of the gateways of dc1. Called within look.
func (s *state) ourNames() names {
	out := names{}
	for _, value := range s.values {
		switch route := value.(type) {
		case *isthmusv1.NameRoute:
			out[route.GetSni()] = lead{Timeout: cmp.Or(route.GetConnectTimeout().AsDuration(), usual), Endpoints: s.addresses(route.GetEndpoints())}
		case *isthmusv1.WildcardRoute:
			l := lead{Timeout: usual, Endpoints: s.addresses(route.GetEndpoints())}
			for _, p := range route.GetProblems() {
				l.Problems = append(l.Problems, p.GetCode())
			}
			out["*"+route.GetSuffix()] = l
		}
	}
	return out
}

func (s *state) addresses(ref *isthmusv1.EndpointSetRef) []string {
	var out []string
	for _, e := range s.set(ref).GetEndpoints() {
		out = append(out, ours(e))
	}
	slices.Sort(out)
	return out
}

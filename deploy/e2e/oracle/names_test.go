package oracle_test

import (
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
}

// ourNames are those of the gateways of dc1. Called within look.
func (s *state) ourNames() names {
	out := names{}
	for _, value := range s.values {
		switch route := value.(type) {
		case *isthmusv1.NameRoute:
			out[route.GetSni()] = lead{Timeout: route.GetConnectTimeout().AsDuration(), Endpoints: s.addresses(route.GetEndpoints())}
		case *isthmusv1.WildcardRoute:
			out["*"+route.GetSuffix()] = lead{Endpoints: s.addresses(route.GetEndpoints())}
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

package enginetest

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Table is the setup as a table, for engines that use one.
func (s Setup) Table() *table.Table {
	var routes []*table.Route
	for name, addresses := range s.Names {
		routes = append(routes, &table.Route{Name: name, Endpoints: setOf(addresses), Counters: new(table.Counters)})
	}
	for suffix, addresses := range s.Wildcards {
		routes = append(routes, &table.Route{
			Name: "*" + suffix, Wildcard: true, Endpoints: setOf(addresses), Counters: new(table.Counters),
		})
	}
	return new(table.Table).With(routes, nil)
}

func setOf(addresses []netip.AddrPort) *table.Set {
	set := table.NewSet(table.Ejection{})
	set.Replace(Endpoints(addresses...), nil)
	return set
}

// Endpoints is healthy endpoints of equal weight, as the model has them.
func Endpoints(addresses ...netip.AddrPort) []*isthmusv1.Endpoint {
	out := make([]*isthmusv1.Endpoint, len(addresses))
	for i, a := range addresses {
		out[i] = &isthmusv1.Endpoint{
			Address: a.Addr().String(), Port: uint32(a.Port()),
			Health: isthmusv1.Health_HEALTH_HEALTHY, Weight: 1,
		}
	}
	return out
}

package gateway

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tally"
)

const (
	// countedRoutes and namedEjected bound what is said of counters at a time:
	// the busiest routes, and names of ejected endpoints for each.
	countedRoutes = 10_000
	namedEjected  = 20
)

// Routes returns the counters of every route of the present table, sorted by
// name.
func (g *Gateway) Routes() []tally.Route { return g.routesAt(time.Now()) }

func (g *Gateway) routesAt(now time.Time) []tally.Route {
	var out []tally.Route
	for r := range g.feed.Table().All {
		c := r.Counters
		route := tally.Route{
			Name: r.Name, Connections: c.Connections.Load(), Open: c.Open.Load(), Failures: c.Failures.Load(),
			ConnectFailures: r.Endpoints.Failures(), BytesIn: c.BytesIn.Load(), BytesOut: c.BytesOut.Load(),
		}
		route.Live, route.EjectedCount, route.Ejected = r.Endpoints.Liveness(now, namedEjected)
		out = append(out, route)
	}
	slices.SortFunc(out, byName)
	return out
}

// usedRoutes are those of which there is anything to say, sorted by name.
func (g *Gateway) usedRoutes(now time.Time) []tally.Route {
	return slices.DeleteFunc(g.routesAt(now), func(r tally.Route) bool { return !r.Used() })
}

func byName(a, b tally.Route) int { return cmp.Compare(a.Name, b.Name) }

// byUse puts first the route that is used most.
func byUse(a, b tally.Route) int {
	return cmp.Or(cmp.Compare(b.Connections, a.Connections), cmp.Compare(b.Open, a.Open), byName(a, b))
}

// Counters returns what the gateway counted until now: its own counters, and
// those of the routes that were used.
func (g *Gateway) Counters() tally.Gateway {
	now, stats := time.Now(), g.engine.Stats()
	out := tally.Gateway{
		Datacenter: g.cfg.Datacenter, Name: g.cfg.Name, Proxy: g.ownName(),
		Started: g.made, Uptime: now.Sub(g.made),
		State: string(g.State()), Sequence: g.feed.Table().Routes.GetSequence(), SavedTableAge: g.SavedAge(now).Seconds(),
		Accepted: stats.Accepted, Open: stats.Open, HalfOpen: stats.HalfOpen, Refused: make(map[string]uint64),
		ConnectFailures: stats.ConnectFailures, Ejections: stats.Ejections, BytesIn: stats.BytesIn, BytesOut: stats.BytesOut,
		Routes: g.usedRoutes(now),
	}
	for reason, n := range stats.Ended {
		if reason.Refused() {
			out.Refused[string(reason)] = n
		}
	}
	if left := len(out.Routes) - countedRoutes; left > 0 {
		slices.SortFunc(out.Routes, byUse)
		out.Routes, out.RoutesLeftOut = out.Routes[:countedRoutes], left
		slices.SortFunc(out.Routes, byName)
	}
	return out
}

// AdminAt says where the admin server listens, once that is known; reports say
// it from then on in place of what the configuration says.
func (g *Gateway) AdminAt(address string) { g.adminAt.Store(&address) }

// AdminAddress is where reports say that the admin server is; empty: nowhere.
func (g *Gateway) AdminAddress() string {
	if at := g.adminAt.Load(); at != nil {
		return *at
	}
	return g.cfg.AdminAddress
}

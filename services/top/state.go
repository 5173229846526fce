package top

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tally"
)

// State keeps the last readings of each gateway. The zero State has none.
type State struct {
	// ByGateway gives each gateway rows of its own, instead of one row a route.
	ByGateway bool

	gateways map[identity]kept
}

// kept is the newest reading of a gateway, and the one before it.
type kept struct{ before, now *Reading }

// Take takes the readings of all gateways at a moment, and returns the frame. A
// gateway that is not among them is forgotten.
func (s *State) Take(at time.Time, readings []Reading) Frame {
	next := make(map[identity]kept, len(readings))
	frame := Frame{Time: at, Gateways: []Gateway{}, Routes: []Route{}}
	rows := make(map[routeKey]*Route)
	for i := range readings {
		r := &readings[i]
		k := s.gateways[r.identity()]
		if r.same(k.now) {
			// The rates stay, only its age is another.
			k.now = r
		} else {
			k = kept{before: k.now, now: r}
		}
		next[r.identity()] = k
		frame.Gateways = append(frame.Gateways, gatewayRow(k))
		if r.From != FromNowhere {
			frame.RoutesLeftOut += r.RoutesLeftOut
			s.addRoutes(rows, k)
		}
	}
	s.gateways = next
	for _, row := range rows {
		frame.Routes = append(frame.Routes, *row)
	}
	slices.SortFunc(frame.Gateways, func(a, b Gateway) int {
		return cmp.Or(cmp.Compare(a.Datacenter, b.Datacenter), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(frame.Routes, byPlace)
	return frame
}

// span is the time between two readings, or nothing when they do not compare.
func (k kept) span() (seconds float64, ok bool) {
	if !k.now.follows(k.before) {
		return 0, false
	}
	return (k.now.Clock - k.before.Clock).Seconds(), true
}

func gatewayRow(k kept) Gateway {
	r := k.now
	out := Gateway{
		Datacenter: r.Datacenter, Name: r.Name, From: r.From, Age: r.Age.Seconds(), Trouble: r.Trouble, State: r.State,
		SavedTableAge: r.SavedTableAge, Sequence: r.Sequence,
		Open: r.Open, Connections: r.Accepted, Refused: r.refused(), BytesIn: r.BytesIn, BytesOut: r.BytesOut,
	}
	if r.From == FromAdmin {
		out.RefusedBy = maps.Clone(r.Refused)
		out.ConnectFailures, out.Ejections = &r.ConnectFailures, &r.Ejections
	}
	if seconds, ok := k.span(); ok {
		b := k.before
		out.Seconds = &seconds
		out.Rates = Rates{
			Connections: rate(b.Accepted, r.Accepted, seconds), Refused: rate(b.refused(), r.refused(), seconds),
			BytesIn: rate(b.BytesIn, r.BytesIn, seconds), BytesOut: rate(b.BytesOut, r.BytesOut, seconds),
		}
	}
	return out
}

// rate is a counter's change a second. One that went back has begun again, and
// has at least what it shows.
func rate(before, now uint64, seconds float64) *float64 {
	if now < before {
		before = 0
	}
	return new(float64(now-before) / seconds)
}

// routeKey tells rows apart.
type routeKey struct{ datacenter, gateway, name string }

func (s *State) addRoutes(rows map[routeKey]*Route, k kept) {
	seconds, compare := k.span()
	var before map[string]*tally.Route
	if compare {
		before = make(map[string]*tally.Route, len(k.before.Routes))
		for i := range k.before.Routes {
			before[k.before.Routes[i].Name] = &k.before.Routes[i]
		}
	}
	for i := range k.now.Routes {
		route := &k.now.Routes[i]
		row := routeRow(k.now, route)
		earlier := before[route.Name]
		if earlier == nil && compare && k.before.whole() {
			earlier = new(tally.Route) // It was not used until then.
		}
		if earlier != nil {
			row.Rates = Rates{
				Connections: rate(earlier.Connections, route.Connections, seconds),
				BytesIn:     rate(earlier.BytesIn, route.BytesIn, seconds),
				BytesOut:    rate(earlier.BytesOut, route.BytesOut, seconds),
			}
			if k.now.From == FromAdmin {
				row.Rates.Refused = rate(earlier.Failures, route.Failures, seconds)
			}
		}
		key := routeKey{k.now.Datacenter, "", route.Name}
		if s.ByGateway {
			row.Gateway, key.gateway = k.now.Name, k.now.Name
		}
		if present := rows[key]; present != nil {
			present.add(row)
		} else {
			rows[key] = &row
		}
	}
}

// routeRow is a route without its rates.
func routeRow(r *Reading, route *tally.Route) Route {
	row := Route{
		Datacenter: r.Datacenter, Name: route.Name, Connections: route.Connections,
		BytesIn: route.BytesIn, BytesOut: route.BytesOut, Ejected: []string{}, Partial: r.From != FromAdmin,
	}
	if r.From == FromAdmin {
		row.Open, row.Refused, row.ConnectFailures = &route.Open, &route.Failures, &route.ConnectFailures
		row.Live, row.EjectedCount = &route.Live, &route.EjectedCount
		row.Ejected = append(row.Ejected, route.Ejected...)
	}
	return row
}

// add adds another gateway's row of the same route. What one of them does not
// know is what the others know.
func (r *Route) add(other Route) {
	r.Partial = r.Partial || other.Partial
	r.Connections += other.Connections
	r.BytesIn += other.BytesIn
	r.BytesOut += other.BytesOut
	r.Open = merge(r.Open, other.Open, sum)
	r.Refused = merge(r.Refused, other.Refused, sum)
	r.ConnectFailures = merge(r.ConnectFailures, other.ConnectFailures, sum)
	r.Rates = Rates{
		Connections: merge(r.Rates.Connections, other.Rates.Connections, sum),
		Refused:     merge(r.Rates.Refused, other.Rates.Refused, sum),
		BytesIn:     merge(r.Rates.BytesIn, other.Rates.BytesIn, sum),
		BytesOut:    merge(r.Rates.BytesOut, other.Rates.BytesOut, sum),
	}
	r.Live = merge(r.Live, other.Live, func(a, b int) int { return min(a, b) })
	r.EjectedCount = merge(r.EjectedCount, other.EjectedCount, func(a, b int) int { return max(a, b) })
	r.Ejected = append(r.Ejected, other.Ejected...)
	slices.Sort(r.Ejected)
	r.Ejected = slices.Compact(r.Ejected)
}

func sum[N int64 | uint64 | float64](a, b N) N { return a + b }

// merge joins two numbers of which either may be unknown.
func merge[N any](a, b *N, join func(a, b N) N) *N {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return new(join(*a, *b))
}

package top

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/gateway/tally"
)

var start = time.Date(2026, 11, 26, 14, 3, 7, 0, time.UTC)

// admin is a reading of gateway gw1 so long after its start.
func admin(after time.Duration, accepted uint64, routes ...tally.Route) Reading {
	return Reading{From: FromAdmin, Clock: after, Gateway: tally.Gateway{
		Datacenter: "dc1", Name: "gw1", Started: start, Uptime: after, State: "serving", Sequence: 7, Accepted: accepted, Routes: routes,
	}}
}

// reported is gw1's report of so long after the start.
func reported(after time.Duration, accepted uint64, routes ...tally.Route) Reading {
	r := admin(after, accepted, routes...)
	r.From, r.Started, r.Uptime = FromReport, time.Time{}, 0
	return r
}

func route(name string, connections uint64) tally.Route {
	return tally.Route{Name: name, Connections: connections, BytesIn: 10 * connections, BytesOut: 100 * connections, Live: 1}
}

func (r *Reading) with(change func(*Reading)) Reading {
	out := *r
	change(&out)
	return out
}

// rates says the rates of new connections: the gateway's, then those of each route.
func rates(f Frame) string {
	var out []string
	for _, g := range f.Gateways {
		out = append(out, perSecond(g.Rates.Connections))
	}
	for _, r := range f.Routes {
		out = append(out, r.Name+" "+perSecond(r.Rates.Connections))
	}
	return strings.Join(out, ", ")
}

func TestRates(t *testing.T) {
	const s = time.Second
	restarted := admin(s, 90, route("api", 90))
	restarted.Started = start.Add(time.Hour)
	partial := admin(1*s, 10, route("api", 10))
	partial.RoutesLeftOut = 1
	gone := admin(2*s, 0)
	gone.From = FromNowhere
	for _, tt := range []struct {
		name string
		read []Reading
		want string
	}{
		{"one reading has none", []Reading{admin(1*s, 10, route("api", 10))}, "–, api –"},
		{"the difference by the gateway's own clock", []Reading{admin(1*s, 10, route("api", 10)), admin(5*s, 30, route("api", 20))}, "5.0, api 2.5"},
		{"only the last two count", []Reading{admin(1*s, 10), admin(2*s, 1000), admin(3*s, 1001)}, "1.0"},
		{"a route that was not used before begins at zero", []Reading{admin(1*s, 10), admin(3*s, 30, route("api", 20))}, "10.0, api 10.0"},
		{"unless it was left out before", []Reading{partial, admin(2*s, 30, route("api", 20), route("db", 5))}, "20.0, api 10.0, db –"},
		{"a route whose counters went back counts from zero", []Reading{admin(1*s, 90, route("api", 90)), admin(3*s, 94, route("api", 4))}, "2.0, api 2.0"},
		{"another process begins anew", []Reading{admin(99*s, 10, route("api", 10)), restarted}, "–, api –"},
		{"even if it has counted less than the one before", []Reading{admin(99*s, 500), restarted}, "–, api –"},
		{"and is known at its second reading", []Reading{admin(99*s, 500), restarted, restarted.with(func(r *Reading) { r.Clock, r.Accepted = 3*s, 100 })}, "5.0, api 0.0"},
		{"reports compare with each other", []Reading{reported(5*s, 10, route("api", 10)), reported(10*s, 20, route("api", 15))}, "2.0, api 1.0"},
		{"a route that was not in the last report is unknown", []Reading{reported(5*s, 10), reported(10*s, 20, route("api", 15))}, "2.0, api –"},
		{"a report that is read again keeps its rates", []Reading{reported(5*s, 10), reported(10*s, 20), reported(10*s, 20), reported(10*s, 20)}, "2.0"},
		{"a report of another process begins anew", []Reading{reported(5*s, 10), reported(10*s, 9)}, "–"},
		{"a report does not compare with an admin server", []Reading{admin(5*s, 10), reported(10*s, 20)}, "–"},
		{"nor that with the report", []Reading{reported(5*s, 10), admin(10*s, 20)}, "–"},
		{"a gateway that is silent has nothing", []Reading{admin(1*s, 10, route("api", 1)), gone}, "–"},
		{"and begins anew when it is back", []Reading{admin(1*s, 10), gone, admin(3*s, 20)}, "–"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var state State
			var frame Frame
			for _, r := range tt.read {
				frame = state.Take(start, []Reading{r})
			}
			if got := rates(frame); got != tt.want {
				t.Errorf("rates %s; want %s", got, tt.want)
			}
		})
	}
}

func TestAGatewayThatIsNotReadIsForgotten(t *testing.T) {
	var state State
	state.Take(start, []Reading{admin(time.Second, 10)})
	if frame := state.Take(start, nil); len(frame.Gateways) != 0 || len(frame.Routes) != 0 {
		t.Errorf("the frame is %+v", frame)
	}
	if got := rates(state.Take(start, []Reading{admin(2*time.Second, 20)})); got != "–" {
		t.Errorf("it came back with a rate of %s", got)
	}
}

// two readings of gateways gw1 and gw2, which both have the route api.
func pair(after time.Duration, one, two tally.Route) []Reading {
	other := admin(after, 5, two)
	other.Name = "gw2"
	return []Reading{admin(after, 5, one), other}
}

func TestARouteOfSeveralGateways(t *testing.T) {
	one := tally.Route{Name: "api", Connections: 4, Open: 1, Failures: 1, ConnectFailures: 3, Live: 2, EjectedCount: 1, Ejected: []string{"b:1"}}
	two := tally.Route{Name: "api", Connections: 6, Open: 2, Live: 1, EjectedCount: 2, Ejected: []string{"a:1", "b:1"}}
	later := one
	later.Connections = 8
	var sum State
	sum.Take(start, pair(time.Second, one, two))
	frame := sum.Take(start, pair(3*time.Second, later, two))
	if len(frame.Routes) != 1 {
		t.Fatalf("routes %+v", frame.Routes)
	}
	got := frame.Routes[0]
	if got.Partial || got.Connections != 14 || *got.Open != 3 || *got.Refused != 1 || *got.ConnectFailures != 3 || *got.Rates.Connections != 2 {
		t.Errorf("the sum is %+v", got)
	}
	if *got.Live != 1 || *got.EjectedCount != 2 || !slices.Equal(got.Ejected, []string{"a:1", "b:1"}) {
		t.Errorf("endpoints %d live, %d ejected: %q", *got.Live, *got.EjectedCount, got.Ejected)
	}
	each := State{ByGateway: true}
	if frame := each.Take(start, pair(time.Second, one, two)); len(frame.Routes) != 2 || frame.Routes[1].Gateway != "gw2" || *frame.Routes[1].Open != 2 {
		t.Errorf("by gateway: %+v", frame.Routes)
	}
	// What the report of one does not say, the other's admin server does.
	mixed := pair(time.Second, one, two)
	mixed[1].From = FromReport
	if got := new(State).Take(start, mixed).Routes[0]; got.Connections != 10 || *got.Open != 1 || !got.Partial || *got.Live != 2 {
		t.Errorf("with a report: %+v", got)
	}
}

func TestArrange(t *testing.T) {
	frame := func() Frame {
		var state State
		state.Take(start, []Reading{admin(0, 0)})
		return state.Take(start, []Reading{admin(time.Second, 100,
			tally.Route{Name: "a", Connections: 1, Open: 9},
			tally.Route{Name: "b", Connections: 50},
			tally.Route{Name: "c", Connections: 2, BytesOut: 1000},
			tally.Route{Name: "d", Connections: 2, Failures: 8},
			tally.Route{Name: "e", Connections: 2},
		)})
	}
	for order, want := range map[Order]string{
		ByConnections: "abcde", ByRate: "bcdea", ByBytes: "cabde", ByRefusals: "dabce", ByName: "abcde",
	} {
		f := frame()
		f.Arrange(order, 0)
		if got := names(f); got != want {
			t.Errorf("by %s: %s; want %s", order, got, want)
		}
		f.Arrange(order, 2)
		if got := names(f); got != want[:2] || f.RoutesLeftOut != 3 {
			t.Errorf("the first two by %s: %s, %d left out", order, got, f.RoutesLeftOut)
		}
	}
	// What is not known stands last, whatever it is.
	f := frame()
	f.Routes[1].Rates.Connections = nil
	f.Arrange(ByRate, 0)
	if got := names(f); got != "cdeab" {
		t.Errorf("with one unknown: %s", got)
	}
}

func names(f Frame) string {
	var b strings.Builder
	for _, r := range f.Routes {
		b.WriteString(r.Name)
	}
	return b.String()
}

// Whatever counters do, no rate is below zero, and equal readings give equal text.
func TestRatesAreNeverNegative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var state, again State
		for range rapid.IntRange(1, 8).Draw(t, "readings") {
			r := admin(rapid.SampledFrom([]time.Duration{1, time.Second, time.Minute}).Draw(t, "clock"), rapid.Uint64Max(9).Draw(t, "accepted"))
			r.From = rapid.SampledFrom([]From{FromAdmin, FromReport, FromNowhere}).Draw(t, "from")
			r.Started = start.Add(rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "started"))
			for i := range rapid.IntRange(0, 3).Draw(t, "routes") {
				r.Routes = append(r.Routes, route(fmt.Sprint(i), rapid.Uint64Max(9).Draw(t, "connections")))
			}
			frame := state.Take(start, []Reading{r})
			for _, g := range frame.Gateways {
				notNegative(t, g.Rates)
			}
			for _, row := range frame.Routes {
				notNegative(t, row.Rates)
			}
			if second := again.Take(start, []Reading{r}); second.Text(Size{}) != frame.Text(Size{}) {
				t.Fatalf("equal readings give\n%s\nand\n%s", frame.Text(Size{}), second.Text(Size{}))
			}
		}
	})
}

func notNegative(t *rapid.T, r Rates) {
	for _, rate := range []*float64{r.Connections, r.Refused, r.BytesIn, r.BytesOut} {
		if rate != nil && !(*rate >= 0) {
			t.Fatalf("a rate of %v", *rate)
		}
	}
}

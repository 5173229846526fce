package tally

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var full = Answer{Gateways: []Gateway{{
	Datacenter: "dc1", Name: "gw1", Proxy: "n1/mesh-gateway", Started: time.Date(2026, 11, 26, 14, 3, 7, 0, time.UTC), Uptime: time.Second,
	State: "serving", Sequence: 7, SavedTableAge: 1.5, Accepted: 6, Open: 2, HalfOpen: 1, Refused: map[string]uint64{"no_name": 1, "unknown_name": 2},
	ConnectFailures: 3, Ejections: 4, BytesIn: 5, BytesOut: 9,
	Routes: []Route{{
		Name: "api", Connections: 10, Open: 11, Failures: 12, ConnectFailures: 13, BytesIn: 14, BytesOut: 15, Live: 16, EjectedCount: 17, Ejected: []string{"10.0.0.1:80"},
	}},
	RoutesLeftOut: 8,
}}}

// wire is what a gateway of any version since the first says.
const wire = `{"gateways":[{"datacenter":"dc1","name":"gw1","proxy":"n1/mesh-gateway","started":"2026-11-26T14:03:07Z","uptime_nanoseconds":1000000000,` +
	`"state":"serving","routes_sequence":7,"saved_table_age_seconds":1.5,"connections_accepted":6,"connections_open":2,"connections_half_open":1,` +
	`"refused":{"no_name":1,"unknown_name":2},"connect_failures":3,"ejections":4,"bytes_in":5,"bytes_out":9,` +
	`"routes":[{"route":"api","connections":10,"connections_open":11,"refused":12,"connect_failures":13,"bytes_in":14,"bytes_out":15,` +
	`"endpoints_live":16,"endpoints_ejected":17,"ejected":["10.0.0.1:80"]}],"routes_left_out":8}]}`

// Gateways and those who ask them are of different versions.
func TestNamesOnTheWireStay(t *testing.T) {
	said, err := json.Marshal(full)
	if err != nil || string(said) != wire {
		t.Errorf("said %s (%v)\nwant %s", said, err, wire)
	}
	var heard Answer
	if err := json.Unmarshal([]byte(wire), &heard); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full, heard); diff != "" {
		t.Errorf("heard something else (-said +heard):\n%s", diff)
	}
}

func TestFind(t *testing.T) {
	if g, ok := full.Find("dc1", "gw1"); !ok || g.Sequence != 7 || g.RefusedTotal() != 3 {
		t.Errorf("found %+v, %v", g, ok)
	}
	for _, other := range [][2]string{{"dc2", "gw1"}, {"dc1", "gw2"}} {
		if _, ok := full.Find(other[0], other[1]); ok {
			t.Errorf("found %s of %s", other[1], other[0])
		}
	}
}

func TestUsedRoutes(t *testing.T) {
	for _, tt := range []struct {
		route Route
		used  bool
	}{
		{Route{Name: "api", Live: 3}, false},
		{Route{Connections: 1}, true}, {Route{Failures: 1}, true}, {Route{ConnectFailures: 1}, true}, {Route{EjectedCount: 1}, true},
	} {
		if got := tt.route.Used(); got != tt.used {
			t.Errorf("%+v used: %v", tt.route, got)
		}
	}
}

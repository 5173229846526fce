package gateway_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/deploy/freeport"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	"github.com/isthmus-mesh/isthmus/gateway/tally"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// What the counters say, the metrics say too, of an endpoint that is ejected as of
// clients that are refused.
func TestCountersAreWhatMetricsSay(t *testing.T) {
	r := newRoutes(t)
	one, none := named(t, "one"), freeport.Hold(t)
	r.publish(t, apiEndpoints(at(one, none)...), apiName())
	registry := prometheus.NewRegistry()
	before := time.Now()
	g := run(t, gateway.Config{Log: r.log, Registerer: registry, Name: "gw1", Ejection: table.Ejection{Failures: 1, Base: time.Hour, Max: time.Hour}})
	// Each connection begins at a random endpoint; the dead one is tried some time.
	asked := uint64(0)
	for g.Engine().Stats().Ejections == 0 {
		mustAsk(t, g, "one")
		<-g.records
		asked++
	}
	unknown, err := net.Dial("tcp", g.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer unknown.Close()
	if _, err := unknown.Write(enginetest.HelloFor("nobody.example")); err != nil {
		t.Fatal(err)
	}
	<-g.records

	got := g.Counters()
	want := tally.Route{
		Name: api, Connections: asked, ConnectFailures: 1, BytesIn: got.BytesIn, BytesOut: 3 * asked,
		Live: 1, EjectedCount: 1, Ejected: []string{none.String()},
	}
	if len(got.Routes) != 1 || fmt.Sprint(got.Routes[0]) != fmt.Sprint(want) {
		t.Errorf("routes %+v; want %+v", got.Routes, want)
	}
	if got.Datacenter != "dc1" || got.Name != "gw1" || got.State != "serving" || got.Sequence != 2 || got.Started.Before(before) || got.Uptime <= 0 ||
		got.Accepted != asked+1 || got.Open != 0 || got.BytesOut != 3*asked || got.ConnectFailures != 1 || got.Ejections != 1 ||
		len(got.Refused) != 1 || got.Refused["unknown_name"] != 1 || got.RefusedTotal() != 1 {
		t.Errorf("counted %+v", got)
	}
	metrics := gather(t, registry)
	for name, want := range map[string]float64{
		"isthmus_gateway_route_connections_total route=" + api:            float64(asked),
		"isthmus_gateway_route_connect_failures_total route=" + api:       1,
		"isthmus_gateway_route_failures_total route=" + api:               0,
		"isthmus_gateway_route_endpoints route=" + api + " state=live":    1,
		"isthmus_gateway_route_endpoints route=" + api + " state=ejected": 1,
		"isthmus_gateway_endpoints state=live":                            1,
		"isthmus_gateway_endpoints state=ejected":                         1,
		"isthmus_gateway_routes_without_metrics":                          0,
		"isthmus_gateway_basis_sequence stream=CATALOG_dc1":               100,
		"isthmus_gateway_connections_ended_total reason=unknown_name":     1,
		"isthmus_gateway_ejections_total":                                 1,
		"isthmus_gateway_table_saved_age_seconds":                         0,
		"isthmus_bus_stream_sequence stream=" + routesStream:              2,
		"isthmus_gateway_route_bytes_total direction=out route=" + api:    float64(3 * asked),
		"isthmus_gateway_connections_open":                                0,
		"isthmus_gateway_connections_half_open":                           0,
		"isthmus_gateway_bytes_total direction=out":                       float64(3 * asked),
		"isthmus_gateway_connections_accepted_total":                      float64(asked + 1),
		"isthmus_gateway_connect_failures_total":                          1,
		"isthmus_gateway_route_connections_open route=" + api:             0,
		"isthmus_gateway_route_bytes_total direction=in route=" + api:     float64(got.BytesIn),
	} {
		if got, ok := metrics[name]; !ok || got != want {
			t.Errorf("%s is %v (there: %v); want %v", name, got, ok, want)
		}
	}
}

// service is the name and the endpoints of one of many services.
func service(i int, endpoint netip.AddrPort) (sni string, values []value) {
	ref := &isthmusv1.ServiceRef{Name: fmt.Sprintf("s%d", i)}
	set := &isthmusv1.EndpointSetRef{Datacenter: "dc1", Scope: isthmusv1.Scope_SCOPE_LAN, Service: ref}
	sni = isthmusv1.SNI(ref, "", "dc1", "td")
	return sni, []value{
		{set.ID().Key(0), &isthmusv1.EndpointSet{Ref: set, Endpoints: at(endpoint), Chunks: 1}},
		{isthmusv1.NameKey(ref, ""), &isthmusv1.NameRoute{Sni: sni, Service: ref, Endpoints: set}},
	}
}

// However many routes there are, only so many have metrics of their own, and those
// keep them.
func TestMetricsOfRoutesAreBounded(t *testing.T) {
	r := newRoutes(t)
	server := named(t, "one")
	const many = 10
	var names []string
	var all []value
	for i := range many {
		sni, values := service(i, server)
		names, all = append(names, sni), append(all, values...)
	}
	r.publish(t, all...)
	registry := prometheus.NewRegistry()
	g := run(t, gateway.Config{Log: r.log, Registerer: registry, MetricRoutes: 3})
	awaitApplied(t, r.log, r.last)
	use := func(route int, connections uint64) {
		g.Feed().Table().Lookup([]byte(names[route])).Counters.Connections.Add(connections)
	}
	shown := func() (shown []string, hidden float64) {
		metrics := gather(t, registry)
		for _, name := range names {
			if _, ok := metrics["isthmus_gateway_route_connections_total route="+name]; ok {
				shown = append(shown, name)
			}
		}
		return shown, metrics["isthmus_gateway_routes_without_metrics"]
	}
	for _, step := range []struct {
		name   string
		change func()
		want   []string
		hidden float64
	}{
		{"routes that were not used have none", func() {}, nil, 0},
		{"used ones have", func() { use(9, 1); use(8, 1) }, []string{names[8], names[9]}, 0},
		{"what is left goes to the busiest", func() { use(1, 5); use(2, 7); use(3, 6) }, []string{names[2], names[8], names[9]}, 2},
		{"none is taken from a route that is less busy now", func() { use(4, 1000) }, []string{names[2], names[8], names[9]}, 3},
		{"a route that is gone makes room", func() {
			_, values := service(8, server)
			awaitApplied(t, r.log, r.publish(t, value{key: values[1].key}))
		}, []string{names[2], names[4], names[9]}, 2},
	} {
		step.change()
		if got, hidden := shown(); !slices.Equal(got, step.want) || hidden != step.hidden {
			t.Errorf("%s: %q, without %v; want %q, without %v", step.name, got, hidden, step.want, step.hidden)
		}
	}
}

// The counters of ten thousand used routes and more are still one answer.
func TestCountersOfRoutesAreBounded(t *testing.T) {
	r := newRoutes(t)
	server := named(t, "one")
	const many = 10_003
	names := make([]string, many)
	for from := 0; from < many; from += 400 {
		var values []value
		for i := from; i < min(from+400, many); i++ {
			sni, pair := service(i, server)
			names[i], values = sni, append(values, pair...)
		}
		r.publish(t, values...)
	}
	g := run(t, gateway.Config{Log: r.log})
	awaitApplied(t, r.log, r.last)
	for i, name := range names {
		g.Feed().Table().Lookup([]byte(name)).Counters.Connections.Add(uint64(i + 1))
	}
	got := g.Counters()
	if len(got.Routes) != 10_000 || got.RoutesLeftOut != 3 || !slices.IsSortedFunc(got.Routes, func(a, b tally.Route) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	}) {
		t.Errorf("%d routes, %d left out", len(got.Routes), got.RoutesLeftOut)
	}
	for _, route := range got.Routes {
		if route.Connections <= 3 {
			t.Errorf("%s with %d connections has the place of a busier one", route.Name, route.Connections)
		}
	}
	encoded, err := json.Marshal(tally.Answer{Gateways: []tally.Gateway{got}})
	if err != nil || len(encoded) > 4<<20 {
		t.Errorf("%d bytes (%v)", len(encoded), err)
	}
}

// A port that the system chose is in reports once it is known.
func TestReportsSayWhereTheAdminServerIs(t *testing.T) {
	r := newRoutes(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	g := run(t, gateway.Config{Log: r.log, AdminAddress: "127.0.0.1:0", StatusInterval: time.Millisecond})
	awaitStatus(t, r.log, func(s *isthmusv1.GatewayStatus) bool { return s.GetAdminAddress() == "127.0.0.1:0" })
	g.AdminAt("127.0.0.1:9500")
	awaitStatus(t, r.log, func(s *isthmusv1.GatewayStatus) bool { return s.GetAdminAddress() == "127.0.0.1:9500" })
}

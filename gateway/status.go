package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/gateway/table"
	"github.com/isthmus-mesh/isthmus/gateway/tally"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const (
	// reportedRoutes and reportedEndpoints bound a report: the busiest routes,
	// and the endpoints that failed or were used most.
	reportedRoutes    = 50
	reportedEndpoints = 200
)

// Endpoints returns what was seen of every endpoint in use, sorted by name.
func (g *Gateway) Endpoints() []table.EndpointReport { return g.feed.Endpoints(time.Now()) }

// Status returns what the gateway does, as it reports it.
func (g *Gateway) Status() *isthmusv1.GatewayStatus {
	t, stats := g.feed.Table(), g.engine.Stats()
	_, savedAt := g.feed.Whole()
	return &isthmusv1.GatewayStatus{
		ListenAddresses:    g.Addresses(),
		Basis:              t.Basis,
		Routes:             t.Routes,
		ConnectionsTotal:   stats.Accepted,
		ConnectionsOpen:    uint64(max(stats.Open, 0)),
		ConnectionsRefused: stats.Refused(),
		BytesIn:            stats.BytesIn,
		BytesOut:           stats.BytesOut,
		Endpoints:          g.endpointStatus(),
		AdminAddress:       g.AdminAddress(),
		State:              string(g.State()),
		RoutesCounters:     g.routeCounters(),
		FromSavedTable:     !savedAt.IsZero(),
		Proxy:              g.ownName(),
		NotHonoured:        g.notHonoured(),
		Problems:           g.problems(),
	}
}

// tellStatus reports the whole status, at the cost of a look at every route.
func (g *Gateway) tellStatus() { g.tell(g.Status()) }

// tellTable reports the present table with the counters as they were last
// reported, so that its cost does not grow with the table.
func (g *Gateway) tellTable() {
	t := g.feed.Table()
	_, savedAt := g.feed.Whole()
	g.mu.Lock()
	status := proto.CloneOf(g.told)
	g.mu.Unlock()
	if status == nil {
		g.tellStatus()
		return
	}
	status.Basis, status.Routes = t.Basis, t.Routes
	status.State, status.FromSavedTable = string(g.State()), !savedAt.IsZero()
	g.tell(status)
}

// tell reports, until a successor has taken over: it reports under the same name.
func (g *Gateway) tell(status *isthmusv1.GatewayStatus) {
	if g.handedOver.Load() {
		return
	}
	g.mu.Lock()
	g.told = status
	g.mu.Unlock()
	g.report.Gateway(status)
}

// endpointStatus is the endpoints that were used or failed: those that failed
// first, then the busiest.
func (g *Gateway) endpointStatus() []*isthmusv1.EndpointStatus {
	reports := slices.DeleteFunc(g.Endpoints(), func(r table.EndpointReport) bool {
		return r.Connections == 0 && r.Failures == 0
	})
	slices.SortStableFunc(reports, func(a, b table.EndpointReport) int {
		return cmp.Or(cmp.Compare(b.Failures, a.Failures), cmp.Compare(b.Connections, a.Connections))
	})
	reports = reports[:min(len(reports), reportedEndpoints)]
	slices.SortFunc(reports, func(a, b table.EndpointReport) int { return cmp.Compare(a.Name, b.Name) })
	out := make([]*isthmusv1.EndpointStatus, len(reports))
	for i, r := range reports {
		out[i] = &isthmusv1.EndpointStatus{Address: r.Name, Ejected: r.Ejected, Failures: r.Failures}
	}
	return out
}

// routeCounters is the routes with the most connections, sorted by name.
func (g *Gateway) routeCounters() []*isthmusv1.RouteCounters {
	routes := slices.DeleteFunc(g.Routes(), func(r tally.Route) bool { return r.Connections == 0 })
	slices.SortStableFunc(routes, func(a, b tally.Route) int { return cmp.Compare(b.Connections, a.Connections) })
	routes = routes[:min(len(routes), reportedRoutes)]
	slices.SortFunc(routes, func(a, b tally.Route) int { return cmp.Compare(a.Name, b.Name) })
	out := make([]*isthmusv1.RouteCounters, len(routes))
	for i, r := range routes {
		out[i] = &isthmusv1.RouteCounters{Route: r.Name, Connections: r.Connections, BytesIn: r.BytesIn, BytesOut: r.BytesOut}
	}
	return out
}

// register registers the metrics, and returns what takes them back.
func (g *Gateway) register() (func(), error) {
	if g.cfg.Registerer == nil {
		return func() {}, nil
	}
	c := &collector{gateway: g}
	if err := g.cfg.Registerer.Register(c); err != nil {
		return nil, fmt.Errorf("gateway: metrics: %w", err)
	}
	return func() { g.cfg.Registerer.Unregister(c) }, nil
}

// collector shows the counters as metrics. No label is a name that a client
// chooses, of which there may be any number. The names of routes are the
// catalog's, and only those that were used are shown, up to a number.
type collector struct {
	gateway *Gateway
	shown   shownRoutes
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("isthmus_gateway_"+name, help, labels, nil)
}

var (
	acceptedDesc   = describe("connections_accepted_total", "Connections that were accepted.")
	openDesc       = describe("connections_open", "Connections that are open.")
	halfOpenDesc   = describe("connections_half_open", "Connections that wait for their ClientHello.")
	endedDesc      = describe("connections_ended_total", "Connections that have ended, by reason.", "reason")
	bytesDesc      = describe("bytes_total", "Bytes relayed: in from clients to endpoints, out back.", "direction")
	failuresDesc   = describe("connect_failures_total", "Attempts to connect to an endpoint that failed.")
	ejectionsDesc  = describe("ejections_total", "Times that an endpoint was ejected.")
	droppedDesc    = describe("access_log_dropped_total", "Records that did not fit into the access log's ring, or could not be written.")
	aheadReadyDesc = describe("ahead_ready", "Connections to gateways of other datacenters that were opened ahead and wait for a client.")
	aheadDesc      = describe("ahead_total", "What became of connections opened ahead: used, missed (a client found none), expired, ended (by the other side), repeated (the hello was sent once more on a fresh one).", "what")
	namesDesc      = describe("table_routes", "Routes of the table, by kind.", "kind")
	sequenceDesc   = describe("table_sequence", "Sequence of the routes stream that the table stands for.")
	savedDesc      = describe("table_saved_age_seconds", "Age of the saved table that is used; 0 when the stream was caught up with.")
	endpointsDesc  = describe("endpoints", "Addresses of endpoints in use, by whether connections may go to them.", "state")
	stateDesc      = describe("state", "1 for the state that the gateway is in.", "state")
)

// Describe implements prometheus.Collector.
func (*collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		acceptedDesc, openDesc, halfOpenDesc, endedDesc, bytesDesc, failuresDesc,
		ejectionsDesc, droppedDesc, aheadReadyDesc, aheadDesc, namesDesc, sequenceDesc, savedDesc, stateDesc, endpointsDesc,
	} {
		out <- d
	}
	describeRoutes(out)
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	g := c.gateway
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	stats := g.engine.Stats()
	counter(acceptedDesc, stats.Accepted)
	gauge(openDesc, float64(stats.Open))
	gauge(halfOpenDesc, float64(stats.HalfOpen))
	for _, reason := range table.Reasons() {
		counter(endedDesc, stats.Ended[reason], string(reason))
	}
	counter(bytesDesc, stats.BytesIn, "in")
	counter(bytesDesc, stats.BytesOut, "out")
	counter(failuresDesc, stats.ConnectFailures)
	counter(ejectionsDesc, stats.Ejections)
	counter(droppedDesc, g.log.dropped.Load())
	gauge(aheadReadyDesc, float64(stats.Ahead.Ready))
	counter(aheadDesc, stats.Ahead.Used, "used")
	counter(aheadDesc, stats.Ahead.Missed, "missed")
	counter(aheadDesc, stats.Ahead.Expired, "expired")
	counter(aheadDesc, stats.Ahead.Ended, "ended")
	counter(aheadDesc, stats.Ahead.Repeated, "repeated")
	now := time.Now()
	c.collectRoutes(out, now)
	c.collectEndpoints(out, now)
	t := g.feed.Table()
	names, wildcards := t.Len()
	gauge(namesDesc, float64(names), "name")
	gauge(namesDesc, float64(wildcards), "wildcard")
	gauge(sequenceDesc, float64(t.Routes.GetSequence()))
	gauge(savedDesc, g.SavedAge(now).Seconds())
	present := g.State()
	for _, state := range []State{StateStarting, StateServing, StateSaved, StateDraining} {
		value := 0.0
		if state == present {
			value = 1
		}
		gauge(stateDesc, value, string(state))
	}
}

package gateway

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway/tally"
)

var (
	routeConnectionsDesc = describe("route_connections_total", "Connections that were joined to an endpoint, of each route that was used.", "route")
	routeOpenDesc        = describe("route_connections_open", "Connections of the route that are open.", "route")
	routeFailuresDesc    = describe("route_failures_total", "Connections of the route that were refused: no endpoint answered, there was none, or it had as many as it may.", "route")
	routeAttemptsDesc    = describe("route_connect_failures_total", "Attempts to connect to an endpoint of the route that failed.", "route")
	routeBytesDesc       = describe("route_bytes_total", "Bytes relayed by the route: in from clients to endpoints, out back.", "route", "direction")
	routeEndpointsDesc   = describe("route_endpoints", "Endpoints of the route, by whether connections may go to them.", "route", "state")
	routesHiddenDesc     = describe("routes_without_metrics", "Routes that were used and have no metrics of their own, as too many others have.")
	basisDesc            = describe("basis_sequence", "Sequence of each catalog that the table was computed from.", "stream")
)

func describeRoutes(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		routeConnectionsDesc, routeOpenDesc, routeFailuresDesc, routeAttemptsDesc, routeBytesDesc, routeEndpointsDesc,
		routesHiddenDesc, basisDesc,
	} {
		out <- d
	}
}

// The states of endpoints, as labels.
const (
	endpointLive    = "live"
	endpointEjected = "ejected"
)

func (c *collector) collectRoutes(out chan<- prometheus.Metric, now time.Time) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	routes, hidden := c.shown.choose(c.gateway.usedRoutes(now), c.gateway.cfg.MetricRoutes)
	gauge(routesHiddenDesc, float64(hidden))
	for _, r := range routes {
		counter(routeConnectionsDesc, r.Connections, r.Name)
		gauge(routeOpenDesc, float64(r.Open), r.Name)
		counter(routeFailuresDesc, r.Failures, r.Name)
		counter(routeAttemptsDesc, r.ConnectFailures, r.Name)
		counter(routeBytesDesc, r.BytesIn, r.Name, "in")
		counter(routeBytesDesc, r.BytesOut, r.Name, "out")
		gauge(routeEndpointsDesc, float64(r.Live), r.Name, endpointLive)
		gauge(routeEndpointsDesc, float64(r.EjectedCount), r.Name, endpointEjected)
	}
	for _, p := range c.gateway.feed.Table().Basis.GetPositions() {
		gauge(basisDesc, float64(p.GetSequence()), p.GetStream())
	}
}

func (c *collector) collectEndpoints(out chan<- prometheus.Metric, now time.Time) {
	count := map[bool]float64{}
	for _, e := range c.gateway.feed.Endpoints(now) {
		count[e.Ejected]++
	}
	out <- prometheus.MustNewConstMetric(endpointsDesc, prometheus.GaugeValue, count[false], endpointLive)
	out <- prometheus.MustNewConstMetric(endpointsDesc, prometheus.GaugeValue, count[true], endpointEjected)
}

// shownRoutes are the routes that have metrics of their own. A route keeps them
// while it is used: were they always those of the busiest, series would come and
// go, and their rates with them. There is no sum of the others for the same
// reason: it would fall when one of them got its own.
type shownRoutes struct {
	mu    sync.Mutex
	names map[string]bool
}

// choose returns those of the used routes that have metrics, most at the most,
// and how many have none. Places go to the routes that are used most.
func (s *shownRoutes) choose(used []tally.Route, most int) (shown []tally.Route, hidden int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make(map[string]bool, min(len(used), most))
	var others []tally.Route
	for _, r := range used {
		if s.names[r.Name] {
			names[r.Name] = true
			shown = append(shown, r)
		} else {
			others = append(others, r)
		}
	}
	slices.SortFunc(others, byUse)
	added := others[:min(len(others), most-len(shown))]
	for _, r := range added {
		names[r.Name] = true
	}
	s.names = names
	return append(shown, added...), len(others) - len(added)
}

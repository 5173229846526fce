package sidecar

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

// counterTable holds the counters of every route that was ever served, so that
// none goes backwards when a route comes back.
type counterTable struct {
	mu   sync.Mutex
	all  []*counters
	byID map[counterID]*counters
}

type counterID struct {
	direction Direction
	route     string
}

func newCounterTable() *counterTable { return &counterTable{byID: make(map[counterID]*counters)} }

// of returns the counters of a route in a direction.
func (t *counterTable) of(direction Direction, route string) *counters {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := counterID{direction, route}
	c := t.byID[id]
	if c == nil {
		c = &counters{direction: direction, route: route, ended: make([]atomic.Uint64, len(Reasons()))}
		t.byID[id] = c
		t.all = append(t.all, c)
	}
	return c
}

func (t *counterTable) each() []*counters {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.all)
}

func (c *counters) end(reason Reason) { c.ended[slices.Index(Reasons(), reason)].Add(1) }

func (c *counters) bytes() relay.Count { return relay.Count{In: &c.bytesIn, Out: &c.bytesOut} }

// collector shows a sidecar's counters to Prometheus.
type collector struct{ *Sidecar }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("isthmus_sidecar_"+name, help, labels, nil)
}

var (
	descEnded    = desc("connections_total", "Connections that have ended, by why.", "direction", "route", "reason")
	descOpen     = desc("connections_open", "Connections that are open.", "direction", "route")
	descBytes    = desc("bytes_total", "Bytes moved: in is from the client to the endpoint.", "direction", "route", "way")
	descFailures = desc("connect_failures_total", "Attempts to connect that failed.", "direction", "route")
	descExpiry   = desc("leaf_expiry_timestamp_seconds", "When the present leaf expires; 0 while there is none.")
	descTrouble  = desc("trouble", "1 while there is trouble with the identity, the listeners or the routes.", "with")
	descSequence = desc("routes_sequence", "The sequence of the routes stream that is served.")
	descSaved    = desc("saved_state_age_seconds", "Age of the saved state, while that is served; 0 once the routes are the bus's.")
	descListen   = desc("listeners", "Listeners, open and failed.", "state")
)

// Describe lists the metrics.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descEnded, descOpen, descBytes, descFailures, descExpiry, descTrouble, descSequence, descSaved, descListen,
	} {
		out <- d
	}
}

// Collect states the metrics of now.
func (c collector) Collect(out chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, n := range c.counters.each() {
		direction := string(n.direction)
		for i, reason := range Reasons() {
			counter(descEnded, n.ended[i].Load(), direction, n.route, string(reason))
		}
		gauge(descOpen, float64(n.open.Load()), direction, n.route)
		counter(descBytes, n.bytesIn.Load(), direction, n.route, "in")
		counter(descBytes, n.bytesOut.Load(), direction, n.route, "out")
		counter(descFailures, n.failures.Load(), direction, n.route)
	}
	expiry := 0.0
	if i := c.live.Current(); i != nil {
		expiry = float64(i.NotAfter().Unix())
	}
	gauge(descExpiry, expiry)
	gauge(descSaved, c.SavedAge(time.Now()).Seconds())
	open, failed := c.listeners.count()
	gauge(descListen, float64(open), "open")
	gauge(descListen, float64(failed), "failed")
	gauge(descTrouble, number(c.live.Trouble() != nil), "identity")
	gauge(descTrouble, number(failed > 0), "listeners")
	gauge(descTrouble, number(c.getTrouble() != nil || c.drive.Ready() != nil), "routes")
	if st := c.state.Load(); st != nil {
		gauge(descSequence, float64(st.routes.GetSequence()))
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

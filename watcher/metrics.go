package watcher

import "github.com/prometheus/client_golang/prometheus"

// metrics of one watcher.
type metrics struct {
	writes     *prometheus.CounterVec
	active     prometheus.GaugeFunc
	sourceLive prometheus.GaugeFunc
	scopes     prometheus.GaugeFunc
	sequence   prometheus.GaugeFunc
}

func newMetrics(w *Watcher) metrics {
	labels := prometheus.Labels{"dc": w.datacenter}
	gauge := func(name, help string, value func(Status) float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_watcher_" + name, Help: help, ConstLabels: labels,
		}, func() float64 { return value(w.Status()) })
	}
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	return metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_watcher_writes_total", ConstLabels: labels,
			Help: "Writes: done (the log has moved), stale (the source was read again) or failed.",
		}, []string{"result"}),
		active: gauge("active", "1 while this watcher holds the stream.", func(s Status) float64 { return truth(s.Active) }),
		sourceLive: gauge("source_live", "1 while the source is seen.", func(s Status) float64 {
			return truth(s.Source == nil)
		}),
		scopes:   gauge("scopes", "Scopes of the source.", func(s Status) float64 { return float64(s.Scopes) }),
		sequence: gauge("sequence", "Sequence of the log at which it was last equal to the source.", func(s Status) float64 { return float64(s.Position.GetSequence()) }),
	}
}

func (m metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.writes, m.active, m.sourceLive, m.scopes, m.sequence}
}

// Describe implements [prometheus.Collector].
func (m metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
}

package bus

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// StreamProgress is how far a [Drive] is with one stream.
type StreamProgress struct {
	Stream string
	// Applied is the position that the machine has. Nil: nothing yet.
	Applied *isthmusv1.Position
	// Last is the last sequence taken from the log, open transactions included.
	Last uint64
	// CaughtUp: the machine was given the state as of a bootstrap's end, at least
	// once, and goes on from there or keeps it.
	CaughtUp bool
	// Unfilled: the stream's first fill is not complete; readers keep what they
	// had of the last incarnation.
	Unfilled bool
	// Trouble is why the stream is not followed right now. Nil: it is.
	Trouble error
	// Since is when Trouble began. Age of what the machine has counts from here.
	Since time.Time
	// EventTime is the event time of the newest change applied, for people.
	EventTime time.Time
	// Mirror is how a mirror stood to its origin when it was last asked, every few
	// seconds. Nil for an origin.
	Mirror *MirrorState
	// Transactions were applied, and Restarts made, in all.
	Transactions, Restarts uint64
}

// Age is how long the stream has not been followed: 0 while it is.
func (p StreamProgress) Age(now time.Time) time.Duration {
	if p.Trouble == nil {
		return 0
	}
	return max(now.Sub(p.Since), 0)
}

// progressTable is the progress of all streams of a Drive.
type progressTable struct {
	mu      sync.Mutex
	streams map[string]*StreamProgress
}

func (t *progressTable) init() { t.streams = make(map[string]*StreamProgress) }

// errStarting is the trouble of a stream that is not followed yet.
var errStarting = errors.New("not followed yet")

func (t *progressTable) add(stream string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams[stream] = &StreamProgress{Stream: stream, Trouble: errStarting, Since: time.Now()}
}

func (t *progressTable) remove(stream string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.streams, stream)
}

// note takes an event in, and reports whether it changed the stream's readiness
// or trouble.
func (t *progressTable) note(e driveEvent) (_ StreamProgress, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.streams[e.stream]
	before := *p
	switch {
	case e.trouble != nil:
		if p.Trouble == nil {
			p.Since = time.Now()
		}
		p.Trouble = e.trouble
		p.Restarts++
	case e.start != nil:
		p.Mirror, p.Trouble = e.start.Mirror, nil
	}
	if e.trouble == nil {
		p.Last, p.Unfilled = e.last, e.unfilled
	}
	if e.transaction != nil {
		p.Applied, p.CaughtUp = e.transaction.Position(), true
		p.Transactions++
		if n := len(e.transaction.Changes); n > 0 {
			p.EventTime = e.transaction.Changes[n-1].Time
		}
	}
	changed = before.CaughtUp != p.CaughtUp || before.Unfilled != p.Unfilled || (before.Trouble == nil) != (p.Trouble == nil)
	return *p, changed
}

// mirrors are the streams that are mirrors.
func (t *progressTable) mirrors() []string {
	var names []string
	for _, p := range t.all() {
		if p.Mirror != nil {
			names = append(names, p.Stream)
		}
	}
	return names
}

// noteMirror takes in how a mirror stands to its origin.
func (t *progressTable) noteMirror(stream string, mirror *MirrorState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.streams[stream]; ok {
		p.Mirror = mirror
	}
}

func (t *progressTable) all() []StreamProgress {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]StreamProgress, 0, len(t.streams))
	for _, p := range t.streams {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b StreamProgress) int { return cmp.Compare(a.Stream, b.Stream) })
	return out
}

// ready joins what is not caught up. The named streams must be; the others may
// hold nothing yet.
func (t *progressTable) ready(named []string) error {
	all := t.all()
	if len(all) == 0 {
		return errors.New("no stream is followed yet")
	}
	var problems []error
	for _, p := range all {
		if p.CaughtUp || (p.Unfilled && !slices.Contains(named, p.Stream)) {
			continue
		}
		why := p.Trouble
		if why == nil && p.Unfilled {
			why = errors.New("its first fill is not complete")
		}
		if why == nil {
			why = errors.New("catching up")
		}
		problems = append(problems, fmt.Errorf("%s: %w", p.Stream, why))
	}
	return errors.Join(problems...)
}

// progressCollector shows the table as metrics.
type progressCollector struct{ table *progressTable }

var (
	sequenceMetric     = streamMetric("sequence", "Sequence of the last transaction applied.")
	caughtUpMetric     = streamMetric("caught_up", "1 when the stream's state was applied whole.")
	ageMetric          = streamMetric("age_seconds", "Time for which the stream has not been followed.")
	transactionsMetric = streamMetric("transactions_total", "Transactions applied.")
	restartsMetric     = streamMetric("restarts_total", "Times that following was started over.")
	mirrorMetric       = streamMetric("mirror_active_seconds", "Time since a mirror last heard of its origin; -1: never.")
)

func streamMetric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("isthmus_bus_stream_"+name, help, []string{"stream"}, nil)
}

// Describe implements [prometheus.Collector].
func (c progressCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sequenceMetric, caughtUpMetric, ageMetric, transactionsMetric, restartsMetric, mirrorMetric} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c progressCollector) Collect(ch chan<- prometheus.Metric) {
	for _, p := range c.table.all() {
		caughtUp := 0.0
		if p.CaughtUp {
			caughtUp = 1
		}
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, p.Stream)
		}
		counter := func(d *prometheus.Desc, v uint64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), p.Stream)
		}
		gauge(sequenceMetric, float64(p.Applied.GetSequence()))
		gauge(caughtUpMetric, caughtUp)
		gauge(ageMetric, p.Age(time.Now()).Seconds())
		counter(transactionsMetric, p.Transactions)
		counter(restartsMetric, p.Restarts)
		if p.Mirror != nil {
			gauge(mirrorMetric, max(p.Mirror.Active.Seconds(), -1))
		}
	}
}

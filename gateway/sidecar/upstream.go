package sidecar

import (
	"iter"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// upstream is one route as it is served: immutable but for the sets.
type upstream struct {
	route   string
	targets []*target
	// problem is why it is not carried; nil when it is.
	problem *isthmusv1.Problem
	// limit is the most connections at a time; 0: none.
	limit uint32
	// none: the limit is zero connections.
	none  bool
	count *counters
}

// target is one place that an upstream may lead to.
type target struct {
	*isthmusv1.Target
	// sets in the order of preference.
	sets    []*table.Set
	timeout time.Duration
}

// choice is one endpoint to try.
type choice struct {
	target   *target
	set      *table.Set
	endpoint *table.Endpoint
}

// defaultConnectTimeout is Consul's (reference 2.3).
const defaultConnectTimeout = 5 * time.Second

// choices gives the endpoints that one connection should try: those of the first
// live target by weight, then those of each target that takes over from it, and
// the ejected ones when nothing else is left. At most perTarget endpoints of each
// are given.
func (u *upstream) choices(random uint64, now time.Time, perTarget int) iter.Seq[choice] {
	return func(yield func(choice) bool) {
		var picks []picking
		for _, t := range u.targets {
			left := &allowance{perTarget}
			for _, set := range t.sets {
				if set.Why() == nil {
					picks = append(picks, picking{t, set, set.Pick(random, now), left})
				}
			}
		}
		for i := range picks {
			if !picks[i].give((*table.Picker).NextLive, yield) {
				return
			}
		}
		for i := range picks {
			if !picks[i].give((*table.Picker).Next, yield) {
				return
			}
		}
	}
}

// allowance is how many more endpoints of a target may be given.
type allowance struct{ left int }

// picking is a choice among the endpoints of one set of a target.
type picking struct {
	target *target
	set    *table.Set
	pick   table.Picker
	*allowance
}

// give yields the endpoints that next picks, and reports whether to go on.
func (p *picking) give(next func(*table.Picker) *table.Endpoint, yield func(choice) bool) bool {
	for p.left > 0 {
		e := next(&p.pick)
		if e == nil {
			break
		}
		p.left--
		if !yield(choice{p.target, p.set, e}) {
			return false
		}
	}
	return true
}

// why says why there is no choice: of each target, in order.
func (u *upstream) why() string {
	text := ""
	for _, t := range u.targets {
		if text != "" {
			text += "; "
		}
		text += t.GetId() + ": " + t.why()
	}
	return text
}

func (t *target) why() string {
	for _, p := range t.GetProblems() {
		if isError(p) {
			return p.GetText()
		}
	}
	if len(t.sets) == 0 {
		return "no path"
	}
	return t.sets[0].Why().Error()
}

// counters count the connections of one route in one direction.
type counters struct {
	direction Direction
	route     string
	open      atomic.Int64
	bytesIn   atomic.Uint64
	bytesOut  atomic.Uint64
	// ended by reason, in the order of [Reasons].
	ended []atomic.Uint64
	// failures are attempts to connect that failed.
	failures atomic.Uint64
}

func randomNumber() uint64 { return rand.Uint64() }

//go:build linux

package loop

import "github.com/isthmus-mesh/isthmus/gateway/table"

// census is how often in a world has happened what must happen in some, lest the
// simulation pass for want of anything that could go wrong.
type census struct {
	reasons map[table.Reason]int
	events  map[string]int
}

func newCensus() census {
	return census{reasons: make(map[table.Reason]int), events: make(map[string]int)}
}

// add adds another's.
func (c *census) add(other census) {
	for reason, n := range other.reasons {
		c.reasons[reason] += n
	}
	for event, n := range other.events {
		c.events[event] += n
	}
}

// rare are what must happen at least once in a thousand seeds.
var rare = []string{"again", "spliced", "moved", "handed over", "ahead", "repeated", "paused"}

// missing are the reasons and events that a thousand seeds should have had.
func (c *census) missing() (what []string) {
	for _, reason := range table.Reasons() {
		if c.reasons[reason] == 0 {
			what = append(what, string(reason))
		}
	}
	for _, event := range rare {
		if c.events[event] == 0 {
			what = append(what, event)
		}
	}
	return what
}

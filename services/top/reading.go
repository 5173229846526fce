package top

import (
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tally"
)

// From is where a gateway's numbers come from.
type From string

// The sources.
const (
	// FromAdmin: its admin server has just said them.
	FromAdmin From = "admin"
	// FromReport: its last report had them.
	FromReport From = "report"
	// FromNowhere: neither has any that still counts.
	FromNowhere From = "nowhere"
)

// Reading is what is known of one gateway at one moment.
type Reading struct {
	tally.Gateway
	From From
	// Clock is the time of the numbers by the clock of whoever counted; only
	// differences mean something.
	Clock time.Duration
	// Age is how old they are, in a report.
	Age time.Duration
	// Refusals is how many connections were refused in all, where Refused does not
	// say it by reason.
	Refusals uint64
	// Trouble is why its admin server was not asked, or what it said instead.
	Trouble string
}

// identity tells gateways apart.
type identity struct{ datacenter, name string }

func (r *Reading) identity() identity { return identity{r.Datacenter, r.Name} }

// follows reports whether two readings count the same things, so that their
// differences mean something.
func (r *Reading) follows(before *Reading) bool {
	return before != nil && r.From != FromNowhere && r.From == before.From && r.Started.Equal(before.Started) &&
		r.Clock > before.Clock && r.Accepted >= before.Accepted
}

// same reports whether nothing was read since: a report is read again until the
// next one comes.
func (r *Reading) same(before *Reading) bool {
	return before != nil && r.From == before.From && r.Started.Equal(before.Started) && r.Clock == before.Clock
}

// whole reports whether a route that is missing was never used.
func (r *Reading) whole() bool { return r.From == FromAdmin && r.RoutesLeftOut == 0 }

func (r *Reading) refused() uint64 { return max(r.Refusals, r.RefusedTotal()) }

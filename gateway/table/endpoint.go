package table

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Counters count what one route or one endpoint carried. In is from the client
// to the endpoint, Out the other way.
type Counters struct {
	// Connections is how many were joined; Open how many still are.
	Connections atomic.Uint64
	Open        atomic.Int64
	// Busy is, for a route, how many are open or wait for an endpoint.
	Busy atomic.Int64
	// Failures is, for an endpoint, the attempts to connect that failed; for a
	// route, the connections for which no endpoint answered.
	Failures atomic.Uint64
	BytesIn  atomic.Uint64
	BytesOut atomic.Uint64
}

// Endpoint is one address of a [Set]. It lives as long as its address stays in
// the set, through every [Set.Replace].
type Endpoint struct {
	// Address is where to connect.
	Address netip.AddrPort
	// Name is the address as the catalog has it, host:port; it differs from
	// Address for a host name. It is made once, for records and reports.
	Name string
	// Counters count the connections to this endpoint.
	Counters Counters

	// failures in a row; zero after a connection that was made.
	failures atomic.Uint32
	// ejections in a row, for the backoff; guarded by Set.mu.
	ejections uint32
	// ejectedUntil is in Unix nanoseconds; zero when not ejected.
	ejectedUntil atomic.Int64
}

// Ejected reports whether the endpoint is out of the choice at the given time.
func (e *Endpoint) Ejected(now time.Time) bool {
	return e.ejectedAt(now.UnixNano())
}

func (e *Endpoint) ejectedAt(now int64) bool {
	return e.ejectedUntil.Load() > now
}

// Ejection is the rule by which an endpoint that does not answer leaves the
// choice for a while. Only failures to connect count: what happens on a
// connection later is between the client and the service, and a client must not
// be able to eject an endpoint.
type Ejection struct {
	// Failures in a row that eject. Zero: 3.
	Failures uint32
	// Base is how long the first ejection lasts; each further one in a row
	// lasts twice as long. Zero: 1 s.
	Base time.Duration
	// Max bounds an ejection. Zero: 60 s.
	Max time.Duration
}

// Defaults of [Ejection].
const (
	defaultFailures = 3
	defaultBase     = time.Second
	defaultMax      = time.Minute
)

func (e Ejection) withDefaults() Ejection {
	if e.Failures == 0 {
		e.Failures = defaultFailures
	}
	if e.Base <= 0 {
		e.Base = defaultBase
	}
	if e.Max <= 0 {
		e.Max = defaultMax
	}
	return e
}

// backoff is how long the nth ejection in a row lasts, from 0.
func (e Ejection) backoff(n uint32) time.Duration {
	d := e.Base
	for range n {
		if d >= e.Max {
			break
		}
		d *= 2
	}
	return min(d, e.Max)
}

package tally

import "time"

// Answer is what an admin server says of the gateways of its process.
type Answer struct {
	Gateways []Gateway `json:"gateways"`
}

// Find returns the gateway of a datacenter by the name in its reports.
func (a Answer) Find(datacenter, name string) (Gateway, bool) {
	for _, g := range a.Gateways {
		if g.Datacenter == datacenter && g.Name == name {
			return g, true
		}
	}
	return Gateway{}, false
}

// Gateway is one gateway.
type Gateway struct {
	Datacenter string `json:"datacenter"`
	// Name is the one in its reports, Proxy NODE/ID of the registration that it
	// runs by; empty when there is none.
	Name  string `json:"name"`
	Proxy string `json:"proxy"`
	// Started is when it began to count, Uptime the time since by a clock that is
	// never set: rates are by its differences.
	Started time.Time     `json:"started"`
	Uptime  time.Duration `json:"uptime_nanoseconds"`
	// State is what it does. Sequence is that of the routes stream that it runs.
	State    string `json:"state"`
	Sequence uint64 `json:"routes_sequence"`
	// SavedTableAge is the age in seconds of the saved table that it serves by; 0
	// when the routes stream was caught up with.
	SavedTableAge float64 `json:"saved_table_age_seconds"`

	// Accepted is every connection that was accepted, Open those that are, of
	// which HalfOpen wait for their ClientHello.
	Accepted uint64 `json:"connections_accepted"`
	Open     int64  `json:"connections_open"`
	HalfOpen int64  `json:"connections_half_open"`
	// Refused are the connections that were not joined to an endpoint, by reason;
	// reasons that did not occur are missing.
	Refused map[string]uint64 `json:"refused"`
	// ConnectFailures is attempts at endpoints that failed, Ejections how many
	// endpoints were ejected.
	ConnectFailures uint64 `json:"connect_failures"`
	Ejections       uint64 `json:"ejections"`
	// BytesIn is from clients to endpoints, BytesOut back.
	BytesIn  uint64 `json:"bytes_in"`
	BytesOut uint64 `json:"bytes_out"`

	// Routes are those that were used, sorted by name; RoutesLeftOut is how many
	// more there are, which have fewer connections than any of these.
	Routes        []Route `json:"routes"`
	RoutesLeftOut int     `json:"routes_left_out"`
}

// RefusedTotal is how many connections were refused, for whatever reason.
func (g *Gateway) RefusedTotal() uint64 {
	var n uint64
	for _, count := range g.Refused {
		n += count
	}
	return n
}

// Route is one route of a gateway.
type Route struct {
	Name string `json:"route"`
	// Connections is how many were joined to an endpoint, Open how many still are.
	Connections uint64 `json:"connections"`
	Open        int64  `json:"connections_open"`
	// Failures is the connections that were refused: no endpoint answered, there
	// was none, or the route had as many connections as it may.
	Failures uint64 `json:"refused"`
	// ConnectFailures is attempts at endpoints that failed; the next one may have
	// answered.
	ConnectFailures uint64 `json:"connect_failures"`
	BytesIn         uint64 `json:"bytes_in"`
	BytesOut        uint64 `json:"bytes_out"`
	// Live is how many endpoints connections may go to, EjectedCount how many are
	// ejected, and Ejected the names of the first of those.
	Live         int      `json:"endpoints_live"`
	EjectedCount int      `json:"endpoints_ejected"`
	Ejected      []string `json:"ejected"`
}

// Used reports whether there is anything to say of the route.
func (r *Route) Used() bool {
	return r.Connections > 0 || r.Failures > 0 || r.ConnectFailures > 0 || r.EjectedCount > 0
}

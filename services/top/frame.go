package top

import "time"

// Frame is the state of gateways and routes at one moment: a document of
// `isthmus gateways top -o json`, or one drawing of the table. Numbers that are
// not known are null, and so are rates before there were two readings.
type Frame struct {
	Time time.Time `json:"time"`
	// Trouble is what is wrong with the reading of all; empty when nothing is.
	Trouble  string    `json:"trouble"`
	Gateways []Gateway `json:"gateways"`
	Routes   []Route   `json:"routes"`
	// RoutesLeftOut is how many routes more there are than the limit, or than the
	// gateways said.
	RoutesLeftOut int `json:"routes_left_out"`
}

// Rates are changes a second, over the time between two readings.
type Rates struct {
	Connections *float64 `json:"connections_per_second"`
	Refused     *float64 `json:"refused_per_second"`
	BytesIn     *float64 `json:"bytes_in_per_second"`
	BytesOut    *float64 `json:"bytes_out_per_second"`
}

// Gateway is one gateway's row.
type Gateway struct {
	Datacenter string `json:"datacenter"`
	Name       string `json:"name"`
	// From is where the numbers come from, and Age how old they are in seconds;
	// Trouble is why they do not come from the admin server.
	From    From    `json:"from"`
	Age     float64 `json:"age_seconds"`
	Trouble string  `json:"trouble"`
	State   string  `json:"state"`
	// SavedTableAge is that of the saved table that it serves by, in seconds.
	SavedTableAge float64 `json:"saved_table_age_seconds"`
	// Sequence is that of the routes stream that it runs.
	Sequence uint64 `json:"routes_sequence"`
	// Seconds is the time over which the rates were measured.
	Seconds *float64 `json:"measured_seconds"`
	Rates
	Open        int64  `json:"connections_open"`
	Connections uint64 `json:"connections_accepted"`
	Refused     uint64 `json:"refused"`
	// RefusedBy is Refused by reason; null when only the sum is known.
	RefusedBy map[string]uint64 `json:"refused_by_reason"`
	// ConnectFailures and Ejections are null in a report.
	ConnectFailures *uint64 `json:"connect_failures"`
	Ejections       *uint64 `json:"ejections"`
	BytesIn         uint64  `json:"bytes_in"`
	BytesOut        uint64  `json:"bytes_out"`
}

// Route is one route's row: over all gateways of a datacenter, or of one.
type Route struct {
	Datacenter string `json:"datacenter"`
	// Gateway is empty when the row is of all.
	Gateway string `json:"gateway,omitzero"`
	Name    string `json:"route"`
	// Partial: a gateway that carries it did not say all, so that what is open,
	// refused or failed is that and more.
	Partial bool `json:"partial"`
	Rates
	// Connections is how many were joined to an endpoint, Open how many still are.
	Connections uint64 `json:"connections"`
	Open        *int64 `json:"connections_open"`
	// Refused is connections, ConnectFailures attempts at single endpoints.
	Refused         *uint64 `json:"refused"`
	ConnectFailures *uint64 `json:"connect_failures"`
	BytesIn         uint64  `json:"bytes_in"`
	BytesOut        uint64  `json:"bytes_out"`
	// Live is how many endpoints connections may go to, by the gateway that sees
	// the fewest. EjectedCount is how many are ejected by the gateway that ejected
	// most, and Ejected the names that any gave.
	Live         *int     `json:"endpoints_live"`
	EjectedCount *int     `json:"endpoints_ejected"`
	Ejected      []string `json:"ejected"`
}

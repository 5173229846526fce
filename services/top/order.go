package top

import (
	"cmp"
	"slices"
)

// Order is what routes are sorted by.
type Order string

// The orders: all but by name put the greatest first.
const (
	ByConnections Order = "connections"
	ByRate        Order = "rate"
	ByBytes       Order = "bytes"
	ByRefusals    Order = "refusals"
	ByName        Order = "name"
)

// Orders lists them.
func Orders() []Order { return []Order{ByConnections, ByRate, ByBytes, ByRefusals, ByName} }

// Arrange sorts the routes of a frame, and leaves out those beyond the limit. A
// limit of zero leaves none out.
func (f *Frame) Arrange(order Order, limit int) {
	slices.SortFunc(f.Routes, func(a, b Route) int {
		return cmp.Or(order.compare(&a, &b), byPlace(a, b))
	})
	if limit > 0 && len(f.Routes) > limit {
		f.RoutesLeftOut += len(f.Routes) - limit
		f.Routes = f.Routes[:limit]
	}
}

// byPlace is the order of routes that are equal otherwise.
func byPlace(a, b Route) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Datacenter, b.Datacenter), cmp.Compare(a.Gateway, b.Gateway))
}

func (o Order) compare(a, b *Route) int {
	switch o {
	case ByName:
		return 0
	case ByRate:
		return cmp.Or(descending(a.Rates.Connections, b.Rates.Connections), cmp.Compare(b.Connections, a.Connections))
	case ByBytes:
		return cmp.Or(descending(a.bytes(), b.bytes()), cmp.Compare(b.BytesIn+b.BytesOut, a.BytesIn+a.BytesOut))
	case ByRefusals:
		return cmp.Or(descending(a.Rates.Refused, b.Rates.Refused), descending(a.Refused, b.Refused))
	}
	return cmp.Or(descending(a.Open, b.Open), descending(a.Rates.Connections, b.Rates.Connections), cmp.Compare(b.Connections, a.Connections))
}

// bytes is both directions together.
func (r *Route) bytes() *float64 { return merge(r.Rates.BytesIn, r.Rates.BytesOut, sum) }

// descending puts the greater first, and what is not known last.
func descending[N cmp.Ordered](a, b *N) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Compare(*b, *a)
}

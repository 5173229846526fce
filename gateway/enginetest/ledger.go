package enginetest

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// ledger collects the records of an engine. Those of connections that end together
// come in no order, so a test asks for that of one connection.
type ledger struct {
	mu sync.Mutex
	// all is every record; waiting those that nobody asked for yet, by peer.
	all     []*table.Record
	waiting map[netip.AddrPort][]*table.Record
	// more is closed when there is one more.
	more chan struct{}
}

func newLedger() *ledger {
	return &ledger{waiting: make(map[netip.AddrPort][]*table.Record), more: make(chan struct{})}
}

func (l *ledger) add(record *table.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, record)
	l.waiting[record.Peer] = append(l.waiting[record.Peer], record)
	close(l.more)
	l.more = make(chan struct{})
}

// take takes the record of a peer, or returns what tells of more.
func (l *ledger) take(peer netip.AddrPort) (*table.Record, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := l.waiting[peer]
	if len(waiting) == 0 {
		return nil, l.more
	}
	if len(waiting) == 1 {
		delete(l.waiting, peer)
	} else {
		l.waiting[peer] = waiting[1:]
	}
	return waiting[0], nil
}

// of waits for the record of a client's connection.
func (l *ledger) of(t *testing.T, client *end) *table.Record {
	t.Helper()
	return l.from(t, client.local())
}

// from waits for the record of a connection from an address.
func (l *ledger) from(t *testing.T, peer netip.AddrPort) *table.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		record, more := l.take(peer)
		if record != nil {
			return record
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("there is no record of the connection from %s", peer)
		}
	}
}

// snapshot is every record so far.
func (l *ledger) snapshot() []*table.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// sums is what records add up to.
type sums struct{ connections, in, out uint64 }

func (s *sums) add(record *table.Record) {
	s.connections++
	s.in += record.BytesIn
	s.out += record.BytesOut
}

// audit checks that everything adds up after all has ended.
func (l *ledger) audit(t *testing.T, stats table.EngineStats, tab *table.Table) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if stats.Open != 0 || stats.HalfOpen != 0 {
		t.Errorf("%d connections and %d waiting are left after the drain", stats.Open, stats.HalfOpen)
	}
	if stats.Accepted != uint64(len(l.all)) {
		t.Errorf("%d connections were accepted; there are %d records", stats.Accepted, len(l.all))
	}
	reasons := make(map[table.Reason]uint64)
	var total sums
	for _, record := range l.all {
		reasons[record.Reason]++
		total.add(record)
	}
	for _, reason := range table.Reasons() {
		if stats.Ended[reason] != reasons[reason] {
			t.Errorf("%d connections ended for %s; %d records say so", stats.Ended[reason], reason, reasons[reason])
		}
	}
	if stats.BytesIn != total.in || stats.BytesOut != total.out {
		t.Errorf("%d and %d bytes are counted; the records have %d and %d", stats.BytesIn, stats.BytesOut, total.in, total.out)
	}
	if tab != nil {
		l.auditTable(t, tab)
	}
}

// auditTable compares the records with the counters of routes and endpoints.
func (l *ledger) auditTable(t *testing.T, tab *table.Table) {
	t.Helper()
	routes := make(map[string]*sums)
	endpoints := make(map[[2]string]*sums)
	for _, record := range l.all {
		if record.Endpoint == "" {
			continue
		}
		add(routes, record.Route, record)
		add(endpoints, [2]string{record.Route, record.Endpoint}, record)
	}
	for route := range tab.All {
		compare(t, "route "+route.Name, route.Counters, routes[route.Name])
		if busy := route.Counters.Busy.Load(); busy != 0 {
			t.Errorf("%d connections are busy on %s after all ended", busy, route.Name)
		}
		for _, e := range route.Endpoints.Endpoints() {
			compare(t, "endpoint "+e.Name, &e.Counters, endpoints[[2]string{route.Name, e.Name}])
		}
	}
}

func add[K comparable](to map[K]*sums, key K, record *table.Record) {
	if to[key] == nil {
		to[key] = &sums{}
	}
	to[key].add(record)
}

func compare(t *testing.T, what string, counters *table.Counters, want *sums) {
	t.Helper()
	if want == nil {
		want = &sums{}
	}
	got := sums{counters.Connections.Load(), counters.BytesIn.Load(), counters.BytesOut.Load()}
	if got != *want || counters.Open.Load() != 0 {
		t.Errorf("%s counts %+v and %d open; the records have %+v", what, got, counters.Open.Load(), *want)
	}
}

package gateway

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Feed is the machine that turns the routes stream into tables. One goroutine
// applies; any may read.
type Feed struct {
	current atomic.Pointer[table.Table]

	// mu guards the builder: transactions and host names come from different
	// goroutines.
	mu      sync.Mutex
	builder *table.Builder
	// savedAt is when the table was saved that is still in use; zero when the
	// table is the stream's.
	savedAt time.Time
	whole   bool

	// changed gets a token when the table or a set has changed since the last
	// one was taken.
	changed chan struct{}
}

var _ bus.Machine = (*Feed)(nil)

// NewFeed returns a feed with an empty table.
func NewFeed(ejection table.Ejection) *Feed {
	f := &Feed{builder: table.NewBuilder(ejection), changed: make(chan struct{}, 1)}
	f.current.Store(f.builder.Table())
	return f
}

// Follow makes the tables have the registration named NODE/ID, or ID where that
// is unique. It is called before anything is applied.
func (f *Feed) Follow(proxy string) { f.builder.Follow(proxy) }

// Narrow says which node the registration is on, for an ID that several have.
func (f *Feed) Narrow(node string) {
	f.mu.Lock()
	changed := f.builder.Narrow(node)
	f.current.Store(f.builder.Table())
	f.mu.Unlock()
	if changed {
		f.note()
	}
}

// Table returns the present table. It never waits.
func (f *Feed) Table() *table.Table { return f.current.Load() }

// Apply takes a transaction of the routes stream.
func (f *Feed) Apply(t *isthmusv1.Transaction) {
	f.apply(t, time.Time{})
}

// applySaved takes a table that was saved at a time.
func (f *Feed) applySaved(t *isthmusv1.Transaction, at time.Time) {
	f.apply(t, at)
}

func (f *Feed) apply(t *isthmusv1.Transaction, savedAt time.Time) {
	f.mu.Lock()
	f.current.Store(f.builder.Apply(t))
	f.savedAt, f.whole = savedAt, true
	f.mu.Unlock()
	f.note()
}

func (f *Feed) note() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Changed returns the channel that gets a token after a change. One goroutine
// should take from it.
func (f *Feed) Changed() <-chan struct{} { return f.changed }

// Whole reports whether there is a table, and when it was saved if it is a saved
// one.
func (f *Feed) Whole() (whole bool, savedAt time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.whole, f.savedAt
}

// HostNames returns the host names that are needed, sorted.
func (f *Feed) HostNames() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.builder.HostNames()
}

// Resolve says what a host name stands for, and reports whether that is new.
func (f *Feed) Resolve(host string, addresses []netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.builder.Resolve(host, addresses)
}

// Endpoints returns what was seen of each endpoint in use, sorted by name.
func (f *Feed) Endpoints(now time.Time) []table.EndpointReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.builder.EndpointReports(now)
}

// Mesh returns what the datacenter's nodes are told; nil when not known.
func (f *Feed) Mesh() *isthmusv1.MeshRoutes {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.builder.Mesh()
}

// values returns what the present table was made of, with the table.
func (f *Feed) values() (*table.Table, []table.KeyValue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.builder.Table(), f.builder.Values()
}

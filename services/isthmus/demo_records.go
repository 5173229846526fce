package main

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/sidecar"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

func countingDial(opened *atomic.Int64) func(context.Context, string, string) (net.Conn, error) {
	var dialer net.Dialer
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		opened.Add(1)
		return dialer.DialContext(ctx, network, address)
	}
}

// seen is one access-log record and who wrote it: a gateway or a sidecar.
type seen struct {
	datacenter string
	// gateway is its node's name, passed what it passed on.
	gateway string
	passed  *table.Record
	// proxy is NODE/ID, carried what it carried.
	proxy   string
	carried *sidecar.Record
}

// start is when the connection began.
func (s seen) start() time.Time {
	if s.passed != nil {
		return s.passed.Start
	}
	return s.carried.Start
}

// recorder collects the access-log records of every gateway and sidecar, so
// that the demo can prove which way traffic went.
type recorder struct {
	mu      sync.Mutex
	records []seen
	more    chan struct{} // closed and replaced at each record
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{})} }

// add takes a record.
func (r *recorder) add(s seen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, s)
	close(r.more)
	r.more = make(chan struct{})
}

// mark is a place in the order of records.
func (r *recorder) mark() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.records)
}

// since returns the records after a mark that match, in the order in which
// they came.
func (r *recorder) since(mark int, match func(seen) bool) []seen {
	out, _ := r.look(mark, match)
	return out
}

func (r *recorder) look(mark int, match func(seen) bool) ([]seen, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []seen
	for _, s := range r.records[mark:] {
		if match(s) {
			out = append(out, s)
		}
	}
	return out, r.more
}

// await waits until at least n records after the mark match, or ctx ends, and
// returns those that there are.
func (r *recorder) await(ctx context.Context, mark, n int, match func(seen) bool) []seen {
	for {
		out, more := r.look(mark, match)
		if len(out) >= n {
			return out
		}
		select {
		case <-more:
		case <-ctx.Done():
			return out
		}
	}
}

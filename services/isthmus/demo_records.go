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

// dialWatched makes connections of which each that the other side ends is counted. What
// the client ends by itself is not: net/http gives up a connection whose request it was
// too busy to see written when the answer came.
func dialWatched(lost *atomic.Int64) func(context.Context, string, string) (net.Conn, error) {
	var dialer net.Dialer
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &watchedConn{Conn: conn, lost: lost}, nil
	}
}

type watchedConn struct {
	net.Conn
	lost *atomic.Int64
	// ended: by the client, or counted.
	ended atomic.Bool
}

// Read reads, and counts the end.
func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && c.ended.CompareAndSwap(false, true) {
		c.lost.Add(1)
	}
	return n, err
}

// Close ends the connection from this side.
func (c *watchedConn) Close() error {
	c.ended.Store(true)
	return c.Conn.Close()
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

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// streamsPerConnection is below what a Consul agent takes (2048 of them, agent/grpc-external/server.go).
const streamsPerConnection = 500

// crowd is many stubs.
type crowd struct {
	stubs []*stub
	// clusters are the assignments that clusters wait for, by name and version.
	clusters sync.Map
	// whole waits until each stub that was connected last has what it is served.
	whole *tally
	// open are how many of the stubs have a stream.
	open    int
	conns   []*grpc.ClientConn
	ctx     context.Context //nolint:containedctx // That of the streams that are open.
	cancel  context.CancelFunc
	running sync.WaitGroup
	// looked is what the stubs look for now.
	looked atomic.Pointer[sought]

	sums sync.Mutex // guards what follows
	sent map[xdsnode.Type]*sum
}

// sum is what was sent of a type.
type sum struct {
	// responses, and the resources in them, named with their bytes.
	responses, resources, removed int
	bytes                         int64
}

// newCrowd makes a stub for each proxy.
func newCrowd(proxies []proxyName) *crowd {
	c := &crowd{sent: map[xdsnode.Type]*sum{}}
	for _, p := range proxies {
		c.stubs = append(c.stubs, newStub(c, p.node, p.id))
	}
	return c
}

// proxyName is how a proxy is known.
type proxyName struct{ node, id string }

// connect opens streams for the next stubs, until n have one. whole waits for these.
func (c *crowd) connect(ctx context.Context, n int, address string) error {
	if c.open == 0 {
		c.sums.Lock()
		c.sent = map[xdsnode.Type]*sum{}
		c.sums.Unlock()
		c.ctx, c.cancel = context.WithCancel(ctx)
	}
	whole := newTally(n - c.open)
	c.whole = whole
	for i, e := range c.stubs[c.open:n] {
		if i%streamsPerConnection == 0 {
			conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithReadBufferSize(64<<10))
			if err != nil {
				return err
			}
			c.conns = append(c.conns, conn)
		}
		conn, running := c.conns[len(c.conns)-1], c.ctx
		e.first = whole
		c.running.Go(func() {
			if err := e.run(running, conn); running.Err() == nil {
				c.failed(whole, fmt.Errorf("the stream of %s/%s ended: %w", e.node, e.id, err))
			}
		})
	}
	c.open = n
	return nil
}

// failed tells all who wait for streams that one has ended.
func (c *crowd) failed(whole *tally, why error) {
	whole.fail(why)
	if m := c.looked.Load(); m != nil {
		m.all.fail(why)
	}
}

// close closes all streams, and waits until they are.
func (c *crowd) close() error {
	if c.open == 0 {
		return nil
	}
	c.cancel()
	c.running.Wait()
	var err error
	for _, conn := range c.conns {
		err = errors.Join(err, conn.Close())
	}
	c.open, c.conns = 0, nil
	return err
}

// count adds what was sent.
func (c *crowd) count(t xdsnode.Type, r *discovery.DeltaDiscoveryResponse) {
	size := int64(proto.Size(r))
	c.sums.Lock()
	defer c.sums.Unlock()
	s := c.sent[t]
	if s == nil {
		s = &sum{}
		c.sent[t] = s
	}
	s.responses++
	s.resources += len(r.GetResources())
	s.removed += len(r.GetRemovedResources())
	s.bytes += size
}

// byType is what was sent since they connected.
func (c *crowd) byType() map[xdsnode.Type]sum {
	c.sums.Lock()
	defer c.sums.Unlock()
	out := map[xdsnode.Type]sum{}
	for t, s := range c.sent {
		out[t] = *s
	}
	return out
}

// quiet waits until nothing was sent for a second.
func (c *crowd) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quietWithin)
	defer cancel()
	last, same := -1, 0
	for same < 10 {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("it is never quiet: %w", context.Cause(ctx))
		}
		now := total(c.byType()).responses
		if same++; now != last {
			same = 0
		}
		last = now
	}
	return nil
}

// quietWithin is how long a server may go on sending after a change.
const quietWithin = 30 * time.Second

// sought is a text that assignments are searched for; it waits until so many of each stub
// have it.
type sought struct {
	text []byte
	each int
	all  *tally
}

// seek has all stubs look for a text, in so many of their assignments; so many will find
// it.
func (c *crowd) seek(text string, each, stubs int) *sought {
	m := &sought{text: []byte(text), each: each, all: newTally(stubs)}
	c.looked.Store(m)
	return m
}

// look looks in what an acknowledged response holds.
func (e *stub) look(r *discovery.DeltaDiscoveryResponse, now time.Time) {
	m := e.crowd.looked.Load()
	if m == nil {
		return
	}
	if e.by != m {
		e.by, e.marked = m, make(map[string]bool, m.each)
	}
	for _, resource := range r.GetResources() {
		if !e.marked[resource.GetName()] && bytes.Contains(resource.GetResource().GetValue(), m.text) {
			e.marked[resource.GetName()] = true
			if len(e.marked) == m.each {
				m.all.came(now)
			}
		}
	}
}

// tally waits for so many, and knows when each came.
type tally struct {
	mu   sync.Mutex
	left int
	at   []time.Time
	err  error
	done chan struct{}
}

func newTally(n int) *tally { return &tally{left: n, done: make(chan struct{})} }

// came counts one. More than were waited for do not count.
func (t *tally) came(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == 0 || t.err != nil {
		return
	}
	t.at = append(t.at, at)
	if t.left--; t.left == 0 {
		close(t.done)
	}
}

// fail ends the waiting.
func (t *tally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left > 0 && t.err == nil {
		t.err = err
		close(t.done)
	}
}

// errNotAll says that not all of those came who were waited for.
var errNotAll = errors.New("not all came")

// wait waits until all came, and returns when they did, in their order; with errNotAll
// those that came in time.
func (t *tally) wait(ctx context.Context, d time.Duration) ([]time.Time, error) {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	var err error
	select {
	case <-t.done:
	case <-timeout.C:
		err = errNotAll
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err = errors.Join(err, t.err); err != nil {
		err = fmt.Errorf("%w: %d, and %d are missing after %v", err, len(t.at), t.left, d)
	}
	return slices.Clone(t.at), err
}

// whileComing waits until all came, as long as some do.
func (t *tally) whileComing(ctx context.Context, d time.Duration) ([]time.Time, error) {
	for end, before := time.Now().Add(d), 0; ; {
		at, err := t.wait(ctx, min(stalled, time.Until(end)))
		if !errors.Is(err, errNotAll) || len(at) == before && before > 0 || !time.Now().Before(end) {
			return at, err
		}
		before = len(at)
	}
}

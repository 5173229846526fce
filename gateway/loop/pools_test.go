//go:build linux

package loop_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// exchange is a client that is answered on the far side's next connection.
func exchange(t *testing.T, s *served, f *far) {
	t.Helper()
	c := dialTo(t, s.address)
	say(t, c, greeting)
	on := f.next(t)
	hears(t, on, greeting)
	say(t, on, []byte("a"))
	hears(t, c, []byte("a"))
	resetNow(c)
	ends(t, on, syscall.ECONNRESET)
	s.record(t)
}

// A far side that ends silent connections at once gets none for a while.
func TestAFarSideWithoutPatience(t *testing.T) {
	f := newFar(t, "127.0.0.1")
	s, ready := primed(t, engine.Config{}, f, setOf(f.address))
	_ = ready.Close()
	await(t, "its end is seen", func() bool { return s.Stats().Ahead.Ended == 1 })
	for range 5 {
		exchange(t, s, f)
	}
	s.wants(t, table.AheadStats{Missed: 6, Ended: 1})
}

// Whoever speaks first is not used.
func TestAFarSideThatSpeaksFirst(t *testing.T) {
	f := newFar(t, "127.0.0.1")
	s, ready := primed(t, engine.Config{}, f, setOf(f.address))
	say(t, ready, []byte("220 ready"))
	ends(t, ready, syscall.ECONNRESET)
	exchange(t, s, f)
	s.wants(t, table.AheadStats{Missed: 2, Ended: 1})
}

func TestPoolsAreEmptied(t *testing.T) {
	for name, leave := range map[string]func(*far, *table.Set, *table.Endpoint){
		"ejected": func(_ *far, set *table.Set, e *table.Endpoint) { set.Failed(e, time.Now()) },
		"removed": func(_ *far, set *table.Set, e *table.Endpoint) {
			set.Replace(enginetest.Endpoints(netip.MustParseAddrPort("127.0.0.1:1")), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFar(t, "127.0.0.1")
			set := setOf(f.address, netip.MustParseAddrPort("127.0.0.1:1"))
			s, ready := primed(t, engine.Config{}, f, set)
			leave(f, set, set.Endpoints()[0])
			ends(t, ready, syscall.ECONNRESET)
			await(t, "nothing is ready", func() bool { return s.Stats().Ahead.Ready == 0 })
			s.wants(t, table.AheadStats{Missed: 1})
		})
	}
}

// Nothing is opened to the gateway itself.
func TestNothingIsOpenedToItself(t *testing.T) {
	set := setOf()
	s := serveOn(t, 1, engine.Config{OpenAhead: 4}, set)
	set.Replace(enginetest.Endpoints(s.address), nil)
	c := dialTo(t, s.address)
	say(t, c, greeting)
	_, _ = io.ReadAll(c)
	if r := s.record(t); r.Reason != table.ReasonConnectFailed {
		t.Errorf("the record says %+v", r)
	}
	if stats := s.Stats(); stats.Accepted != 1 || stats.Ahead != (table.AheadStats{}) {
		t.Errorf("the engine counts %+v", stats)
	}
}

// With more than three quarters of the connections in use there is nothing left
// for those that nobody has asked for.
func TestNothingIsOpenedUnderPressure(t *testing.T) {
	f := newFar(t, "127.0.0.1")
	s := serveOn(t, 1, engine.Config{OpenAhead: 8, MaxConnections: 8}, setOf(f.address))
	for i := range 7 {
		c := dialTo(t, s.address)
		say(t, c, greeting)
		await(t, "it is joined", func() bool { return s.route.Counters.Open.Load() == int64(i+1) })
	}
	await(t, "nothing is ready", func() bool { return s.Stats().Ahead.Ready == 0 })
	if got := s.Stats().Ahead; got.Used+got.Missed != 7 {
		t.Errorf("ahead is %+v; want 7 that were asked for", got)
	}
}

// The far side ends each ready connection at the moment at which a hello is written
// to it: no client fails, and nothing behind a hello is sent twice.
func TestEndsThatCrossHellos(t *testing.T) {
	const rounds = 300
	set := setOf()
	s := serveOn(t, 1, engine.Config{OpenAhead: 1}, set)
	var handlers sync.WaitGroup
	t.Cleanup(handlers.Wait)
	f := newFar(t, "0.0.0.0")
	tally := &tally{seen: make(map[string]int), conns: make(chan *net.TCPConn, 1<<14)}
	handlers.Go(func() {
		for c := range f.conns {
			handlers.Go(func() { tally.handle(c) })
		}
	})
	for i := range rounds {
		// A new address each time: an old one rests, once it was found to be
		// impatient.
		ip := netip.AddrFrom4([4]byte{127, 0, byte(1 + i/200), byte(1 + i%200)})
		at := netip.AddrPortFrom(ip, f.address.Port())
		set.Replace(enginetest.Endpoints(at), nil)
		answered(t, s, fmt.Sprintf("%06d", 2*i))
		r := tally.second(t, ip)
		switch i % 3 {
		case 0:
			go resetNow(r)
		case 1:
			go r.Close()
		case 2:
			tally.mu.Lock()
			tally.mute = r
			tally.mu.Unlock()
		}
		answered(t, s, fmt.Sprintf("%06d", 2*i+1))
	}
	s.drainNow()
	stats := s.Stats()
	if ahead := stats.Ahead; ahead.Repeated == 0 || ahead.Used+ahead.Missed != 2*rounds || ahead.Ready != 0 || stats.ConnectFailures != 0 {
		t.Errorf("the engine counts %+v", stats)
	}
	c := s.route.Counters
	if c.Connections.Load() != 2*rounds || c.Open.Load() != 0 || c.Busy.Load() != 0 || stats.BytesIn != c.BytesIn.Load() || stats.BytesIn != 2*rounds*uint64(len(greeting)+6) {
		t.Errorf("the route has counted %d connections, %d open, %d busy, %d bytes; the engine %d", c.Connections.Load(), c.Open.Load(), c.Busy.Load(), c.BytesIn.Load(), stats.BytesIn)
	}
	tally.mu.Lock()
	defer tally.mu.Unlock()
	for i := range 2 * rounds {
		if n := tally.seen[fmt.Sprintf("%06d", i)]; n != 1 {
			t.Errorf("what client %d said behind its hello was seen %d times", i, n)
		}
	}
}

// answered is a client that says something behind the hello once it has heard from
// the far side, and must be told it again.
func answered(t *testing.T, s *served, text string) {
	t.Helper()
	c := dialTo(t, s.address)
	defer c.Close()
	say(t, c, greeting)
	hears(t, c, []byte("ok"))
	say(t, c, []byte(text))
	_ = c.CloseWrite()
	hears(t, c, []byte(text))
	ends(t, c, io.EOF)
}

// tally is what a far side has seen.
type tally struct {
	mu   sync.Mutex
	seen map[string]int
	// conns are all connections, by the time of their coming.
	conns chan *net.TCPConn
	// mute is one that ends when it has read a hello.
	mute *net.TCPConn
}

// handle greets whoever says hello, and returns what comes behind it.
func (a *tally) handle(c *net.TCPConn) {
	defer c.Close()
	a.conns <- c
	if _, err := io.ReadFull(c, make([]byte, len(greeting))); err != nil {
		return
	}
	a.mu.Lock()
	mute := a.mute == c
	a.mu.Unlock()
	if mute {
		return
	}
	if _, err := c.Write([]byte("ok")); err != nil {
		return
	}
	b, err := io.ReadAll(c)
	if err != nil {
		return
	}
	a.mu.Lock()
	a.seen[string(b)]++
	a.mu.Unlock()
	_, _ = c.Write(b)
}

// second is the second connection to an address of the far side.
func (a *tally) second(t *testing.T, ip netip.Addr) *net.TCPConn {
	t.Helper()
	for n := 0; ; {
		select {
		case c := <-a.conns:
			if c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap() != ip {
				continue
			}
			if n++; n == 2 {
				return c
			}
		case <-time.After(patience):
			t.Fatal("no connection is opened ahead")
		}
	}
}

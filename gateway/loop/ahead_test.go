//go:build linux

package loop_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

var greeting = enginetest.HelloFor(away)

// primed is an engine of one loop that keeps one connection ready to the far side,
// which is returned with it. One client has been there before.
func primed(t *testing.T, cfg engine.Config, f *far, set *table.Set) (*served, *net.TCPConn) {
	t.Helper()
	cfg.OpenAhead = 1
	s := serveOn(t, 1, cfg, set)
	c := dialTo(t, s.address)
	say(t, c, greeting)
	fresh := f.next(t)
	hears(t, fresh, greeting)
	resetNow(fresh)
	ends(t, c, syscall.ECONNRESET)
	ready := f.next(t)
	await(t, "one is ready", func() bool { return s.Stats().Ahead.Ready == 1 })
	<-s.records
	return s, ready
}

// wants compares what was counted, but for those that expire on a slow machine.
func (s *served) wants(t *testing.T, want table.AheadStats) {
	t.Helper()
	got := s.Stats().Ahead
	got.Expired = 0
	if got != want {
		t.Errorf("ahead is %+v; want %+v", got, want)
	}
}

func TestAClientFindsAReadyConnection(t *testing.T) {
	f := newFar(t, "127.0.0.1")
	s, ready := primed(t, engine.Config{}, f, setOf(f.address))
	s.wants(t, table.AheadStats{Ready: 1, Missed: 1})
	c := dialTo(t, s.address)
	say(t, c, greeting)
	hears(t, ready, greeting)
	say(t, ready, []byte("answer"))
	hears(t, c, []byte("answer"))
	say(t, c, []byte("more"))
	hears(t, ready, []byte("more"))
	_ = c.CloseWrite()
	ends(t, ready, io.EOF)
	_ = ready.Close()
	ends(t, c, io.EOF)
	if r := s.record(t); r.Reason != table.ReasonDone || r.BytesIn != uint64(len(greeting)+4) || r.BytesOut != 6 || r.Attempts != 1 {
		t.Errorf("the record says %+v", r)
	}
	await(t, "another is ready", func() bool { return s.Stats().Ahead.Ready == 1 })
	s.wants(t, table.AheadStats{Ready: 1, Missed: 1, Used: 1})
	next := f.next(t)
	if cut := s.drainNow(); cut != 0 {
		t.Errorf("the drain cuts %d connections", cut)
	}
	ends(t, next, syscall.ECONNRESET)
	s.wants(t, table.AheadStats{Missed: 1, Used: 1})
}

// A far side that ends a connection without a word, having read the hello, is sent
// it again; the client's half-close too.
func TestAHelloIsRepeated(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn){"closed": func(c *net.TCPConn) { _ = c.Close() }, "reset": resetNow} {
		t.Run(name, func(t *testing.T) {
			f := newFar(t, "127.0.0.1")
			s, ready := primed(t, engine.Config{}, f, setOf(f.address))
			c := dialTo(t, s.address)
			say(t, c, greeting)
			_ = c.CloseWrite()
			hears(t, ready, greeting)
			ends(t, ready, io.EOF)
			another := f.next(t)
			end(ready)
			fresh := f.next(t)
			hears(t, fresh, greeting)
			ends(t, fresh, io.EOF)
			ends(t, closing(another), io.EOF)
			say(t, fresh, []byte("answer"))
			_ = fresh.Close()
			hears(t, c, []byte("answer"))
			ends(t, c, io.EOF)
			n := uint64(len(greeting))
			if r := s.record(t); r.Reason != table.ReasonDone || r.BytesIn != n || r.BytesOut != 6 || r.Attempts != 1 {
				t.Errorf("the record says %+v", r)
			}
			counters := s.route.Counters
			if counters.Connections.Load() != 2 || counters.Open.Load() != 0 || counters.Busy.Load() != 0 || counters.BytesIn.Load() != 2*n || counters.BytesOut.Load() != 6 {
				t.Errorf("the route's counters are wrong: %d connections, %d open, %d busy, %d and %d bytes", counters.Connections.Load(), counters.Open.Load(), counters.Busy.Load(), counters.BytesIn.Load(), counters.BytesOut.Load())
			}
			if stats := s.Stats(); stats.Ahead.Used != 1 || stats.Ahead.Repeated != 1 || stats.BytesIn != 2*n || stats.ConnectFailures != 0 {
				t.Errorf("the engine counts %+v", stats)
			}
		})
	}
}

// closing ends what is written, so that a later read of nothing is the end.
func closing(c *net.TCPConn) *net.TCPConn {
	_ = c.CloseRead()
	return c
}

// One byte of an answer, and nothing is repeated.
func TestAnAnsweredHelloIsNotRepeated(t *testing.T) {
	f := newFar(t, "127.0.0.1")
	s, ready := primed(t, engine.Config{}, f, setOf(f.address))
	for i := range 30 {
		c := dialTo(t, s.address)
		say(t, c, greeting)
		hears(t, ready, greeting)
		say(t, ready, []byte("a"))
		resetNow(ready)
		// The reset may overtake the byte on its second hop.
		if b, err := io.ReadAll(c); len(b) > 1 || err == nil {
			t.Fatalf("client %d reads %q, %v; want a byte at most, and a reset", i, b, err)
		}
		if r := s.record(t); r.Reason != table.ReasonEndpointReset || r.BytesOut > 1 {
			t.Errorf("the record says %+v", r)
		}
		ready = f.next(t)
		await(t, "one is ready", func() bool { return s.Stats().Ahead.Ready == 1 })
	}
	s.wants(t, table.AheadStats{Ready: 1, Missed: 1, Used: 30})
}

// What comes behind the hello may be early data, which is acted on at once: in the
// same read it is sent on a fresh connection, later it ends the right to repeat.
func TestEarlyData(t *testing.T) {
	f := newFar(t, "127.0.0.1")
	s, ready := primed(t, engine.Config{ConnectTimeout: 5 * time.Second}, f, setOf(f.address))
	c := dialTo(t, s.address)
	early := append(append([]byte(nil), greeting...), "early"...)
	say(t, c, early)
	fresh := f.next(t)
	hears(t, fresh, early)
	s.wants(t, table.AheadStats{Ready: 1, Missed: 2})
	resetNow(fresh)
	s.record(t)

	c = dialTo(t, s.address)
	say(t, c, greeting)
	hears(t, ready, greeting)
	say(t, c, []byte("early"))
	hears(t, ready, []byte("early"))
	if got := userTimeouts(t, f.address, ready.RemoteAddr()); got != 5000 {
		t.Errorf("TCP_USER_TIMEOUT is %d ms before the answer; want the budget", got)
	}
	say(t, ready, []byte("a"))
	hears(t, c, []byte("a"))
	if got := userTimeouts(t, f.address, ready.RemoteAddr()); got != 0 {
		t.Errorf("TCP_USER_TIMEOUT is %d ms after the answer: a slow receiver would be ended", got)
	}
	resetNow(ready)
	ends(t, c, syscall.ECONNRESET)
	s.record(t)

	ready = f.next(t)
	await(t, "one is ready", func() bool { return s.Stats().Ahead.Ready == 1 })
	c = dialTo(t, s.address)
	say(t, c, greeting)
	hears(t, ready, greeting)
	say(t, c, []byte("early"))
	hears(t, ready, []byte("early"))
	_ = ready.Close()
	ends(t, c, io.EOF)
	if got := s.Stats().Ahead; got.Used != 2 || got.Repeated != 0 {
		t.Errorf("ahead is %+v; want two used, none repeated", got)
	}
}

// userTimeouts is the TCP_USER_TIMEOUT, in milliseconds, of this process's socket
// that is connected to an address, from another.
func userTimeouts(t *testing.T, to netip.AddrPort, from net.Addr) int {
	t.Helper()
	for fd := range 1 << 10 {
		peer, err := unix.Getpeername(fd)
		if err != nil {
			continue
		}
		own, err := unix.Getsockname(fd)
		if err != nil {
			continue
		}
		p, is := peer.(*unix.SockaddrInet4)
		o, also := own.(*unix.SockaddrInet4)
		if is && also && p.Port == int(to.Port()) && o.Port == from.(*net.TCPAddr).Port {
			value, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatal("there is no such socket")
	return 0
}

// A client that resets while its hello is unanswered is passed on.
func TestAClientResetsUnanswered(t *testing.T) {
	f := newFar(t, "127.0.0.1")
	s, ready := primed(t, engine.Config{}, f, setOf(f.address))
	c := dialTo(t, s.address)
	say(t, c, greeting)
	hears(t, ready, greeting)
	resetNow(c)
	ends(t, ready, syscall.ECONNRESET)
	if r := s.record(t); r.Reason != table.ReasonClientReset || r.BytesIn != uint64(len(greeting)) {
		t.Errorf("the record says %+v", r)
	}
	if open := s.route.Counters.Open.Load(); open != 0 {
		t.Errorf("the route has %d open", open)
	}
	await(t, "another is ready", func() bool { return s.Stats().Ahead.Ready == 1 })
	s.wants(t, table.AheadStats{Ready: 1, Missed: 1, Used: 1})
}

// A far side that is silent from before the hello on is a failure of the endpoint:
// the next one is tried.
func TestASilentFarSide(t *testing.T) {
	f, other := newFar(t, "127.0.0.1"), newFar(t, "127.0.0.1")
	s, ready := primed(t, engine.Config{ConnectTimeout: 200 * time.Millisecond}, f, setOf(f.address, other.address))
	deafen(t, ready)
	deafen(t, f.listener)
	c := dialTo(t, s.address)
	say(t, c, greeting)
	spoken := other.next(t)
	hears(t, spoken, greeting)
	say(t, spoken, []byte("answer"))
	hears(t, c, []byte("answer"))
	resetNow(c)
	if r := s.record(t); r.Attempts != 2 || r.Endpoint != other.address.String() || r.BytesIn != uint64(len(greeting)) {
		t.Errorf("the record says %+v", r)
	}
	stats := s.Stats()
	if stats.Ahead.Used != 1 || stats.Ahead.Repeated != 1 || stats.ConnectFailures == 0 || stats.Ejections != 1 {
		t.Errorf("the engine counts %+v", stats)
	}
}

// deafen has a socket's kernel drop whatever comes for it: nothing on loopback
// lives that long.
func deafen(t *testing.T, socket syscall.Conn) {
	t.Helper()
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MINTTL, 255) })
	if err := errors.Join(err, inner); err != nil {
		t.Fatal(err)
	}
}

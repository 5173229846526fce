//go:build linux

package loop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// One more than may wait for a hello sends away the one that has waited longest, on
// whatever loop it is.
func TestTheOldestWaitingMakesRoom(t *testing.T) {
	const most, clients = 8, 40
	s := serveOn(t, 2, engine.Config{MaxConnections: 100, MaxHalfOpen: most, HelloTimeout: time.Hour}, setOf())
	var waiting []*net.TCPConn
	for range clients {
		c := dialTo(t, s.address)
		say(t, c, greeting[:1])
		waiting = append(waiting, c)
	}
	for range clients - most {
		if r := s.record(t); r.Reason != table.ReasonHalfOpenLimit {
			t.Errorf("the record says %+v", r)
		}
	}
	await(t, "as many wait as may", func() bool { return s.Stats().HalfOpen == most && s.Stats().Open == most })
	for _, c := range waiting {
		resetNow(c)
	}
	await(t, "all have left", func() bool { stats := s.Stats(); return stats.HalfOpen == 0 && stats.Open == 0 })
}

// A network is counted by the source that a PROXY header names, and its places are
// given back.
func TestConnectionsOfANetwork(t *testing.T) {
	f := newFar(t, "127.0.0.1")
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	s := serveOn(t, 2, engine.Config{MaxPerNetwork: 2, ProxyNetworks: []netip.Prefix{loopback}}, setOf(f.address))
	from := func(source string) *net.TCPConn {
		c := dialTo(t, s.address)
		say(t, c, fmt.Appendf(nil, "PROXY TCP4 %s 10.0.0.1 1000 443\r\n%s", source, greeting))
		return c
	}
	for range 3 {
		var open []*net.TCPConn
		for _, source := range []string{"192.0.2.1", "192.0.2.200", "198.51.100.1"} {
			open = append(open, from(source))
			hears(t, f.next(t), greeting)
		}
		if b, err := io.ReadAll(from("192.0.2.77")); err != nil || len(b) != 7 {
			t.Errorf("a third of a network reads %q, %v; want an alert", b, err)
		}
		if r := s.record(t); r.Reason != table.ReasonNetworkLimit || r.Client.Addr().String() != "192.0.2.77" {
			t.Errorf("the record says %+v", r)
		}
		for _, c := range open {
			resetNow(c)
			s.record(t)
		}
	}
}

// A listener that somebody else closes ends its Serve alone: its connections go on,
// and so do other listeners.
func TestAListenerIsClosed(t *testing.T) {
	f := newFar(t, "127.0.0.1")
	s := serveOn(t, 2, engine.Config{}, setOf(f.address))
	other := listenAt(t, "127.0.0.1:0")
	done := make(chan error, 1)
	go func() { done <- s.Serve(other) }()
	c := dialTo(t, other.AddrPort())
	say(t, c, greeting)
	on := f.next(t)
	hears(t, on, greeting)
	_ = other.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v; want %v", err, net.ErrClosed)
	}
	if late, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(other.AddrPort())); err == nil {
		_ = late.Close()
		t.Error("the closed listener still takes connections")
	}
	say(t, on, []byte("goes on"))
	hears(t, c, []byte("goes on"))
	exchange(t, s, f)
}

// Listeners of both families, and one of both at once.
func TestFamilies(t *testing.T) {
	f := newFar(t, "127.0.0.1")
	s := serveOn(t, 2, engine.Config{}, setOf(f.address))
	for _, at := range []struct{ listen, dial, sees string }{
		{"[::]:0", "127.0.0.1", "127.0.0.1"}, {"[::]:0", "::1", "::1"}, {"[::1]:0", "::1", "::1"}, {"0.0.0.0:0", "127.0.0.1", "127.0.0.1"},
	} {
		listener := listenAt(t, at.listen)
		s.serve(t, listener)
		c := dialTo(t, netip.AddrPortFrom(netip.MustParseAddr(at.dial), listener.AddrPort().Port()))
		say(t, c, greeting)
		on := f.next(t)
		hears(t, on, greeting)
		resetNow(on)
		ends(t, c, syscall.ECONNRESET)
		if r := s.record(t); r.Client.Addr().String() != at.sees || r.Client.Port() != uint16(c.LocalAddr().(*net.TCPAddr).Port) {
			t.Errorf("%s: the record says %v", at.listen, r.Client)
		}
	}
}

// Serve and Drain at once: whatever comes first, both return, and nothing listens.
func TestServeAndDrainAtOnce(t *testing.T) {
	for range 200 {
		s := serveOn(t, 2, engine.Config{}, setOf())
		listener := listenAt(t, "127.0.0.1:0")
		done := make(chan error, 1)
		go func() { done <- s.Serve(listener) }()
		s.drainNow()
		if err := <-done; err != nil {
			t.Fatalf("Serve: %v", err)
		}
		if c, err := net.Dial("tcp", listener.Addr().String()); err == nil {
			_ = c.Close()
			t.Fatal("the listener is open after the drain")
		}
	}
}

// told is a log that takes note of whether anything was said.
type told struct{ said *atomic.Bool }

func (told) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (l told) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "accepting is paused" {
		l.said.Store(true)
	}
	return nil
}
func (l told) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l told) WithGroup(string) slog.Handler      { return l }

// scarce is the environment of a process that has few descriptors.
const scarce = "ISTHMUS_TEST_SCARCE"

// Without descriptors accepting pauses; every connection that waited is accepted
// once there are some again.
func TestDescriptorsRunOut(t *testing.T) {
	if os.Getenv(scarce) == "" {
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDescriptorsRunOut$", "-test.v")
		command.Env = append(os.Environ(), scarce+"=1")
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	f := newFar(t, "127.0.0.1")
	var paused atomic.Bool
	s := serveOn(t, 2, engine.Config{Logger: slog.New(told{&paused})}, setOf(f.address))
	exchange(t, s, f)
	const clients = 20
	var waiting []*net.TCPConn
	for range clients {
		waiting = append(waiting, dialTo(t, s.address))
	}
	var taken []int
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 200
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	for _, c := range waiting {
		say(t, c, greeting)
	}
	await(t, "accepting pauses", paused.Load)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	for _, fd := range taken {
		_ = unix.Close(fd)
	}
	for range clients {
		on := f.next(t)
		hears(t, on, greeting)
		resetNow(on)
	}
	for _, c := range waiting {
		ends(t, c, syscall.ECONNRESET)
	}
	if stats := s.Stats(); stats.Accepted != clients+1 || stats.ConnectFailures != 0 {
		t.Errorf("the engine counts %+v", stats)
	}
}

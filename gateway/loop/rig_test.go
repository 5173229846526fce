//go:build linux

package loop_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/loop"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// patience bounds a wait for what would otherwise never come. No test depends on
// its length.
const patience = 30 * time.Second

// away is a server name of another datacenter.
const away = "web.default" + enginetest.Suffix

// served is an engine with one listener and one route, to another datacenter.
type served struct {
	*loop.Engine
	address  netip.AddrPort
	listener *engine.Listener
	set      *table.Set
	route    *table.Route
	records  chan *table.Record
}

// serveOn starts an engine of so many loops, which ends with the test.
func serveOn(t *testing.T, loops int, cfg engine.Config, set *table.Set) *served {
	t.Helper()
	before := runtime.GOMAXPROCS(loops)
	t.Cleanup(func() {
		if now := runtime.GOMAXPROCS(before); now != loops {
			t.Errorf("GOMAXPROCS is %d after the drain; it was %d", now, loops)
		}
	})
	s := &served{set: set, records: make(chan *table.Record, 1<<14)}
	s.route = &table.Route{Name: "*" + enginetest.Suffix, Wildcard: true, Datacenter: "dc2", Endpoints: set, Counters: new(table.Counters)}
	tab := new(table.Table).With([]*table.Route{s.route}, nil)
	if cfg.Table == nil {
		cfg.Table = func() *table.Table { return tab }
	}
	cfg.Record = func(r *table.Record) { s.records <- r }
	if cfg.Random == nil {
		cfg.Random = func() uint64 { return 0 }
	}
	var err error
	if s.Engine, err = loop.New(cfg); err != nil {
		t.Fatal(err)
	}
	s.listener = listenAt(t, "127.0.0.1:0")
	s.address = s.listener.AddrPort()
	s.serve(t, s.listener)
	return s
}

func (s *served) serve(t *testing.T, listener *engine.Listener) {
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.drainNow()
		if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

func (s *served) drainNow() uint64 {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	return s.Drain(over)
}

func listenAt(t *testing.T, address string) *engine.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := engine.Adopt(l.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// setOf is a set of endpoints that a failure ejects.
func setOf(addresses ...netip.AddrPort) *table.Set {
	set := table.NewSet(table.Ejection{Failures: 1, Base: time.Hour, Max: time.Hour})
	set.Replace(enginetest.Endpoints(addresses...), nil)
	return set
}

// far is the far side, whose connections a test takes one by one.
type far struct {
	listener *net.TCPListener
	address  netip.AddrPort
	conns    chan *net.TCPConn
}

func newFar(t *testing.T, host string) *far {
	t.Helper()
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // Its sockets have fewer options.
	l, err := plain.Listen(t.Context(), "tcp4", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	f := &far{listener: l.(*net.TCPListener), conns: make(chan *net.TCPConn, 1<<14)}
	f.address = f.listener.Addr().(*net.TCPAddr).AddrPort()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := f.listener.AcceptTCP()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			f.conns <- c
		}
	}()
	t.Cleanup(func() {
		_ = f.listener.Close()
		<-done
		close(f.conns)
		for c := range f.conns {
			_ = c.Close()
		}
	})
	return f
}

// next is the far side's next connection.
func (f *far) next(t *testing.T) *net.TCPConn {
	t.Helper()
	select {
	case c := <-f.conns:
		t.Cleanup(func() { _ = c.Close() })
		return c
	case <-time.After(patience):
		t.Fatal("nobody connects to the far side")
		return nil
	}
}

func dialTo(t *testing.T, address netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(address))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func say(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// hears reads exactly the bytes.
func hears(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes were read, %v; want the %d that were sent", n, err, len(want))
	}
}

// ends reads the end, or with a reset that.
func ends(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
		t.Fatalf("%d bytes were read, %v; want %v", n, err, want)
	}
}

// resetNow closes a connection with a reset.
func resetNow(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// await waits until something is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(patience); !is(); <-ticker.C {
		if time.Now().After(end) {
			t.Fatalf("it never comes to pass: %s", what)
		}
	}
}

func (s *served) record(t *testing.T) *table.Record {
	t.Helper()
	select {
	case r := <-s.records:
		return r
	case <-time.After(patience):
		t.Fatal("no record comes")
		return nil
	}
}

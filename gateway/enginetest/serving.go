package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// serving is what an engine does with its listeners.
func (s *suite) serving() []engineTest {
	return []engineTest{
		{"an engine needs a table", func(t *testing.T) {
			if _, err := s.newEngine(engine.Config{}); !errors.Is(err, engine.ErrNoTable) {
				t.Errorf("got %v", err)
			}
		}},
		{"several listeners are served", func(t *testing.T) {
			to := newEndpoint(t)
			r := s.start(t, engine.Config{}, tableTo(to.address))
			addresses := []netip.AddrPort{r.address}
			for _, ip := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
				listener := newListener(t, ip)
				addresses = append(addresses, listener.AddrPort())
				r.serve(listener)
			}
			for range 5 {
				for _, address := range addresses {
					r.address = address
					if record := r.once(to); record.Reason != table.ReasonDone {
						t.Errorf("the record says %+v", record)
					}
				}
			}
		}},
		{"a listener that is closed by another ends, its connections go on", func(t *testing.T) {
			to := newEndpoint(t)
			r := s.start(t, engine.Config{}, tableTo(to.address))
			listener := newListener(t, "127.0.0.1")
			served := make(chan error, 1)
			go func() { served <- r.Serve(listener) }()
			kept := r.address
			r.address = listener.AddrPort()
			client, far := r.join(to)
			if err := listener.Close(); err != nil {
				t.Error(err)
			}
			if err := <-served; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Serve: %v", err)
			}
			client.say("goes on")
			far.hear("goes on")
			_, _ = client.Close(), far.Close()
			r.address = kept
			r.once(to)
		}},
		{"where a listener was may be an endpoint", s.addressOfAnother},
		{"a listener that was closed before is not served", func(t *testing.T) {
			r := s.start(t, engine.Config{}, tableTo())
			listener := newListener(t, "127.0.0.1")
			_ = listener.Close()
			if err := r.Serve(listener); !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v", err)
			}
		}},
		{"a listener that comes after the drain is closed", func(t *testing.T) {
			r := s.start(t, engine.Config{}, tableTo())
			r.Drain(t.Context())
			listener := newListener(t, "127.0.0.1")
			if err := r.Serve(listener); err != nil {
				t.Error(err)
			}
			if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
				t.Error("the listener is still open")
			}
		}},
		{"listeners come and go while connections live", s.listenersComeAndGo},
		{"an engine that served nothing drains", func(t *testing.T) {
			e, err := s.newEngine(engine.Config{Table: fixed(tableTo())})
			if err != nil {
				t.Fatal(err)
			}
			if cut := e.Drain(t.Context()); cut != 0 {
				t.Errorf("%d connections were cut", cut)
			}
		}},
	}
}

// An address is the engine's own only as long as it listens there.
func (s *suite) addressOfAnother(t *testing.T) {
	listener := newListener(t, "127.0.0.1")
	r := s.start(t, engine.Config{}, tableTo(listener.AddrPort()))
	served := make(chan error, 1)
	go func() { served <- r.Serve(listener) }()
	probe := connect(t, listener.AddrPort())
	probe.write(HelloFor(Probe))
	probe.closes("alert 112, closed")
	probe.breakOff()
	_ = listener.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
	again, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(listener.AddrPort()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	if record := r.once(&endpoint{again, listener.AddrPort()}); record.Reason != table.ReasonDone {
		t.Errorf("the record says %+v", record)
	}
}

func (s *suite) listenersComeAndGo(t *testing.T) {
	to := newEndpoint(t)
	r := s.start(t, engine.Config{}, tableTo(to.address))
	client, far := r.join(to)
	var serving sync.WaitGroup
	kept := r.address
	for range 20 {
		listener := newListener(t, "127.0.0.1")
		serving.Go(func() {
			if err := r.Serve(listener); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Serve: %v", err)
			}
		})
		r.address = listener.AddrPort()
		r.once(to)
		_ = listener.Close()
		client.say("x")
		far.hear("x")
	}
	serving.Wait()
	r.address = kept
	r.once(to)
}

// swaps are what happens when tables change.
func (s *suite) swaps() []engineTest {
	return []engineTest{
		{"tables are swapped while connections live", s.tableSwaps},
		{"a connection keeps the endpoint that its name had", func(t *testing.T) {
			before, after := newEndpoint(t), listenAt(t, "127.0.0.2")
			one, two := positioned(tableTo(before.address)), positioned(tableTo(after.address))
			var current swappable
			current.Store(one)
			r := s.start(t, engine.Config{Table: current.Load}, nil)
			client, far := r.join(before)
			current.Store(two)
			if record := r.once(after); record.Routes != two.Routes || record.Endpoint != after.address.String() {
				t.Errorf("the record says %+v", record)
			}
			client.say("still here")
			far.hear("still here")
			client.finish()
			far.hearEnd()
			far.finish()
			if record := r.of(t, client); record.Routes != one.Routes || record.Endpoint != before.address.String() {
				t.Errorf("the record says %+v", record)
			}
		}},
	}
}

// Tables and sets are swapped while connections come: every one of them is served by
// one table or the other, and those that were open go on.
func (s *suite) tableSwaps(t *testing.T) {
	echoes := make([]netip.AddrPort, 3)
	for i := range echoes {
		echoes[i] = serve(t, collect).address
	}
	stays := newEndpoint(t)
	one, two := tableTo(stays.address), tableTo(echoes[1])
	var current swappable
	current.Store(one)
	r := s.start(t, engine.Config{Table: current.Load}, nil)
	client, far := r.join(stays)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	set := one.Lookup([]byte(Service)).Endpoints
	set.Replace(Endpoints(echoes[0]), nil)
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			current.Store([]*table.Table{two, one}[i%2])
			set.Replace(Endpoints(echoes[2*(i%2)]), nil)
		}
	})
	var coming sync.WaitGroup
	for worker := range 4 {
		coming.Go(func() {
			for i := range 50 {
				seen := collected(r.address, fmt.Sprintf("%d of %d", i, worker))
				if seen != seenBytes {
					t.Errorf("connection %d of %d: %s", i, worker, seen)
					return
				}
			}
		})
	}
	coming.Wait()
	stop()
	swapping.Wait()
	client.say("still here")
	far.hear("still here")
	for _, record := range r.snapshot() {
		if record.Reason != table.ReasonDone || record.Attempts != 1 {
			t.Errorf("the record says %+v", record)
		}
	}
}

// collected sends a text to a collector, and says what comes back.
func collected(address netip.AddrPort, text string) string {
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(address))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	b := append(HelloFor(Service), text...)
	if _, err := conn.Write(b); err != nil {
		return err.Error()
	}
	if err := conn.CloseWrite(); err != nil {
		return err.Error()
	}
	return ending(conn, b)
}

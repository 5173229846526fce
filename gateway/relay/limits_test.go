package relay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

func TestConnectionLimit(t *testing.T) {
	u := newUpstreams()
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tableTo("10.0.0.1:1")), MaxConnections: 1}, Dial: u.dial(t)})
	first := connect(t, r)
	near := sayHello(t, first, u)
	// The reset may come while the second one still connects.
	second, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(r.address))
	peer := ""
	if err == nil {
		peer = second.LocalAddr().String()
		_, err = second.Read(make([]byte, 1))
		_ = second.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the second connection ends with %v; want a reset", err)
	}
	if record := <-r.records; record.Reason != table.ReasonConnectionLimit || (peer != "" && record.Peer.String() != peer) {
		t.Errorf("the record says %+v", record)
	}
	write(t, near, "the first goes on")
	read(t, first, "the first goes on")
	_, _ = first.Close(), near.Close()
	<-r.records
	once(t, r, u)
}

func TestTheOldestWaitingMakesRoom(t *testing.T) {
	u := newUpstreams()
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tableTo("10.0.0.1:1")), MaxHalfOpen: 2, HelloTimeout: time.Hour}, Dial: u.dial(t)})
	silent := []*net.TCPConn{connect(t, r), connect(t, r), connect(t, r)}
	gone := 0
	for range 1 {
		record := <-r.records
		if record.Reason != table.ReasonHalfOpenLimit {
			t.Errorf("the record says %+v", record)
		}
		gone++
	}
	once(t, r, u)
	// Whoever was sent away is closed; the other two still wait.
	if waiting := r.Stats().HalfOpen; waiting > 2 {
		t.Errorf("%d wait; the limit is 2", waiting)
	}
	for _, c := range silent {
		_ = c.Close()
	}
}

func TestSharedMemoryOfLongHellos(t *testing.T) {
	u := newUpstreams()
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tableTo("10.0.0.1:1")), HelloFree: 100, HelloShared: 2000, HelloTimeout: time.Hour}, Dial: u.dial(t)})
	greeting := string(enginetest.HelloFor(api))
	if len(greeting) < 1200 || len(greeting) > 2000 {
		t.Fatalf("a hello has %d bytes; this test needs it to fit once and not twice", len(greeting))
	}
	// The first holds its share while it waits.
	first := connect(t, r)
	write(t, first, greeting[:len(greeting)-1])
	for r.LongHellos() == 0 {
		// The engine reads on its own; yielding is all there is to do.
		second := connect(t, r)
		_ = second.Close()
		<-r.records
	}
	second := connect(t, r)
	write(t, second, greeting)
	alert := hello.RecordOverflow.Record()
	if got, _ := io.ReadAll(second); string(got) != string(alert[:]) {
		t.Errorf("the second reads %q; want an alert", got)
	}
	_ = second.Close()
	if record := <-r.records; record.Reason != table.ReasonHelloMemory {
		t.Errorf("the record says %+v", record)
	}
	write(t, first, greeting[len(greeting)-1:])
	near := <-u.near
	read(t, near, greeting)
	if n := r.LongHellos(); n != 0 {
		t.Errorf("%d bytes are still counted after the hello was sent on", n)
	}
	// And now there is room again.
	once(t, r, u)
	_ = near.Close()
}

func TestDrainWaitsForConnections(t *testing.T) {
	u := newUpstreams()
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tableTo("10.0.0.1:1"))}, Dial: u.dial(t)})
	c := connect(t, r)
	near := sayHello(t, c, u)
	drained := make(chan uint64)
	go func() { drained <- r.Drain(t.Context()) }()
	// The listener is closed: a new connection is refused, at the latest when
	// the drain has begun.
	for {
		refused, err := net.Dial("tcp", r.address.String())
		if err != nil {
			break
		}
		_ = refused.Close()
	}
	write(t, c, "goes on")
	read(t, near, "goes on")
	_ = c.CloseWrite()
	readEnd(t, near)
	_ = near.Close()
	if cut := <-drained; cut != 0 {
		t.Errorf("%d connections were cut", cut)
	}
}

func TestDrainCutsWhatIsLeft(t *testing.T) {
	u := newUpstreams()
	dialling := make(chan struct{})
	answer := u.dial(t)
	tab := tableTo("10.0.0.1:1")
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tab), HelloTimeout: time.Hour, ConnectTimeout: time.Hour}, Dial: func(ctx context.Context, a netip.AddrPort) (relay.Conn, error) {
		if tab.Lookup([]byte(api)).Counters.Open.Load() > 0 {
			close(dialling)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return answer(ctx, a)
	}})
	open := connect(t, r)
	near := sayHello(t, open, u)
	write(t, near, "open")
	read(t, open, "open")
	silent := connect(t, r)
	trying := connect(t, r)
	write(t, trying, string(enginetest.HelloFor(api)))
	<-dialling
	over, cancel := context.WithCancel(t.Context())
	cancel()
	cut := r.Drain(over)
	// The silent one may still have stood in the queue of the listener.
	if cut < 2 || cut > 3 {
		t.Errorf("%d connections were cut; want the open, the dialling and perhaps the silent one", cut)
	}
	for _, c := range []net.Conn{open, silent, trying, near} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection goes on after the drain")
		}
	}
}

// Endpoints that refuse at once cost nothing, so one that answers is found
// behind many that are dead.
func TestTheOneThatAnswersIsFoundBehindManyThatRefuse(t *testing.T) {
	u := newUpstreams()
	answer := u.dial(t)
	var addresses []string
	for i := range 9 {
		addresses = append(addresses, fmt.Sprintf("10.0.0.%d:1", i+1))
	}
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tableTo(addresses...)), Random: func() uint64 { return 0 }}, Dial: func(ctx context.Context, address netip.AddrPort) (relay.Conn, error) {
		if address.String() != addresses[8] {
			return nil, errors.New("refused by the test")
		}
		return answer(ctx, address)
	}})
	c := connect(t, r)
	write(t, c, string(enginetest.HelloFor(api)))
	select {
	case near := <-u.near:
		_, _ = near.Close(), c.Close()
	case record := <-r.records:
		t.Errorf("the record says %+v", record)
	}
}

// Endpoints that are silent cost their budgets, and a client waits for three of
// those at most.
func TestSilentEndpointsAreTriedForThreeBudgets(t *testing.T) {
	tab := tableTo("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1", "10.0.0.5:1")
	tab.Lookup([]byte(api)).ConnectTimeout = time.Second
	now := time.Unix(1000, 0)
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tab)}, Now: func() time.Time { return now }, Dial: func(context.Context, netip.AddrPort) (relay.Conn, error) {
		now = now.Add(time.Second)
		return nil, context.DeadlineExceeded
	}})
	c := connect(t, r)
	write(t, c, string(enginetest.HelloFor(api)))
	_, _ = io.ReadAll(c)
	_ = c.Close()
	if record := <-r.records; record.Attempts != 3 || record.Reason != table.ReasonConnectFailed {
		t.Errorf("the record says %+v", record)
	}
}

package relay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const api = "api.default.dc1.internal.td"

// upstreams are connections that an engine dialled, handed to the test instead
// of to a network.
type upstreams struct{ near chan relay.Conn }

// dial gives the engine one end of a connection and the test the other.
func (u *upstreams) dial(t *testing.T) func(context.Context, netip.AddrPort) (relay.Conn, error) {
	return func(context.Context, netip.AddrPort) (relay.Conn, error) {
		ours, theirs := sockets(t, "tcp")
		u.near <- theirs
		return ours, nil
	}
}

func newUpstreams() *upstreams { return &upstreams{near: make(chan relay.Conn, 100)} }

// tableTo is a table in which api leads to the addresses.
func tableTo(addresses ...string) *table.Table {
	var list []netip.AddrPort
	for _, a := range addresses {
		list = append(list, netip.MustParseAddrPort(a))
	}
	t := enginetest.Setup{Names: map[string][]netip.AddrPort{api: list}}.Table()
	t.Routes = &isthmusv1.Position{Stream: "ROUTES_dc1", Sequence: 7}
	t.Basis = &isthmusv1.Basis{Positions: []*isthmusv1.Position{{Stream: "CATALOG_dc1", Sequence: 3}}}
	return t
}

func connect(t *testing.T, r *running) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(r.address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// sayHello sends a hello for api and reads it at the upstream.
func sayHello(t *testing.T, c *net.TCPConn, u *upstreams) relay.Conn {
	t.Helper()
	greeting := string(enginetest.HelloFor(api))
	write(t, c, greeting)
	near := <-u.near
	read(t, near, greeting)
	return near
}

// once makes a connection to api and ends it on both sides.
func once(t *testing.T, r *running, u *upstreams) {
	t.Helper()
	c := connect(t, r)
	near := sayHello(t, c, u)
	_ = near.Close()
	_ = c.Close()
}

func TestRecordOfAConnection(t *testing.T) {
	u, tab := newUpstreams(), tableTo("10.0.0.1:443")
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tab)}, Dial: u.dial(t)})
	c := connect(t, r)
	greeting := enginetest.HelloFor(strings.ToUpper(api))
	write(t, c, string(greeting))
	near := <-u.near
	read(t, near, string(greeting))
	write(t, near, "answer")
	read(t, c, "answer")
	route := tab.Lookup([]byte(api))
	endpoint := route.Endpoints.Endpoints()[0]
	if route.Counters.Open.Load() != 1 || endpoint.Counters.Open.Load() != 1 || r.Stats().Open != 1 || r.Stats().HalfOpen != 0 {
		t.Error("the open connection is not counted")
	}
	_ = c.CloseWrite()
	readEnd(t, near)
	_ = near.CloseWrite()
	record := <-r.records
	local := netip.MustParseAddrPort(c.LocalAddr().String())
	if record.Duration <= 0 || time.Since(record.Start) < record.Duration {
		t.Errorf("it began at %v and took %v", record.Start, record.Duration)
	}
	record.Start, record.Duration = time.Time{}, 0
	want := table.Record{
		Client: local, Peer: local, SNI: strings.ToUpper(api), Route: api, Endpoint: "10.0.0.1:443", Attempts: 1,
		BytesIn: uint64(len(greeting)), BytesOut: 6, Reason: table.ReasonDone, Routes: tab.Routes, Basis: tab.Basis,
	}
	if *record != want {
		t.Errorf("got %+v\nwant %+v", *record, want)
	}
	for _, counters := range []*table.Counters{route.Counters, &endpoint.Counters} {
		if counters.Connections.Load() != 1 || counters.Open.Load() != 0 || counters.BytesIn.Load() != uint64(len(greeting)) || counters.BytesOut.Load() != 6 {
			t.Errorf("counted %d connections, %d open, %d and %d bytes", counters.Connections.Load(), counters.Open.Load(), counters.BytesIn.Load(), counters.BytesOut.Load())
		}
	}
	stats := r.Stats()
	if stats.Accepted != 1 || stats.Ended[table.ReasonDone] != 1 || stats.BytesIn != uint64(len(greeting)) || stats.BytesOut != 6 || stats.Refused() != 0 {
		t.Errorf("stats %+v", stats)
	}
}

func TestReasonOfEachRefusal(t *testing.T) {
	refuse := func(context.Context, netip.AddrPort) (relay.Conn, error) {
		return nil, errors.New("refused by the test")
	}
	for _, test := range []struct {
		send   string
		table  *table.Table
		reason table.Reason
		detail string
		alert  hello.Alert
	}{
		{string(enginetest.HelloFor("127.0.0.1")), tableTo(), table.ReasonNoName, "", hello.UnrecognizedName},
		{string(enginetest.HelloFor("other")), tableTo(), table.ReasonUnknownName, "", hello.UnrecognizedName},
		{string(enginetest.HelloFor(api)), tableTo(), table.ReasonNoEndpoint, table.ErrEmpty.Error(), hello.InternalError},
		{string(enginetest.HelloFor(api)), tableTo("10.0.0.1:1"), table.ReasonConnectFailed, "10.0.0.1:1: refused by the test", hello.InternalError},
		{"\x16\x03\x01\x00\x00", tableTo(), table.ReasonHelloRefused, hello.ErrRecordEmpty.Error(), hello.UnexpectedMessage},
		{"GET / HTTP/1.0\r\n\r\n", tableTo(), table.ReasonNotTLS, "", 0},
	} {
		t.Run(string(test.reason), func(t *testing.T) {
			r := start(t, relay.Config{Config: engine.Config{Table: fixed(test.table)}, Dial: refuse})
			c := connect(t, r)
			write(t, c, test.send)
			want := ""
			if test.alert != 0 {
				alert := test.alert.Record()
				want = string(alert[:])
			}
			if got, err := io.ReadAll(c); err != nil || string(got) != want {
				t.Errorf("the client reads %q (%v); want %q", got, err, want)
			}
			_ = c.Close()
			record := <-r.records
			if record.Reason != test.reason || record.Detail != test.detail || record.Alert != uint8(test.alert) || record.Endpoint != "" {
				t.Errorf("the record says %+v", record)
			}
			if record.Routes != test.table.Routes || record.Basis != test.table.Basis {
				t.Errorf("the record has the basis %v", record.Basis)
			}
			if stats := r.Stats(); stats.Refused() != 1 {
				t.Errorf("stats %+v", stats)
			}
		})
	}
}

// A client that leaves without a word, like a check that the port is open, was not
// refused.
func TestClientThatLeavesIsNotRefused(t *testing.T) {
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tableTo())}})
	c := connect(t, r)
	_ = c.Close()
	if record := <-r.records; record.Reason != table.ReasonUnused {
		t.Errorf("the record says %+v", record)
	}
	if stats := r.Stats(); stats.Refused() != 0 {
		t.Errorf("stats %+v", stats)
	}
}

func TestNextEndpointWhenOneDoesNotAnswer(t *testing.T) {
	u, tab := newUpstreams(), tableTo("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")
	route := tab.Lookup([]byte(api))
	route.ConnectTimeout = 50 * time.Millisecond // Three of these must be enough for two, on a busy machine too.
	var dialled []string
	answer := u.dial(t)
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tab), Random: func() uint64 { return 0 }}, Dial: func(ctx context.Context, address netip.AddrPort) (relay.Conn, error) {
		if dialled = append(dialled, address.String()); len(dialled) < 3 {
			// Silent until its budget is over.
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return answer(ctx, address)
	}})
	once(t, r, u)
	record := <-r.records
	if record.Attempts != 3 || record.Endpoint != dialled[2] || dialled[0] == dialled[1] || dialled[1] == dialled[2] {
		t.Errorf("dialled %v; the record says %+v", dialled, record)
	}
	if stats := r.Stats(); stats.ConnectFailures != 2 {
		t.Errorf("%d failures counted", stats.ConnectFailures)
	}
	if n := route.Endpoints.Endpoints()[0].Counters.Failures.Load(); n != 1 {
		t.Errorf("%d failures of the first endpoint counted", n)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	var dialled atomic.Int32
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tableTo("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1")), Attempts: 2}, Dial: func(context.Context, netip.AddrPort) (relay.Conn, error) {
		dialled.Add(1)
		return nil, errors.New("no")
	}})
	c := connect(t, r)
	write(t, c, string(enginetest.HelloFor(api)))
	_, _ = io.ReadAll(c)
	_ = c.Close()
	if record := <-r.records; record.Attempts != 2 || dialled.Load() != 2 {
		t.Errorf("%d dialled; the record says %+v", dialled.Load(), record)
	}
}

func TestAnEndpointThatFailsIsEjected(t *testing.T) {
	u := newUpstreams()
	var bad atomic.Int32
	answer := u.dial(t)
	tab := tableTo("10.0.0.1:1", "10.0.0.2:1")
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tab), Random: func() uint64 { return 0 }}, Dial: func(ctx context.Context, address netip.AddrPort) (relay.Conn, error) {
		if address.Addr() == netip.MustParseAddr("10.0.0.1") {
			bad.Add(1)
			return nil, errors.New("no")
		}
		return answer(ctx, address)
	}})
	for range 5 {
		once(t, r, u)
		if record := <-r.records; record.Endpoint != "10.0.0.2:1" {
			t.Fatalf("the record says %+v", record)
		}
	}
	if bad.Load() != 3 || r.Stats().Ejections != 1 {
		t.Errorf("tried %d times, %d ejections; want 3 and 1", bad.Load(), r.Stats().Ejections)
	}
}

func TestProxyHeaderOnlyFromListedNetworks(t *testing.T) {
	const header = "PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n"
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, test := range []struct {
		name     string
		networks []netip.Prefix
		send     string
		reason   table.Reason
		client   string
	}{
		{"with a header", loopback, header, table.ReasonDone, "192.0.2.1:4711"},
		{"without a header", loopback, "", table.ReasonDone, ""},
		{"a header that states nothing", loopback, "PROXY UNKNOWN\r\n", table.ReasonDone, ""},
		{"a malformed header", loopback, "PROXY TCP9 x\r\n", table.ReasonProxyHeader, ""},
		{"from another network", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, header, table.ReasonNotTLS, ""},
		{"from no network", nil, header, table.ReasonNotTLS, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := newUpstreams()
			r := start(t, relay.Config{Config: engine.Config{Table: fixed(tableTo("10.0.0.1:1")), ProxyNetworks: test.networks}, Dial: u.dial(t)})
			c := connect(t, r)
			write(t, c, test.send)
			if test.reason == table.ReasonDone {
				// The upstream sees the hello and nothing of the header.
				near := sayHello(t, c, u)
				_, _ = c.CloseWrite(), near.Close()
			}
			_, _ = io.ReadAll(c)
			record := <-r.records
			want := test.client
			if want == "" {
				want = c.LocalAddr().String()
			}
			if record.Reason != test.reason || record.Client.String() != want || record.Peer.String() != c.LocalAddr().String() {
				t.Errorf("the record says %+v", record)
			}
		})
	}
}

func TestServeAfterDrainClosesTheListener(t *testing.T) {
	e, err := relay.New(engine.Config{Table: fixed(tableTo())})
	if err != nil {
		t.Fatal(err)
	}
	e.Drain(t.Context())
	listener := listen(t)
	if err := e.Serve(listener); err != nil {
		t.Error(err)
	}
	if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
		t.Error("the listener is still open")
	}
}

func TestServeTellsOfABrokenListener(t *testing.T) {
	e, err := relay.New(engine.Config{Table: fixed(tableTo())})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Drain(t.Context())
	listener := listen(t)
	_ = listener.Close()
	if err := e.Serve(listener); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestNewNeedsATable(t *testing.T) {
	if _, err := relay.New(engine.Config{}); !errors.Is(err, engine.ErrNoTable) {
		t.Errorf("got %v", err)
	}
}

// Tables and sets are swapped while connections come: every one of them is
// served by one table or the other, and those that were open go on.
func TestTableSwapsWhileConnectionsLive(t *testing.T) {
	u := newUpstreams()
	var current atomic.Pointer[table.Table]
	one, two := tableTo("10.0.0.1:1"), tableTo("10.0.0.2:1")
	current.Store(one)
	r := start(t, relay.Config{Config: engine.Config{Table: current.Load}, Dial: u.dial(t)})
	open := connect(t, r)
	near := sayHello(t, open, u)
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			current.Store([]*table.Table{two, one}[i%2])
			one.Lookup([]byte(api)).Endpoints.Replace(enginetest.Endpoints(netip.MustParseAddrPort([]string{"10.0.0.1:1", "10.0.0.3:1"}[i%2])), nil)
		}
	})
	for range 100 {
		once(t, r, u)
		if record := <-r.records; !strings.HasPrefix(record.Endpoint, "10.0.0.") {
			t.Fatalf("the record says %+v", record)
		}
	}
	close(stop)
	swapping.Wait()
	write(t, open, "still here")
	read(t, near, "still here")
}

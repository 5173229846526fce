package enginetest

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// places are the limits of how many connections one route, or one network, has.
func (s *suite) places() []engineTest {
	return []engineTest{
		{"a route has as many connections as the settings say", s.routeLimit},
		{"a route has as many connections as the engine allows", s.ownRouteLimit},
		{"a network has as many connections as the engine allows", s.networkLimit},
		{"a network that a PROXY header names has as many", s.proxiedNetworkLimit},
	}
}

// isFull asks for Service, and wants to be refused for the route's limit.
func (r *running) isFull() {
	r.t.Helper()
	client := r.ask()
	client.closes("alert 80, closed")
	_ = client.Close()
	if record := r.of(r.t, client); record.Reason != table.ReasonRouteLimit || record.Attempts != 0 || record.Route != Service {
		r.t.Errorf("the record says %+v", record)
	}
}

func (s *suite) routeLimit(t *testing.T) {
	to := newEndpoint(t)
	tab := tableTo(to.address)
	tab.Settings.MaxConnections = new(uint32(1))
	closed := *tab
	closed.Settings.MaxConnections = new(uint32(0))
	var current swappable
	current.Store(tab)
	// What the settings say goes before what the engine allows.
	r := s.start(t, engine.Config{Table: current.Load, MaxPerRoute: 5}, nil)
	client, far := r.join(to)
	r.isFull()
	_, _ = client.Close(), far.Close()
	r.of(t, client)
	r.once(to)
	current.Store(&closed)
	r.isFull()
	if busy := tab.Lookup([]byte(Service)).Counters.Busy.Load(); busy != 0 {
		t.Errorf("%d places are taken after all have left", busy)
	}
}

func (s *suite) ownRouteLimit(t *testing.T) {
	to := newEndpoint(t)
	r := s.start(t, engine.Config{MaxPerRoute: 2}, tableTo(to.address))
	client, far := r.join(to)
	r.join(to)
	r.isFull()
	_, _ = client.Close(), far.Close()
	r.of(t, client)
	r.once(to)
}

// connectFrom is connect from an address of the client's.
func connectFrom(t *testing.T, ip string, address netip.AddrPort) *end {
	t.Helper()
	c, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.ParseIP(ip)}, net.TCPAddrFromAddrPort(address))
	if err != nil {
		t.Skipf("!!! NOT TESTED WITH SEVERAL NETWORKS: %v !!!", err)
	}
	return hold(t, c)
}

func (s *suite) networkLimit(t *testing.T) {
	to := newEndpoint(t)
	r := s.start(t, engine.Config{MaxPerNetwork: 1}, tableTo(to.address))
	greeting := HelloFor(Service)
	from := func(ip string) (client, far *end) {
		client = connectFrom(t, ip, r.address)
		client.write(greeting)
		return client, to.greeted(t, greeting)
	}
	client, far := from("127.0.1.1")
	// Another of the same network is reset, maybe while it still connects.
	second, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 1, 2)}, net.TCPAddrFromAddrPort(r.address))
	if err == nil {
		second := hold(t, second)
		if _, err = second.Write([]byte("x")); err == nil {
			_, err = second.Read(make([]byte, 1))
		}
		if record := r.of(t, second); record.Reason != table.ReasonNetworkLimit || record.Alert != 0 {
			t.Errorf("the record says %+v", record)
		}
	}
	if !isReset(err) {
		t.Errorf("the second connection ends with %v; want a reset", err)
	}
	from("127.0.2.1")
	_, _ = client.Close(), far.Close()
	r.of(t, client)
	from("127.0.1.2")
}

func (s *suite) proxiedNetworkLimit(t *testing.T) {
	to := newEndpoint(t)
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	r := s.start(t, engine.Config{MaxPerNetwork: 1, ProxyNetworks: loopback}, tableTo(to.address))
	greeting := HelloFor(Service)
	from := func(source string) *end {
		client := connect(t, r.address)
		client.write(append(fmt.Appendf(nil, "PROXY TCP4 %s 192.0.2.2 4711 443\r\n", source), greeting...))
		return client
	}
	client := from("198.51.100.1")
	far := to.greeted(t, greeting)
	refused := from("198.51.100.2")
	refused.closes("alert 80, closed")
	_ = refused.Close()
	if record := r.of(t, refused); record.Reason != table.ReasonNetworkLimit || record.Client.Addr().String() != "198.51.100.2" {
		t.Errorf("the record says %+v", record)
	}
	from("203.0.113.1")
	to.greeted(t, greeting)
	_, _ = client.Close(), far.Close()
	r.of(t, client)
	from("198.51.100.2")
	to.greeted(t, greeting)
}

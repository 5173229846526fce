package enginetest

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// swappable is a table that a test swaps.
type swappable struct{ atomic.Pointer[table.Table] }

func names(name string, addresses ...netip.AddrPort) map[string][]netip.AddrPort {
	return map[string][]netip.AddrPort{name: addresses}
}

// ejecting is tableTo with a rule of ejection.
func ejecting(rule table.Ejection, addresses ...netip.AddrPort) *table.Table {
	set := table.NewSet(rule)
	set.Replace(Endpoints(addresses...), nil)
	return new(table.Table).With([]*table.Route{{Name: Service, Endpoints: set, Counters: new(table.Counters)}}, nil)
}

// endpoints are what happens where an endpoint refuses.
func (s *suite) endpoints() []engineTest {
	return []engineTest{
		{"the next endpoint when one refuses", func(t *testing.T) {
			dead, to := refusing(t), newEndpoint(t)
			tab := tableTo(dead, to.address)
			r := s.start(t, engine.Config{Random: first}, tab)
			record := r.once(to)
			if record.Reason != table.ReasonDone || record.Attempts != 2 || record.Endpoint != to.address.String() {
				t.Errorf("the record says %+v", record)
			}
			if n := r.Stats().ConnectFailures; n != 1 {
				t.Errorf("%d failures are counted", n)
			}
			if n := tab.Lookup([]byte(Service)).Endpoints.Endpoints()[0].Counters.Failures.Load(); n != 1 {
				t.Errorf("%d failures of the endpoint are counted", n)
			}
		}},
		{"attempts are bounded", func(t *testing.T) {
			r := s.start(t, engine.Config{Attempts: 2}, tableTo(refusing(t), refusing(t), refusing(t), refusing(t)))
			client := r.ask()
			client.closes("alert 80, closed")
			_ = client.Close()
			if record := r.of(t, client); record.Attempts != 2 || record.Reason != table.ReasonConnectFailed {
				t.Errorf("the record says %+v", record)
			}
			if n := r.Stats().ConnectFailures; n != 2 {
				t.Errorf("%d failures are counted", n)
			}
		}},
		// Endpoints that refuse at once cost nothing.
		{"the one that answers is found behind many that refuse", func(t *testing.T) {
			to := listenAt(t, "127.0.0.9")
			var addresses []netip.AddrPort
			for range 8 {
				addresses = append(addresses, refusing(t))
			}
			r := s.start(t, engine.Config{}, tableTo(append(addresses, to.address)...))
			for range 20 {
				if record := r.once(to); record.Endpoint != to.address.String() {
					t.Errorf("the record says %+v", record)
				}
			}
		}},
		{"an endpoint that fails three times is ejected", func(t *testing.T) {
			to := newEndpoint(t)
			r := s.start(t, engine.Config{Random: first}, ejecting(table.Ejection{Base: time.Hour, Max: time.Hour}, refusing(t), to.address))
			for i := range 5 {
				want := 2
				if i >= 3 {
					want = 1
				}
				if record := r.once(to); record.Endpoint != to.address.String() || record.Attempts != want {
					t.Errorf("connection %d: the record says %+v; want %d attempts", i, record, want)
				}
			}
			if stats := r.Stats(); stats.Ejections != 1 || stats.ConnectFailures != 3 {
				t.Errorf("stats %+v", stats)
			}
		}},
		{"an endpoint that was ejected returns", func(t *testing.T) {
			to, late := newEndpoint(t), newAsleep(t)
			// So short that it is over with the next connection.
			tab := ejecting(table.Ejection{Base: 1, Max: 1}, late.address, to.address)
			r := s.start(t, engine.Config{Random: first}, tab)
			for range 3 {
				r.once(to)
			}
			if stats := r.Stats(); stats.Ejections != 1 {
				t.Errorf("stats %+v", stats)
			}
			late.wake(t)
			client := r.ask()
			client.finish()
			// Nobody accepts there: that it has connected is all there is to see.
			counters := &tab.Lookup([]byte(Service)).Endpoints.Endpoints()[0].Counters
			r.until("the endpoint has a connection", func() bool { return counters.Connections.Load() == 1 })
		}},
		{"failures are forgotten with a connection", func(t *testing.T) {
			to, fickle := newEndpoint(t), newAsleep(t)
			tab := ejecting(table.Ejection{}, fickle.address, to.address)
			r := s.start(t, engine.Config{Random: first}, tab)
			counters := &tab.Lookup([]byte(Service)).Endpoints.Endpoints()[0].Counters
			r.once(to)
			r.once(to)
			fickle.wake(t)
			client := r.ask()
			r.until("the endpoint has a connection", func() bool { return counters.Connections.Load() == 1 })
			client.breakOff()
			r.of(t, client)
			fickle.sleep(t)
			r.once(to)
			if stats := r.Stats(); stats.Ejections != 0 || stats.ConnectFailures != 3 {
				t.Errorf("stats %+v", stats)
			}
		}},
		{"a gateway does not connect to itself", func(t *testing.T) { s.itself(t, "127.0.0.1", "127.0.0.1") }},
		{"a gateway that listens everywhere does not connect to itself", func(t *testing.T) { s.itself(t, "0.0.0.0", "127.0.0.3") }},
	}
}

// A catalog that has a gateway's own address as the way to another datacenter would
// have each connection passed on to the gateway itself without end.
func (s *suite) itself(t *testing.T, listens, named string) {
	var current swappable
	current.Store(tableTo())
	r := s.start(t, engine.Config{Table: current.Load}, nil)
	// A second listener, which the first one's connections lead to.
	second := newListener(t, listens)
	r.serve(second)
	own := netip.AddrPortFrom(netip.MustParseAddr(named), second.AddrPort().Port())
	// It is known when it serves.
	probe := connect(t, own)
	probe.write(HelloFor(Probe))
	probe.closes("alert 112, closed")
	_ = probe.Close()
	r.of(t, probe)
	before := r.Stats().Accepted
	current.Store(tableTo(own))
	client := r.ask()
	client.closes("alert 80, closed")
	_ = client.Close()
	record := r.of(t, client)
	if record.Reason != table.ReasonConnectFailed || !strings.Contains(record.Detail, engine.ErrOwn.Error()) {
		t.Errorf("%s: %s", record.Reason, record.Detail)
	}
	if n := r.Stats().Accepted - before; n != 1 {
		t.Errorf("%d connections came of one", n)
	}
}

// timeouts are what happens where an endpoint is silent.
func (s *suite) timeouts() []engineTest {
	const short = 300 * time.Millisecond
	out := []engineTest{
		{"the next endpoint when one is silent", func(t *testing.T) {
			to := newEndpoint(t)
			tab := tableTo(silent(t), to.address)
			tab.Lookup([]byte(Service)).ConnectTimeout = short
			r := s.start(t, engine.Config{Random: first}, tab)
			if record := r.once(to); record.Attempts != 2 || record.Endpoint != to.address.String() {
				t.Errorf("the record says %+v", record)
			}
			if n := r.Stats().ConnectFailures; n != 1 {
				t.Errorf("%d failures are counted", n)
			}
		}},
		{"one silent and one that refuses before one that answers", func(t *testing.T) {
			to := newEndpoint(t)
			tab := tableTo(silent(t), refusing(t), to.address)
			tab.Lookup([]byte(Service)).ConnectTimeout = short
			r := s.start(t, engine.Config{Random: first}, tab)
			record := r.once(to)
			if n := r.Stats().ConnectFailures; record.Attempts < 2 || uint64(record.Attempts) != n+1 || record.Endpoint != to.address.String() {
				t.Errorf("%d failures are counted; the record says %+v", n, record)
			}
		}},
		// A client waits for three budgets at most, on a busy machine for fewer.
		{"silent endpoints are tried for three budgets", func(t *testing.T) {
			var addresses []netip.AddrPort
			for range 5 {
				addresses = append(addresses, silent(t))
			}
			tab := tableTo(addresses...)
			tab.Lookup([]byte(Service)).ConnectTimeout = short
			r := s.start(t, engine.Config{}, tab)
			client := r.ask()
			client.closes("alert 80, closed")
			_ = client.Close()
			record := r.of(t, client)
			if record.Attempts < 2 || record.Attempts > 3 || record.Reason != table.ReasonConnectFailed || !strings.HasSuffix(record.Detail, ": i/o timeout") {
				t.Errorf("the record says %+v", record)
			}
		}},
	}
	// The time that an endpoint has is its route's, then the engine's as configured,
	// then the registration's. The one that counts is short, the others endless.
	for _, c := range []struct {
		name                          string
		route, configured, registered time.Duration
	}{
		{"of the route", short, time.Hour, time.Hour},
		{"of the engine", 0, short, time.Hour},
		{"of the registration", 0, 0, short},
	} {
		out = append(out, engineTest{"the time to connect is that " + c.name, func(t *testing.T) {
			address := silent(t)
			tab := tableTo(address)
			tab.Lookup([]byte(Service)).ConnectTimeout = c.route
			tab.Settings.ConnectTimeout = c.registered
			r := s.start(t, engine.Config{ConnectTimeout: c.configured}, tab)
			client := r.ask()
			client.closes("alert 80, closed")
			_ = client.Close()
			want := address.String() + ": dial tcp " + address.String() + ": i/o timeout"
			if record := r.of(t, client); record.Detail != want || record.Attempts != 1 {
				t.Errorf("the record says %+v; want %q", record, want)
			}
		}})
	}
	return out
}

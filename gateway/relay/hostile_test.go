package relay_test

import (
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

const (
	hostileClients = 5000
	// perClient is the most that one may cost, the test's own end included.
	perClient = 64 << 10
)

// memory is what the process uses, after everything unused is given back.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// 5,000 hostile clients at once cost little each, and a good one passes all the
// same, with so many before it in the queue.
func TestHostileClients(t *testing.T) {
	u := newUpstreams()
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tableTo("10.0.0.1:1")), HelloTimeout: time.Hour, MaxConnections: hostileClients + 100, MaxHalfOpen: hostileClients}, Dial: u.dial(t)})
	payloads := make([][]byte, 8)
	for n := range payloads {
		payloads[n] = enginetest.Hostile(n)
	}
	clients := make([]net.Conn, 0, hostileClients)
	before := memory()
	for n := range hostileClients {
		c, err := net.Dial("tcp", r.address.String())
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		if _, err := c.Write(payloads[n%len(payloads)]); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		once(t, r, u)
	}
	stats := r.Stats()
	if stats.Accepted != hostileClients+20 {
		t.Errorf("%d connections were accepted; want all", stats.Accepted)
	}
	// Five kinds of eight wait until the timeout.
	if stats.HalfOpen < hostileClients*5/8 {
		t.Errorf("%d wait for their hello; want those of five kinds of eight", stats.HalfOpen)
	}
	used := memory() - before
	t.Logf("%d bytes for each hostile client", used/hostileClients)
	if used > hostileClients*perClient {
		t.Errorf("%d bytes for each hostile client; the limit is %d", used/hostileClients, perClient)
	}
	for _, c := range clients {
		if err := c.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}

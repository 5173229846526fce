package enginetest

import (
	"bytes"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Hostile is what the nth hostile client sends before it falls silent and stays:
// nothing, a part of a hello (short or as long as it is let), what is not TLS,
// what is refused.
func Hostile(n int) []byte {
	greeting := HelloFor(Service)
	switch n % 8 {
	case 0, 1:
		return nil
	case 2:
		return greeting[:1]
	case 3:
		return greeting[:len(greeting)-1]
	case 4:
		// 24,000 bytes of a hello that says it has 100,000, ten to a record.
		long := append([]byte{1, 1, 0x86, 0xa0}, make([]byte, 34)...)
		long = append(append(long, 32), make([]byte, 32)...)
		long = append(append(long, 0xff, 0xfe), make([]byte, 16000)...)
		return recut(record(long[:16000]), always(10))
	case 5:
		return record([]byte{1, 0xff, 0xff, 0xff})
	case 6:
		return bytes.Repeat(record(nil), 100)
	}
	return []byte("GET / HTTP/1.1\r\n\r\n")
}

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
func (s *suite) hostiles() []engineTest {
	return []engineTest{{"5,000 hostile clients", func(t *testing.T) {
		to := newEndpoint(t)
		r := s.start(t, engine.Config{
			HelloTimeout: time.Hour, MaxConnections: hostileClients + 100, MaxHalfOpen: hostileClients + 100,
		}, tableTo(to.address))
		payloads := make([][]byte, 8)
		for n := range payloads {
			payloads[n] = Hostile(n)
		}
		clients := make([]*net.TCPConn, 0, hostileClients)
		before := memory()
		for n := range hostileClients {
			c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(r.address))
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
			if _, err := c.Write(payloads[n%len(payloads)]); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			if record := r.once(to); record.Reason != table.ReasonDone {
				t.Errorf("the record says %+v", record)
			}
		}
		// Of eight kinds, three wait until the timeout, and two that say nothing
		// once the kernel has handed them over.
		r.until("those that said something wait", func() bool { return r.Stats().HalfOpen >= hostileClients*3/8 })
		used := memory() - before
		t.Logf("%d bytes for each hostile client", used/hostileClients)
		if used > hostileClients*perClient {
			t.Errorf("%d bytes for each hostile client; the limit is %d", used/hostileClients, perClient)
		}
		for _, c := range clients {
			_ = c.SetLinger(0)
			_ = c.Close()
		}
	}}}
}

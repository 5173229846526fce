package enginetest

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// limits are what an engine refuses so that it lasts.
func (s *suite) limits() []engineTest {
	return []engineTest{
		{"one connection too many is reset", s.connectionLimit},
		{"the longest waiting makes room", s.halfOpenLimit},
		{"long hellos share an allowance", s.helloMemory},
		{"a connection that moves nothing is reset", s.idle},
	}
}

func (s *suite) connectionLimit(t *testing.T) {
	to := newEndpoint(t)
	tab := positioned(tableTo(to.address))
	r := s.start(t, engine.Config{MaxConnections: 1}, tab)
	client, far := r.join(to)
	before := len(r.snapshot())
	// The reset may come while the second one still connects; it says something, so
	// that the kernel does not keep it back.
	second, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(r.address))
	if err == nil {
		second := hold(t, second)
		_, err := second.Write([]byte("x"))
		if err == nil {
			_, err = second.Read(make([]byte, 1))
		}
		if !isReset(err) {
			t.Errorf("the second connection ends with %v; want a reset", err)
		}
		record := r.of(t, second)
		if record.Reason != table.ReasonConnectionLimit || record.Routes != tab.Routes || record.Basis != tab.Basis {
			t.Errorf("the record says %+v", record)
		}
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the second connection ends with %v; want a reset", err)
	}
	far.say("the first goes on")
	client.hear("the first goes on")
	if n := len(r.snapshot()) - before; err == nil && n != 1 {
		t.Errorf("%d records of one connection", n)
	}
	_, _ = client.Close(), far.Close()
	r.of(t, client)
	r.once(to)
}

func (s *suite) halfOpenLimit(t *testing.T) {
	to := newEndpoint(t)
	r := s.start(t, engine.Config{MaxHalfOpen: 3, HelloTimeout: time.Hour}, tableTo(to.address))
	wait := func() *end {
		client := connect(t, r.address)
		client.say("\x16")
		return client
	}
	oldest := wait()
	r.until("one waits", func() bool { return r.Stats().HalfOpen == 1 })
	second := wait()
	r.until("two wait", func() bool { return r.Stats().HalfOpen == 2 })
	// Two more are one too many, whichever of them comes first.
	third, fourth := wait(), wait()
	oldest.closes(seenEnd)
	if record := r.of(t, oldest); record.Reason != table.ReasonHalfOpenLimit {
		t.Errorf("the record says %+v", record)
	}
	if waiting := r.Stats().HalfOpen; waiting > 3 {
		t.Errorf("%d wait; the limit is 3", waiting)
	}
	// One that speaks comes through all the same, in the place of the next if it takes
	// more than one go.
	speaking, greeting := connect(t, r.address), HelloFor(Service)
	speaking.write(greeting[:1])
	second.closes(seenEnd)
	speaking.write(greeting[1:])
	far := to.greeted(t, greeting)
	_, _ = speaking.Close(), far.Close()
	if record := r.of(t, speaking); record.Reason != table.ReasonDone {
		t.Errorf("the record says %+v", record)
	}
	for _, client := range []*end{third, fourth} {
		client.finish()
		if record := r.of(t, client); record.Reason != table.ReasonClientLeft {
			t.Errorf("the record says %+v", record)
		}
	}
}

func (s *suite) helloMemory(t *testing.T) {
	to := newEndpoint(t)
	r := s.start(t, engine.Config{HelloFree: 100, HelloShared: 2000, HelloTimeout: time.Hour}, tableTo(to.address))
	greeting := HelloFor(Service)
	if len(greeting) < 1200 || len(greeting) > 2000 {
		t.Fatalf("a hello has %d bytes; this test needs it to fit once and not twice", len(greeting))
	}
	most := len(greeting) - 1
	one, other := connect(t, r.address), connect(t, r.address)
	// Both keep what they sent until the hello is whole, and only one of them may.
	refused := make(chan *end, 2)
	for _, client := range []*end{one, other} {
		client.write(greeting[:most])
		go func() {
			alert := hello.RecordOverflow.Record()
			b := make([]byte, len(alert))
			if _, err := io.ReadFull(client, b); err == nil && string(b) == string(alert[:]) {
				refused <- client
			}
		}()
	}
	loser := <-refused
	winner := one
	if loser == one {
		winner = other
	}
	_ = loser.Close()
	if record := r.of(t, loser); record.Reason != table.ReasonHelloMemory || record.Alert != uint8(hello.RecordOverflow) {
		t.Errorf("the record says %+v", record)
	}
	winner.write(greeting[most:])
	far := to.greeted(t, greeting)
	// And now there is room again, while the first goes on.
	again := connect(t, r.address)
	again.write(greeting[:most])
	again.write(greeting[most:])
	farAgain := to.greeted(t, greeting)
	for _, c := range []*end{winner, again, far, farAgain} {
		_ = c.Close()
	}
}

func (s *suite) idle(t *testing.T) {
	to := newEndpoint(t)
	const timeout = 100 * time.Millisecond
	r := s.start(t, engine.Config{IdleTimeout: timeout}, tableTo(to.address))
	client, far := r.join(to)
	client.closes(seenReset)
	far.closes(seenReset)
	record := r.of(t, client)
	if record.Reason != table.ReasonIdle || record.Duration < timeout {
		t.Errorf("the record says %+v", record)
	}
}

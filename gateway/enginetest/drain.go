package enginetest

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// drains are what happens to connections in each state when an engine stops.
func (s *suite) drains() []engineTest {
	return []engineTest{
		{"a drain waits for open connections", s.drainWaits},
		{"a drain cuts what is left", s.drainCuts},
		{"a drain waits for those that connect and say hello", s.drainLetsBegin},
		{"a drain of none ends at once", func(t *testing.T) {
			r := s.start(t, engine.Config{}, tableTo())
			if cut := r.Drain(t.Context()); cut != 0 {
				t.Errorf("%d connections were cut", cut)
			}
			if cut := r.Drain(t.Context()); cut != 0 {
				t.Errorf("%d connections were cut at the second time", cut)
			}
		}},
		{"a drain leaves the queue to others", s.drainLeavesTheQueue},
	}
}

// drain begins a drain, and returns when the engine accepts no more.
func (r *running) drain(ctx context.Context) (cut <-chan uint64) {
	r.t.Helper()
	drained := make(chan uint64, 1)
	go func() { drained <- r.Drain(ctx) }()
	<-r.listener.Closed()
	for {
		c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(r.address))
		if errors.Is(err, syscall.ECONNREFUSED) {
			return drained
		}
		if err == nil {
			_ = c.SetLinger(0)
			_ = c.Close()
		}
	}
}

func (s *suite) drainWaits(t *testing.T) {
	to := newEndpoint(t)
	r := s.start(t, engine.Config{}, tableTo(to.address))
	client, far := r.join(to)
	drained := r.drain(t.Context())
	client.say("goes on")
	far.hear("goes on")
	far.say("and back")
	client.hear("and back")
	client.finish()
	far.hearEnd()
	far.say("still there")
	client.hear("still there")
	far.finish()
	client.hearEnd()
	if cut := <-drained; cut != 0 {
		t.Errorf("%d connections were cut", cut)
	}
	if record := r.of(t, client); record.Reason != table.ReasonDone {
		t.Errorf("the record says %+v", record)
	}
	if open := r.Stats().Open; open != 0 {
		t.Errorf("%d connections are open after the drain", open)
	}
}

func (s *suite) drainLetsBegin(t *testing.T) {
	to := newEndpoint(t)
	tab := tableTo(silent(t), to.address)
	tab.Lookup([]byte(Service)).ConnectTimeout = 500 * time.Millisecond
	chosen, choose := chosenFirst()
	r := s.start(t, engine.Config{Random: choose}, tab)
	greeting := HelloFor(Service)
	saying := connect(t, r.address)
	saying.write(greeting[:100])
	r.until("one waits for its hello", func() bool { return r.Stats().HalfOpen == 1 })
	connecting := r.ask()
	<-chosen
	drained := r.drain(t.Context())
	saying.write(greeting[100:])
	for range 2 {
		far := to.accept(t)
		if _, err := readHello(far); err != nil {
			t.Fatal(err)
		}
		far.say("welcome")
		far.finish()
	}
	for _, client := range []*end{saying, connecting} {
		client.hear("welcome")
		client.hearEnd()
		client.finish()
		if record := r.of(t, client); record.Reason != table.ReasonDone {
			t.Errorf("the record says %+v", record)
		}
	}
	if cut := <-drained; cut != 0 {
		t.Errorf("%d connections were cut", cut)
	}
}

func (s *suite) drainCuts(t *testing.T) {
	to, mute := newEndpoint(t), silent(t)
	tab := tableTo(to.address)
	var current swappable
	current.Store(tab)
	r := s.start(t, engine.Config{Table: current.Load, HelloTimeout: time.Hour, ConnectTimeout: time.Hour}, nil)
	open, far := r.join(to)
	far.say("open")
	open.hear("open")
	halfClosed, farHalf := r.join(to)
	halfClosed.finish()
	farHalf.hearEnd()
	saying := connect(t, r.address)
	saying.write(HelloFor(Service)[:100])
	r.until("one waits for its hello", func() bool { return r.Stats().HalfOpen == 1 })
	silence := tableTo(mute)
	current.Store(silence)
	connecting := r.ask()
	r.until("one waits for its endpoint", func() bool { return silence.Lookup([]byte(Service)).Counters.Busy.Load() == 1 })
	refused := connect(t, r.address)
	refused.write(HelloFor(Probe))
	refused.closes("alert 112, closed")
	if cut := r.Drain(over()); cut != 4 {
		t.Errorf("%d connections were cut; want the open, the half-closed, the connecting and the one that says hello", cut)
	}
	for _, c := range []*end{open, far} {
		c.closes(seenReset)
	}
	told(farHalf)
	for _, client := range []*end{halfClosed, connecting, saying} {
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("a connection goes on after the drain")
		}
	}
	for _, client := range []*end{open, halfClosed, connecting, saying} {
		if record := r.of(t, client); record.Reason != table.ReasonDrained || record.Alert != 0 {
			t.Errorf("the record says %+v", record)
		}
	}
	if record := r.of(t, refused); record.Reason != table.ReasonUnknownName {
		t.Errorf("the record of the one that was refused says %+v", record)
	}
}

// Another process may have the same listener by descriptor: what waits in its queue,
// and what comes later, is answered there.
func (s *suite) drainLeavesTheQueue(t *testing.T) {
	to := newEndpoint(t)
	r := s.start(t, engine.Config{}, tableTo(to.address))
	other, err := r.listener.TCP()
	if err != nil {
		t.Fatal(err)
	}
	heir := &endpoint{other, r.address}
	t.Cleanup(func() { _ = other.Close() })
	r.once(to)
	if cut := r.Drain(t.Context()); cut != 0 {
		t.Errorf("%d connections were cut", cut)
	}
	client := connect(t, r.address)
	client.say("x")
	far := heir.accept(t)
	far.hear("x")
	far.say("y")
	client.hear("y")
}

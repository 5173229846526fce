package enginetest

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// breaks are what is stated of connections that one side breaks off.
func (s *suite) breaks() []engineTest {
	out := []engineTest{
		{"a client breaks off before its hello is whole", func(t *testing.T) {
			r := s.start(t, engine.Config{}, tableTo())
			client := connect(t, r.address)
			client.write(HelloFor(Service)[:100])
			r.until("the client waits for its hello", func() bool { return r.Stats().HalfOpen == 1 })
			client.breakOff()
			record := r.of(t, client)
			if record.Reason != table.ReasonClientLeft || !strings.Contains(record.Detail, "connection reset by peer") {
				t.Errorf("the record says %+v", record)
			}
		}},
		{"a client breaks off while its endpoint does not answer", s.breaksWhileConnecting},
	}
	// Who is named is who broke off, whatever was on its way.
	for _, side := range sides {
		reason := map[string]table.Reason{"client": table.ReasonClientReset, "endpoint": table.ReasonEndpointReset}[side]
		for _, state := range []struct {
			name    string
			prepare func(one, other *end)
		}{
			{"at rest", func(_, _ *end) {}},
			{"while its bytes wait to be taken", func(one, _ *end) { one.fill(newPattern(1), much) }},
			{"while bytes wait for it", func(_, other *end) { other.fill(newPattern(1), much) }},
			{"while bytes wait for both", func(one, other *end) { one.fill(newPattern(1), much); other.fill(newPattern(1), much) }},
			{"after it has ended", func(one, other *end) { one.finish(); other.hearEnd() }},
			{"after the other has ended", func(one, other *end) { other.finish(); one.hearEnd() }},
		} {
			out = append(out, engineTest{"the record of when the " + side + " breaks off " + state.name, func(t *testing.T) {
				to := newEndpoint(t)
				r := s.start(t, engine.Config{}, tableTo(to.address))
				client, far := r.join(to)
				one, other := client, far
				if side == "endpoint" {
					one, other = far, client
				}
				state.prepare(one, other)
				one.breakOff()
				told(other)
				record := r.of(t, client)
				if record.Reason != reason || record.Detail == "" || record.Endpoint != to.address.String() {
					t.Errorf("the record says %+v", record)
				}
			}})
		}
	}
	return out
}

// told goes on until the other side's reset has arrived. Behind an end, only who
// writes is told.
func told(e *end) {
	_, _ = newPattern(1).readFrom(e)
	writesUntil(e)
}

// chosenFirst is a random number that always chooses the first endpoint, and a
// channel that is closed once it was asked for.
func chosenFirst() (chosen <-chan struct{}, choose func() uint64) {
	asked := make(chan struct{})
	tell := sync.OnceFunc(func() { close(asked) })
	return asked, func() uint64 { tell(); return first() }
}

// A client that breaks off while its endpoint does not answer may be noticed at once
// or when one has answered. Its reset is passed on, if there is someone to tell.
func (s *suite) breaksWhileConnecting(t *testing.T) {
	to := newEndpoint(t)
	tab := tableTo(silent(t), to.address)
	tab.Lookup([]byte(Service)).ConnectTimeout = 500 * time.Millisecond
	chosen, choose := chosenFirst()
	r := s.start(t, engine.Config{Random: choose}, tab)
	client := r.ask()
	<-chosen
	client.breakOff()
	record := r.of(t, client)
	if record.Reason != table.ReasonClientReset && record.Reason != table.ReasonClientLeft {
		t.Errorf("the record says %+v", record)
	}
	if record.Endpoint == "" {
		return
	}
	far := to.accept(t)
	if how := ending(far, HelloFor(Service)); !strings.HasSuffix(how, "reset") {
		t.Errorf("the endpoint sees the client as %s; want a reset", how)
	}
}

package enginetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// positioned gives a table a position and a basis, which are to stand in records.
func positioned(tab *table.Table) *table.Table {
	tab.Routes = &isthmusv1.Position{Stream: "ROUTES_dc1", Sequence: 7}
	tab.Basis = &isthmusv1.Basis{Positions: []*isthmusv1.Position{{Stream: "CATALOG_dc1", Sequence: 3}}}
	return tab
}

// records are what an engine states of a connection.
func (s *suite) records() []engineTest {
	return []engineTest{
		{"the record of a connection", s.recordOfAConnection},
		{"a client that leaves is not refused", func(t *testing.T) {
			r := s.start(t, engine.Config{}, tableTo())
			for said, reason := range map[string]table.Reason{"": table.ReasonUnused, "\x16\x03": table.ReasonClientLeft} {
				client := connect(t, r.address)
				client.say(said)
				client.finish()
				client.closes(seenEnd)
				if record := r.of(t, client); record.Reason != reason || record.Detail != "" || record.Alert != 0 {
					t.Errorf("the record says %+v", record)
				}
			}
			if stats := r.Stats(); stats.Refused() != 0 || stats.Accepted != 2 {
				t.Errorf("stats %+v", stats)
			}
		}},
		{"no one needs to be told", func(t *testing.T) {
			to := newEndpoint(t)
			e, err := s.newEngine(engine.Config{Table: fixed(tableTo(to.address))})
			if err != nil {
				t.Fatal(err)
			}
			r := &running{t: t, Engine: e, listener: newListener(t, "127.0.0.1")}
			r.address = r.listener.AddrPort()
			r.serve(r.listener)
			client, far := r.join(to)
			client.finish()
			far.hearEnd()
			far.finish()
			client.hearEnd()
		}},
	}
}

func (s *suite) recordOfAConnection(t *testing.T) {
	to := newEndpoint(t)
	tab := positioned(tableTo(to.address))
	r := s.start(t, engine.Config{}, tab)
	client := connect(t, r.address)
	greeting := HelloFor(strings.ToUpper(Service))
	client.write(greeting)
	far := to.greeted(t, greeting)
	far.say("answer")
	client.hear("answer")
	route := tab.Lookup([]byte(Service))
	e := route.Endpoints.Endpoints()[0]
	if route.Counters.Open.Load() != 1 || route.Counters.Busy.Load() != 1 || e.Counters.Open.Load() != 1 {
		t.Error("the open connection is not counted by its route and endpoint")
	}
	if stats := r.Stats(); stats.Accepted != 1 || stats.Open != 1 || stats.HalfOpen != 0 {
		t.Errorf("the open connection is not counted: %+v", stats)
	}
	client.finish()
	far.hearEnd()
	far.finish()
	client.hearEnd()
	record := r.of(t, client)
	if record.Duration <= 0 || time.Since(record.Start) < record.Duration {
		t.Errorf("it began at %v and took %v", record.Start, record.Duration)
	}
	got := *record
	got.Start, got.Duration = time.Time{}, 0
	want := table.Record{
		Client: client.local(), Peer: client.local(), SNI: strings.ToUpper(Service), Route: Service,
		Endpoint: to.address.String(), Attempts: 1, BytesIn: uint64(len(greeting)), BytesOut: 6,
		Reason: table.ReasonDone, Routes: tab.Routes, Basis: tab.Basis,
	}
	if got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	stats := r.Stats()
	if stats.Ended[table.ReasonDone] != 1 || stats.Refused() != 0 || stats.ConnectFailures != 0 || stats.Ejections != 0 {
		t.Errorf("stats %+v", stats)
	}
}

// conversations are seeded ones of which the ends and the record say the same.
func (s *suite) conversations() []engineTest {
	return []engineTest{{"conversations, the ends and the records agree", func(t *testing.T) {
		talker := newTalker(t)
		r := s.start(t, engine.Config{}, Setup{Names: names(Talker, talker.address)}.Table())
		const each = 60
		for how := clientEndsFirst; how <= endpointBreaks; how++ {
			// Other seeds than those of the conformance suite.
			from := 1000 + uint64(how)*each
			for _, one := range talker.converseAll(r.address, from, from+each, how, false) {
				if one.err != nil {
					t.Errorf("seed %d, outcome %d: %v", one.seed, how, one.err)
					continue
				}
				if wrong := one.disagrees(r.from(t, one.client)); wrong != "" {
					t.Errorf("seed %d, outcome %d: %s", one.seed, how, wrong)
				}
			}
		}
	}}}
}

// disagrees says what a record says otherwise than the ends.
func (c talked) disagrees(record *table.Record) string {
	in, out := uint64(c.hello+c.said[asClient]), uint64(c.said[asEndpoint])
	switch c.outcome {
	case clientBreaks, endpointBreaks:
		reason := table.ReasonClientReset
		if c.outcome == endpointBreaks {
			reason = table.ReasonEndpointReset
		}
		if record.Reason != reason || record.BytesIn > in || record.BytesOut > out || record.BytesOut < uint64(c.heard) {
			return fmt.Sprintf("%d bytes of at most %d and %d were heard before the reset; the record says %+v", c.heard, in, out, record)
		}
	default:
		if record.Reason != table.ReasonDone || record.BytesIn != in || record.BytesOut != out || record.Detail != "" {
			return fmt.Sprintf("%d and %d bytes were heard; the record says %+v", in, out, record)
		}
	}
	return ""
}

// refusals are the reasons for which a connection is refused.
func (s *suite) refusals() []engineTest {
	var out []engineTest
	for _, test := range []struct {
		send   string
		to     string
		reason table.Reason
		detail string
		alert  hello.Alert
	}{
		{string(HelloFor("127.0.0.1")), "", table.ReasonNoName, "", hello.UnrecognizedName},
		{string(HelloFor(Probe)), "", table.ReasonUnknownName, "", hello.UnrecognizedName},
		{string(HelloFor(Service)), "", table.ReasonNoEndpoint, table.ErrEmpty.Error(), hello.InternalError},
		{string(HelloFor(Service)), "refusing", table.ReasonConnectFailed, "%[1]s: dial tcp %[1]s: connect: connection refused", hello.InternalError},
		{"\x16\x03\x01\x00\x00", "", table.ReasonHelloRefused, hello.ErrRecordEmpty.Error(), hello.UnexpectedMessage},
		{"GET / HTTP/1.0\r\n\r\n", "", table.ReasonNotTLS, "", 0},
	} {
		out = append(out, engineTest{"refused: " + string(test.reason), func(t *testing.T) {
			tab, detail := positioned(tableTo()), test.detail
			if test.to != "" {
				address := refusing(t)
				tab, detail = positioned(tableTo(address)), fmt.Sprintf(test.detail, address)
			}
			r := s.start(t, engine.Config{}, tab)
			client := connect(t, r.address)
			client.say(test.send)
			if test.alert == 0 {
				client.closes(seenEnd)
			} else {
				client.closes(fmt.Sprintf("alert %d, closed", test.alert))
			}
			_ = client.Close()
			record := r.of(t, client)
			if record.Reason != test.reason || record.Detail != detail || record.Alert != uint8(test.alert) || record.Endpoint != "" {
				t.Errorf("the record says %+v; want the detail %q", record, detail)
			}
			if record.Routes != tab.Routes || record.Basis != tab.Basis {
				t.Errorf("the record has the basis %v", record.Basis)
			}
			if stats := r.Stats(); stats.Refused() != 1 || stats.BytesIn != 0 || stats.BytesOut != 0 {
				t.Errorf("stats %+v", stats)
			}
		}})
	}
	return out
}

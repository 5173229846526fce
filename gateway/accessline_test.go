package gateway

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// line is a record as a line of the access log.
type line struct {
	Time       time.Time    `json:"time"`
	DurationMS float64      `json:"duration_ms"`
	Client     string       `json:"client"`
	Peer       string       `json:"peer,omitempty"`
	SNI        string       `json:"sni"`
	Route      string       `json:"route"`
	Endpoint   string       `json:"endpoint"`
	Attempts   int          `json:"attempts,omitempty"`
	BytesIn    uint64       `json:"bytes_in"`
	BytesOut   uint64       `json:"bytes_out"`
	Reason     table.Reason `json:"reason"`
	Detail     string       `json:"detail,omitempty"`
	Alert      uint8        `json:"alert,omitempty"`
	Routes     string       `json:"routes,omitempty"`
	Basis      string       `json:"basis"`
}

// lineOf is the line that encoding/json is given: the oracle.
func lineOf(r *table.Record) line {
	l := line{
		Time:       r.Start.UTC(),
		DurationMS: float64(r.Duration.Microseconds()) / 1000,
		Client:     r.Client.String(),
		SNI:        r.SNI,
		Route:      r.Route,
		Endpoint:   r.Endpoint,
		Attempts:   r.Attempts,
		BytesIn:    r.BytesIn,
		BytesOut:   r.BytesOut,
		Reason:     r.Reason,
		Detail:     r.Detail,
		Alert:      r.Alert,
		Basis:      r.Basis.Text(),
	}
	if r.Peer != r.Client {
		l.Peer = r.Peer.String()
	}
	if p := r.Routes; p != nil {
		l.Routes = p.GetStream() + "@" + strconv.FormatUint(p.GetSequence(), 10)
	}
	return l
}

// A line is what encoding/json makes of the record, byte for byte.
func TestLineIsJSON(t *testing.T) {
	texts := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z.]{0,40}`), rapid.SampledFrom([]string{"", "<&>", "a\"b\\", "\u2028"}))
	addresses := rapid.SampledFrom([]netip.AddrPort{
		{}, netip.MustParseAddrPort("10.0.0.1:4711"), netip.MustParseAddrPort("[2001:db8::1]:443"), netip.MustParseAddrPort("[fe80::1%eth0]:1"),
	})
	bases := rapid.SampledFrom([]*isthmusv1.Basis{
		nil, {}, {Positions: []*isthmusv1.Position{{Stream: "CATALOG_dc1", Sequence: 3}, {Stream: "CATALOG_dc2", Sequence: 4}}},
	})
	positions := rapid.SampledFrom([]*isthmusv1.Position{nil, {Stream: "ROUTES_dc1", Sequence: 7}})
	var w lineWriter
	rapid.Check(t, func(t *rapid.T) {
		r := &table.Record{
			Start:    time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds")),
			Duration: time.Duration(rapid.Int64Range(0, 1<<50).Draw(t, "duration")),
			Client:   addresses.Draw(t, "client"), Peer: addresses.Draw(t, "peer"),
			SNI: texts.Draw(t, "sni"), Route: texts.Draw(t, "route"), Endpoint: texts.Draw(t, "endpoint"),
			Attempts: rapid.IntRange(0, 16).Draw(t, "attempts"), BytesIn: rapid.Uint64().Draw(t, "in"), BytesOut: rapid.Uint64().Draw(t, "out"),
			Reason: rapid.SampledFrom(table.Reasons()).Draw(t, "reason"), Detail: texts.Draw(t, "detail"), Alert: rapid.Uint8().Draw(t, "alert"),
			Routes: positions.Draw(t, "routes"), Basis: bases.Draw(t, "basis"),
		}
		want, err := json.Marshal(lineOf(r))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(w.of(r)); got != string(want)+"\n" {
			t.Errorf("got  %swant %s", got, want)
		}
	})
}

func BenchmarkLine(b *testing.B) {
	var w lineWriter
	r := &table.Record{
		Start: time.Now(), Duration: time.Second, Client: netip.MustParseAddrPort("10.0.0.1:4711"), Peer: netip.MustParseAddrPort("10.0.0.1:4711"),
		SNI: strings.Repeat("x", 60), Route: strings.Repeat("x", 60), Endpoint: "10.0.0.2:8443", Attempts: 1, BytesIn: 517, BytesOut: 2, Reason: table.ReasonDone,
		Routes: &isthmusv1.Position{Stream: "ROUTES_dc1", Sequence: 7},
		Basis:  &isthmusv1.Basis{Positions: []*isthmusv1.Position{{Stream: "CATALOG_dc1", Sequence: 3}, {Stream: "CATALOG_dc2", Sequence: 4}}},
	}
	for b.Loop() {
		w.of(r)
	}
}

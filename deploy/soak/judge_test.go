package main

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// Memory is judged by what it was for most of a third, not by single moods.
func TestMemoryThatGrows(t *testing.T) {
	samplesOf := func(n int, rss func(i int) int64) []sample {
		out := make([]sample, n)
		for i := range out {
			out[i].rss = rss(i)
		}
		return out
	}
	for _, test := range []struct {
		name string
		rss  func(i int) int64
		n    int
		want bool
	}{
		{"flat", func(int) int64 { return 100 << 20 }, 30, true},
		{"it shrinks", func(i int) int64 { return int64(200-i) << 20 }, 30, true},
		{"moods", func(i int) int64 { return int64(100+50*(i%5/4)) << 20 }, 120, true},
		{"a leak", func(i int) int64 { return int64(100+i) << 20 }, 30, false},
		{"a slow one", func(i int) int64 { return 100<<20 + int64(i)<<17 }, 90, false},
		{"too short to tell", func(i int) int64 { return int64(100+i) << 20 }, 29, true},
	} {
		if got := flat(samplesOf(test.n, test.rss)); got.ok != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// Each thing that is asked of idle fails alone.
func TestWhatIdleAsks(t *testing.T) {
	const good = "isthmus_gateway_connections_accepted_total{name=\"a\"} 7\n" +
		"isthmus_gateway_connections_ended_total{name=\"a\",reason=\"done\"} 5\nisthmus_gateway_connections_ended_total{reason=\"client_reset\",name=\"a\"} 2\n"
	for _, test := range []struct {
		what                 string
		alive, before, after int
		rate                 float64
		metrics              string
		fail                 error
	}{
		{"", 5, 10, 10, 99, good, nil},
		{"idle connections that answer", 4, 10, 10, 99, good, nil},
		{"descriptors", 5, 10, 11, 99, good, nil},
		{"a second", 5, 10, 10, 97, good, nil},
		{"accepted", 5, 10, 10, 99, strings.ReplaceAll(good, "7", "8"), nil},
		{"ended by", 5, 10, 10, 99, strings.ReplaceAll(good, "done", "endpoint_reset"), nil},
		{"failed", 5, 10, 10, 99, good, io.EOF},
	} {
		r := &idleRun{settings: idleSettings{connections: 5, rate: 100}}
		r.opened.Store(7)
		if test.fail != nil {
			r.fails.add(test.fail)
		}
		m, err := parseMetrics(test.metrics)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.verdicts(test.rate, test.alive, test.before, test.after, m) {
			if want := test.what == "" || !strings.Contains(v.what, test.what); v.ok != want {
				t.Errorf("with %q: %v", test.what, v)
			}
		}
	}
}

func TestParseMetrics(t *testing.T) {
	m, err := parseMetrics("# HELP x\nisthmus_gateway_table_sequence{dc=\"dc1\"} 12\ngo_goroutines 8\n" +
		"isthmus_gateway_connections_ended_total{reason=\"done\"} 3\nisthmus_gateway_connections_ended_total{reason=\"client_reset\"} 1e+06\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, label string
		want        float64
	}{{"table_sequence", "", 12}, {"connections_ended_total", "", 1000003}, {"connections_ended_total", `"done"`, 3}, {"connections_ended", "", 0}} {
		if got := m.sum(test.name, test.label); got != test.want {
			t.Errorf("%s %s is %v, want %v", test.name, test.label, got, test.want)
		}
	}
	if _, err := parseMetrics("isthmus_gateway_x many\n"); err == nil {
		t.Error("a metric without a number was read")
	}
}

func TestParseMemory(t *testing.T) {
	m, err := parseMemory("00400000-7ff  ---p 00000000 00:00 0  [rollup]\nRss:  900 kB\nPss:                 512 kB\nPss_Dirty:  10 kB\n")
	if want := (memory{rss: 900 << 10, pss: 512 << 10}); err != nil || m != want {
		t.Errorf("got %v, %v", m, err)
	}
	for _, bad := range []string{"Rss: 1 kB\n", "Rss: many kB\nPss: 1 kB\n"} {
		if _, err := parseMemory(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// What /proc says of a listener with a connection that nobody has accepted.
func TestSocketsOfAListener(t *testing.T) {
	l, err := listenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := &endpoint{address: l.Addr().String()}
	if err := m.queueEmpty(); err == nil {
		t.Error("the queue is said to be empty")
	}
	accepted, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if err := m.queueEmpty(); err != nil {
		t.Error(err)
	}
}

func TestParseSockets(t *testing.T) {
	const text = "  sl  local_address rem_address   st tx_queue rx_queue\n" +
		"   0: 0100007F:20FB 00000000:0000 0A 00000000:00000003 00:00000000\n" +
		"   1: 0100007F:20FB 0100007F:9C40 03 00000000:00000000 01:00000063\n" +
		"   2: 0200007F:20FB 00000000:0000 0A 00000000:00000007 00:00000000\n"
	got, err := parseSockets(strings.NewReader(text), netip.MustParseAddrPort("127.0.0.1:8443"))
	if err != nil || len(got) != 2 || got[0] != (socket{socketListens, 3}) || got[1] != (socket{socketHandshake, 0}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// An await ends with what was seen last, and at once when there is no hope.
func TestAwait(t *testing.T) {
	looks := 0
	if err := await(t.Context(), "it", func(context.Context) error {
		if looks++; looks < 3 {
			return io.EOF
		}
		return nil
	}); err != nil || looks != 3 {
		t.Errorf("%d looks: %v", looks, err)
	}
	if err := await(t.Context(), "it", func(context.Context) error { return errors.Join(errGivenUp, io.ErrNoProgress) }); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := await(ctx, "it", func(context.Context) error {
		cancel()
		return io.EOF
	}); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

// A failure is shown with all that the gateways have of its client.
func TestWhatTheAccessLogHasOfAFailure(t *testing.T) {
	c := &chaos{world: &world{scratch: t.TempDir()}}
	one, other, more := `{"client":"127.0.0.1:4","reason":"done"}`+"\n", `{"client":"127.0.0.1:44"}`+"\n", `{"client":"127.0.0.1:4","reason":"drained"}`+"\n"
	if err := os.WriteFile(c.world.path("access.log"), []byte(one+other+more), 0o600); err != nil {
		t.Fatal(err)
	}
	for failure, want := range map[error]string{
		nil:                               "",
		io.EOF:                            "",
		errors.New("from 127.0.0.1:4: x"): one + more,
		errors.New("from 127.0.0.1:5: x"): "no gateway has a line of a connection from 127.0.0.1:5\n",
	} {
		if got := c.explain(failure); got != want {
			t.Errorf("%v is explained by %q", failure, got)
		}
	}
}

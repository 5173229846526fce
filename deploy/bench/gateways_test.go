package main

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every contender gets the same duty: its configuration names where to listen, the
// server name and the backend; and where its access log is, or that there is none.
func TestConfigurations(t *testing.T) {
	d := duty{
		Listen: netip.MustParseAddrPort("127.0.0.1:20001"), Backend: netip.MustParseAddrPort("127.0.0.1:20002"),
		ServerName: serverName, Threads: 3, Folder: "/folder", Module: "/module.so",
	}
	want := map[string][]string{
		"Envoy":   {serverName, "--concurrency 3", "max_connections: 10000", "idle_timeout: 600s"},
		"HAProxy": {serverName, "nbthread 3", "maxconn 8000", "timeout client 10m"},
		"nginx":   {serverName, "worker_processes 3", "worker_connections 9000", "proxy_timeout 10m"},
		// The name follows from the service, its datacenter and the trust domain.
		"isthmus":        {`name = "api"`, "--datacenter dc2", trustDomain},
		"isthmus-relay":  {`name = "api"`, "--datacenter dc2", trustDomain, "--engine relay"},
		"isthmus-system": {`name = "api"`, "--datacenter dc2", trustDomain, "--congestion-control system"},
	}
	for _, c := range contenders {
		for _, log := range []string{"", "/folder/access.log"} {
			t.Run(c.name+log, func(t *testing.T) {
				d.AccessLog = log
				said := strings.Join(c.arguments(d), " ")
				for _, source := range c.files {
					content, err := c.configure(source, d)
					if err != nil {
						t.Fatal(err)
					}
					said += "\n" + string(content)
				}
				for _, text := range append(want[c.name], "20001", "20002") {
					if !strings.Contains(said, text) {
						t.Errorf("%s is not told %q:\n%s", c.name, text, said)
					}
				}
				told := strings.Contains(said, "/folder/access.log") || c.logsToOutput && strings.Contains(said, "log stdout")
				if told != (log != "") {
					t.Errorf("%s, whose access log is %q, is told:\n%s", c.name, log, said)
				}
			})
		}
	}
}

// Contenders that are there to be asked for take no part otherwise.
func TestOptionalContenders(t *testing.T) {
	if got := strings.Join(contenderNames(false), " "); got != "isthmus Envoy HAProxy nginx" {
		t.Errorf("by default: %s", got)
	}
	if got := strings.Join(contenderNames(true), " "); got != "isthmus isthmus-relay isthmus-system Envoy HAProxy nginx" {
		t.Errorf("in all: %s", got)
	}
}

// testRace is a race in which ours is first in some columns and not in others. Each
// peer is the best of one.
func testRace() *race {
	with := func(name string, peer bool, rounds map[figure][]float64) *entrant {
		return &entrant{name: name, peer: peer, process: &process{}, rounds: rounds}
	}
	return &race{logs: logsOff, settings: settings{rounds: 3}, entrants: []*entrant{
		{name: direct, rounds: map[figure][]float64{perSecond: {9000, 9000, 9000}, openP50: {10, 20, 30}, openP99: {100, 100, 100}, newP50: {50, 50, 50}, newP99: {500, 500, 500}}},
		with("isthmus", false, map[figure][]float64{
			perSecond: {5300, 5200, 5250}, cpu: {96, 94, 95}, bulk: {2, 2, 2}, idleBytes: {3.4},
			openP50: {25, 35, 45}, openP99: {90, 95, 99}, newP50: {99, 100, 101}, newP99: {600, 601, 602},
		}),
		with("isthmus-relay", false, map[figure][]float64{perSecond: {9999}, cpu: {1}, bulk: {99}, idleBytes: {0.1}, openP50: {0}}),
		with("Envoy", true, map[figure][]float64{
			perSecond: {2600, 2500, 2000}, cpu: {363, 363, 363}, bulk: {1.4, 1.2, 1.3}, idleBytes: {18.1},
			openP50: {40, 50, 60}, openP99: {99, 99, 99}, newP50: {150, 150, 150}, newP99: {590, 600, 610},
		}),
		with("HAProxy", true, map[figure][]float64{
			perSecond: {4000, 4000, 4000}, cpu: {175, 175, 175}, bulk: {1.35, 1.35, 1.35}, idleBytes: {3.4},
			openP50: {30, 40, 50}, openP99: {150, 150, 150}, newP50: {120, 120, 120}, newP99: {900, 900, 900},
		}),
		with("nginx", true, map[figure][]float64{
			perSecond: {5000, 4900, 5100}, cpu: {100, 101, 99}, bulk: {0.8, 0.8, 0.8}, idleBytes: {2.1},
			openP50: {26, 36, 44}, openP99: {160, 160, 160}, newP50: {98, 99, 110}, newP99: {900, 900, 900},
		}),
	}}
}

// Ours is held to the best peer of each column: by a factor, or by what is added to
// the direct way. Another engine of ours is no peer; memory is held to HAProxy's.
func TestVerdicts(t *testing.T) {
	want := []string{
		"connections | 1.05x nginx's (1.03 to 1.06) | at least 1.05x | true",
		"processor for a connection | 0.95x nginx's (0.93 to 0.96) | at most 0.95x | true",
		"bulk | 1.48x HAProxy's (1.48 to 1.48) | at least 1.50x | false",
		"memory of an idle connection | 1.00x HAProxy's | at most 1.00x | true",
		"request p50 added | 15 µs, nginx 16 µs | no more | true",
		"request p99 added | -5 µs, Envoy -1 µs | no more | true",
		"new connection p50 added | 50 µs, nginx 49 µs | no more | false",
		"new connection p99 added | 101 µs, Envoy 100 µs | no more | false",
	}
	got := testRace().verdicts()
	if len(got) != len(want) {
		t.Fatalf("%d verdicts; want %d", len(got), len(want))
	}
	for i, v := range got {
		what, _ := strings.CutPrefix(v.what, "gateway, logs off: ")
		ok := "false"
		if v.ok {
			ok = "true"
		}
		if line := strings.Join([]string{what, v.measured, v.asked, ok}, " | "); line != want[i] {
			t.Errorf("got  %s\nwant %s", line, want[i])
		}
	}
	if !strings.Contains(got[2].String(), "DOES NOT HOLD") {
		t.Errorf("a number that is too low reads like one that is not: %s", got[2])
	}
}

// Latency is worse when it is so in most turns, and not by one turn that was unlucky. Who
// is not measured often enough to be told apart has the medians say.
func TestVerdictOfLatency(t *testing.T) {
	const turns = 12
	worse := func(by func(turn int) float64) (verdict, bool) {
		with := func(name string, of func(turn int) float64) *entrant {
			e := &entrant{name: name, process: &process{}}
			for turn := range turns {
				e.note(openP99, of(turn))
			}
			return e
		}
		theirs := func(turn int) float64 { return float64(200 + 10*turn) }
		return bar{what: "p99", figure: openP99, added: true}.verdict(
			with(direct, func(int) float64 { return 100 }),
			with("isthmus", func(turn int) float64 { return theirs(turn) + by(turn) }),
			[]*entrant{with("nginx", theirs)})
	}
	for _, c := range []struct {
		name, measured string
		by             func(turn int) float64
		ok             bool
	}{
		{"always a little worse", "165 µs, nginx 160 µs (+5 to +5)", func(int) float64 { return 5 }, false},
		{"always better", "155 µs, nginx 160 µs (-5 to -5)", func(int) float64 { return -5 }, true},
		{"now better, now worse", "410 µs, nginx 160 µs (-300 to +300)", func(turn int) float64 { return 300 * float64(turn%2*2-1) }, true},
		{"worse but for two lucky turns", "145 µs, nginx 160 µs (+5 to +5)", func(turn int) float64 {
			if turn < turns-2 {
				return 5
			}
			return -300
		}, false},
		{"once far worse", "160 µs, nginx 160 µs (+0 to +0)", func(turn int) float64 { return 9000 * float64(turn/(turns-1)) }, true},
	} {
		v, there := worse(c.by)
		if !there || v.measured != c.measured || v.ok != c.ok {
			t.Errorf("%s: %s, holds: %t; want %s, %t", c.name, v.measured, v.ok, c.measured, c.ok)
		}
	}
}

// An interval has the median 19 times of 20, and not much more often: else it would be
// too wide to tell anybody apart.
func TestInterval(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{6, 20, 42, 54} {
		const tries = 5000
		within := 0
		for range tries {
			values := make([]float64, n)
			for i := range values {
				values[i] = random.ExpFloat64() // Its median is ln 2.
			}
			least, most, known := interval(values)
			if !known {
				t.Fatalf("%d values say nothing", n)
			}
			if least <= math.Ln2 && math.Ln2 <= most {
				within++
			}
		}
		if share := float64(within) / tries; share < 0.94 || share > 0.99 {
			t.Errorf("of %d values: the median lies within %.3f of the time", n, share)
		}
	}
	// Exactly, for every number: values that are their ranks, which a fair coin puts above
	// or below the median.
	for n := 6; n <= 200; n++ {
		ranks := make([]float64, n)
		for i := range ranks {
			ranks[i] = float64(i)
		}
		least, _, _ := interval(ranks)
		outside, exactly := 0.0, math.Pow(0.5, float64(n))
		for below := range int(least) + 1 {
			outside += exactly
			exactly *= float64(n-below) / float64(below+1)
		}
		if within := 1 - 2*outside; within < 0.95 {
			t.Errorf("of %d values: the median lies within %.3f of the time", n, within)
		}
	}
	if _, _, known := interval([]float64{1, 2, 3, 4, 5}); known {
		t.Error("five values say where their median lies")
	}
}

// Of whom did not take part nothing is said.
func TestVerdictsWithoutPeers(t *testing.T) {
	g := testRace()
	all := g.entrants
	g.entrants = all[:3]
	if got := g.verdicts(); got != nil {
		t.Errorf("verdicts without peers: %v", got)
	}
	g.entrants = all[:4]
	for _, v := range g.verdicts() {
		if !strings.Contains(v.measured, "Envoy") || strings.Contains(v.what, "memory") {
			t.Errorf("with Envoy alone: %s", v)
		}
	}
	g.entrants = slices.Delete(slices.Clone(all), 1, 2)
	if got := g.verdicts(); got != nil {
		t.Errorf("verdicts without ours: %v", got)
	}
}

func TestReport(t *testing.T) {
	g := testRace()
	logged := g.entrants[1]
	logged.accessLog, logged.answered, logged.lines = "access.log", 1000, 995
	var out strings.Builder
	g.report(&out)
	for _, want := range []string{"access logs off", "5250", "95.0", "2.00", "18.1", "99.5", "–", "150"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// The lines of an access log are counted, so that nobody is fast by leaving some out.
func TestCountLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(file, []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 2000)+"half a line"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &entrant{accessLog: file, answered: 4000}
	if err := e.countLines(); err != nil || e.lines != 2000 || e.logged() != "50.0" {
		t.Errorf("%d lines, %s %%, %v", e.lines, e.logged(), err)
	}
	if err := (&entrant{accessLog: file + ".other"}).countLines(); err == nil {
		t.Error("an access log that is not there is an empty one")
	}
	none := &entrant{answered: 1}
	if err := none.countLines(); err != nil || none.logged() != "–" {
		t.Errorf("without an access log: %s, %v", none.logged(), err)
	}
}

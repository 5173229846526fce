package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A real TLS server understands the ClientHello, and sees the name in it.
func TestClientHello(t *testing.T) {
	if len(hello) != helloLength {
		t.Fatalf("%d bytes; want %d", len(hello), helloLength)
	}
	client, server := net.Pipe()
	defer client.Close()
	seen := errors.New("seen")
	var name string
	go func() {
		_, _ = client.Write(hello)
		_, _ = io.Copy(io.Discard, client)
	}()
	err := tls.Server(server, &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		name = info.ServerName
		return nil, seen
	}}).HandshakeContext(t.Context())
	server.Close()
	if !errors.Is(err, seen) || name != serverName {
		t.Errorf("name %q, error %v", name, err)
	}
}

func TestParseStat(t *testing.T) {
	const line = "4711 (a) b (c)) S 42 4711 4711 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 8 0 100 0 0\n"
	got, err := parseStat(line)
	want := stat{pid: 4711, parent: 42}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1 (x) S", "x (y) S 1 1 1 1 1 1 1 1 1 1 1 1 1", "no brackets at all but quite a few words in this line here"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestParsePSS(t *testing.T) {
	got, err := parsePSS("Rss:  900 kB\nPss:                 512 kB\nPss_Dirty:  10 kB\n")
	if err != nil || got != 512*1024 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, bad := range []string{"Rss: 1 kB\n", "Pss: many kB\n"} {
		if _, err := parsePSS(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// What /proc says of this very process is understood too.
func TestOwnProcess(t *testing.T) {
	content, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Skip("this system has no /proc: the bench needs Linux, its other tests do not")
	}
	if s, err := parseStat(string(content)); err != nil || s.pid != os.Getpid() || s.parent != os.Getppid() {
		t.Errorf("got %+v, %v", s, err)
	}
}

// The clock of a process is that of all its threads: for this one, the kernel's own
// name of it says the same.
func TestProcessClock(t *testing.T) {
	read := func(clock int32) time.Duration {
		var at unix.Timespec
		if err := unix.ClockGettime(clock, &at); err != nil {
			t.Fatal(err)
		}
		return time.Duration(at.Nano())
	}
	before := read(unix.CLOCK_PROCESS_CPUTIME_ID)
	between := read(processClock(os.Getpid()))
	after := read(unix.CLOCK_PROCESS_CPUTIME_ID)
	if before > between || between > after || before == 0 {
		t.Errorf("%s is not between %s and %s", between, before, after)
	}
}

func TestParseBusy(t *testing.T) {
	// Idle and waiting for a disk are not busy; what a hypervisor took is.
	got, err := parseBusy("cpu  100 20 3 999 888 4 50 600 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
	if want := 7770 * time.Millisecond; err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	for _, bad := range []string{"", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2 3", "cpu 1 2 x 4 5 6 7 8"} {
		if _, err := parseBusy(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestQuantile(t *testing.T) {
	values := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for share, want := range map[float64]int{0: 1, 0.5: 6, 0.99: 10, 1: 10} {
		if got := quantile(values, share); got != want {
			t.Errorf("quantile(%v) = %d; want %d", share, got, want)
		}
	}
	inOrder := []float64{3, 1, 2}
	if quantile([]int(nil), 0.5) != 0 || median(inOrder) != 2 || inOrder[0] != 3 {
		t.Error("of nothing, or the median of three, which stay in the order of their rounds")
	}
}

// A program that ends before it is ready is told from one that is slow, and what
// it printed is in the error.
func TestNotReady(t *testing.T) {
	address, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(t.TempDir(), "sh", "-c", "echo no such file >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	if err := p.ready(t.Context(), address.String()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v", err)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	good := settings{rounds: 1, duration: time.Second, idle: 1, parts: []string{"gateway"}, gateways: []string{"nginx", "isthmus-relay"}, logs: []string{"on"}}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*settings){
		"part": func(s *settings) { s.parts = []string{"gatway"} }, "gateway": func(s *settings) { s.gateways = []string{"envoi"} },
		"logs": func(s *settings) { s.logs = []string{"maybe"} }, "rounds": func(s *settings) { s.rounds = 0 },
		"long": func(s *settings) { s.duration = time.Hour }, "idle": func(s *settings) { s.idle = 100_000 },
	} {
		s := good
		spoil(&s)
		if err := run(t.Context(), s, io.Discard); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// The pipeline's parts fit together: one event reaches the gateway's table.
func TestPipeline(t *testing.T) {
	var out strings.Builder
	if _, err := benchPipeline(t.Context(), settings{}, t.TempDir(), &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "event append to gateway table applied") {
		t.Errorf("printed:\n%s", out.String())
	}
}

func TestBenchmarkLine(t *testing.T) {
	const output = "goos: linux\nBenchmarkInstanceChange/100-2   \t   38036\t     29870 ns/op\t   12 B/op\nBenchmarkFirstResolve/10000x10 \t 1\t 1.5e+09 ns/op\nPASS\n"
	got := benchmarkLine.FindAllStringSubmatch(output, -1)
	if len(got) != 2 || got[0][1] != "InstanceChange/100" || got[0][3] != "29870" || got[1][1] != "FirstResolve/10000x10" || got[1][3] != "1.5e+09" {
		t.Errorf("read %q", got)
	}
}

func TestMachineFacts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "facts")
	if err := os.WriteFile(file, []byte("processor\t: 0\nmodel name\t: Fast One\nmodel name\t: Slow One\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := field(file, "model name"); got != "Fast One" {
		t.Errorf("got %q", got)
	}
	if !strings.HasPrefix(machineFacts(), "machine: ") {
		t.Error(machineFacts())
	}
}

// The resolver's verdicts come from medians, and growth beyond what is asked for
// does not hold.
func TestResolverReport(t *testing.T) {
	r := resolverRuns{cost: map[string][]float64{}, iterations: map[string]int{}}
	for name, costs := range map[string][3]string{
		"InstanceChange/100": {"20000", "30000", "90000"}, "InstanceChange/1000": {"44000", "10000", "99000"},
		"InstanceChange/10000": {"46000", "47000", "40000"}, "FirstResolve/10000x10": {"3e+09", "4e+09", "5e+09"},
	} {
		for _, cost := range costs {
			if err := r.take(name, "goos: linux\nBenchmark"+name+"-2 \t 7\t "+cost+" ns/op\t 467.4 MiB-held\nPASS\n"); err != nil {
				t.Fatal(err)
			}
		}
	}
	var out strings.Builder
	verdicts := r.report(3, &out)
	if len(verdicts) != 2 || !verdicts[0].ok || verdicts[0].measured != "1.47x" || verdicts[1].ok || verdicts[1].measured != "1.53x" {
		t.Errorf("verdicts: %+v", verdicts)
	}
	for _, want := range []string{"30.0 µs", "20.0 to 90.0, 21 changes", "4.00 s", "467 MiB"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if err := r.take("InstanceChange/100", "PASS\n"); !errors.Is(err, errNoLine) {
		t.Errorf("error %v of a benchmark that printed nothing", err)
	}
}

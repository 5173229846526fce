package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	want := stat{pid: 4711, parent: 42, cpu: 2 * time.Second}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1 (x) S 2", "x (y) S 1 1 1 1 1 1 1 1 1 1 1 1 1", "no brackets at all but quite a few words in this line here"} {
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

func TestQuantile(t *testing.T) {
	values := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for share, want := range map[float64]int{0: 1, 0.5: 6, 0.99: 10, 1: 10} {
		if got := quantile(values, share); got != want {
			t.Errorf("quantile(%v) = %d; want %d", share, got, want)
		}
	}
	if quantile([]int(nil), 0.5) != 0 || median([]float64{3, 1, 2}) != 2 {
		t.Error("of nothing, or the median of three")
	}
}

// The load counts what it did: connections with their answer, bytes that the
// backend has seen. Here nothing is between the two.
func TestLoadWithoutProxy(t *testing.T) {
	b, err := startBackend()
	if err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	e := &entrant{name: "direct", address: b.address().String()}
	if err := e.round(t.Context(), b, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if e.perSecond[0] <= 0 || e.p50[0] <= 0 || e.p99[0] < e.p50[0] || len(e.cpu) != 0 {
		t.Errorf("connections: %+v", e)
	}
	if e.bulk[0] <= 0 || b.bytes.Load() < bulkStreams*bulkWrite {
		t.Errorf("bulk: %v bytes/s, %d bytes", e.bulk[0], b.bytes.Load())
	}
}

// A proxy that is not there ends the measurement, and is not a slow proxy.
func TestLoadWithoutBackend(t *testing.T) {
	address, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := measureConnections(t.Context(), address.String(), time.Hour); err == nil {
		t.Error("connections to nobody were measured")
	}
}

// Failed connections are counted beside those that got their answer, and are an
// error at the end.
func TestFailuresAreCounted(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		refuseEverySecond(listener)
	}()
	defer func() {
		listener.Close()
		<-served
	}()
	result, err := measureConnections(t.Context(), listener.Addr().String(), time.Hour)
	if err != nil || result.failed < mostFailures || result.failed >= mostFailures+clients || result.count == 0 || result.failure == nil {
		t.Errorf("%d answered, %d failed (%v): %v", result.count, result.failed, result.failure, err)
	}
	e := &entrant{name: "half", failed: result.failed, failure: result.failure}
	if err := failures([]*entrant{{name: "whole"}, e}); err == nil || !strings.Contains(err.Error(), "half: ") || strings.Contains(err.Error(), "whole") {
		t.Errorf("error %v", err)
	}
}

// refuseEverySecond is a proxy that closes every second connection unanswered.
func refuseEverySecond(listener net.Listener) {
	for i := 0; ; i++ {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		if i%2 == 0 {
			_, _ = io.ReadFull(conn, make([]byte, helloLength))
			_, _ = conn.Write(answer)
		}
		_ = conn.Close()
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

// Every peer gets the same duty: its configuration names where to listen, the
// server name and the backend.
func TestConfigurations(t *testing.T) {
	d := duty{
		Listen: netip.MustParseAddrPort("127.0.0.1:20001"), Backend: netip.MustParseAddrPort("127.0.0.1:20002"),
		ServerName: serverName, Threads: 3, Folder: "/folder", Module: "/module.so",
	}
	for _, c := range contenders {
		t.Run(c.name, func(t *testing.T) {
			said := strings.Join(c.arguments(d), " ")
			for _, source := range c.files {
				content, err := c.configure(source, d)
				if err != nil {
					t.Fatal(err)
				}
				said += "\n" + string(content)
			}
			want := []string{"20001", "20002", serverName, map[string]string{
				"Envoy": "--concurrency 3", "HAProxy": "nbthread 3", "nginx": "worker_processes 3",
			}[c.name]}
			if c.name == "isthmus" {
				// The name follows from the service, its datacenter and the trust domain.
				want = []string{"20001", "20002", `name = "api"`, "--datacenter dc2", trustDomain}
			}
			for _, text := range want {
				if !strings.Contains(said, text) {
					t.Errorf("%s is not told %q:\n%s", c.name, text, said)
				}
			}
		})
	}
}

func TestReport(t *testing.T) {
	entrants := []*entrant{
		{name: "direct", perSecond: []float64{7000}, p50: []float64{1}, p99: []float64{2}, bulk: []float64{3e9}},
		{name: "isthmus", process: &process{}, perSecond: []float64{3000, 3300, 3200}, p50: []float64{1}, p99: []float64{2}, cpu: []float64{242}, bulk: []float64{1.5e9}, idle: 2100},
		{name: "Envoy", process: &process{}, perSecond: []float64{2600, 2500, 2000}, p50: []float64{1}, p99: []float64{2}, cpu: []float64{363}, bulk: []float64{1.2e9}, idle: 18100},
	}
	var out strings.Builder
	verdicts := report(entrants, 100, &out)
	if len(verdicts) != 2 || !verdicts[0].ok || verdicts[0].measured != "1.28x" || verdicts[1].ok || verdicts[1].measured != "1.25x" {
		t.Errorf("verdicts: %+v", verdicts)
	}
	if !strings.Contains(verdicts[1].String(), "DOES NOT HOLD") {
		t.Errorf("a number that is too low reads like one that is not: %s", verdicts[1])
	}
	for _, want := range []string{"3200", "242", "1.50", "2.1", "18.1", "–"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if got := report(entrants[:2], 100, io.Discard); got != nil {
		t.Errorf("verdicts without Envoy: %v", got)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	good := settings{rounds: 1, duration: time.Second, idle: 1, parts: []string{"gateway"}, gateways: []string{"nginx"}}
	for name, spoil := range map[string]func(*settings){
		"part": func(s *settings) { s.parts = []string{"gatway"} }, "gateway": func(s *settings) { s.gateways = []string{"envoi"} }, "rounds": func(s *settings) { s.rounds = 0 },
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

// Nothing of a run that was called off is reported as measured.
func TestCalledOff(t *testing.T) {
	b, err := startBackend()
	if err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := measureConnections(ctx, b.address().String(), time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
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

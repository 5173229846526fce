package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/top"
)

// reading is gateway gw1's, whose connections grow by ten a second.
func reading(began, now time.Time) []top.Reading {
	r := top.Reading{From: top.FromAdmin, Clock: now.Sub(began)}
	r.Name, r.Accepted = "gw1", uint64(10*now.Sub(began)/time.Second)
	return []top.Reading{r}
}

func TestTopReadsAtTheInterval(t *testing.T) {
	for _, tt := range []struct {
		name   string
		atOnce bool
		want   []time.Duration
	}{
		{"each table has rates", false, []time.Duration{2 * time.Second, 4 * time.Second, 6 * time.Second}},
		{"a terminal is not kept waiting", true, []time.Duration{0, 2 * time.Second, 4 * time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				run := topRun{topFlags: topFlags{interval: 2 * time.Second, count: 3}, atOnce: tt.atOnce}
				run.read = func(_ context.Context, now time.Time) ([]top.Reading, string) { return reading(began, now), "trouble" }
				var shown []time.Duration
				err := run.run(t.Context(), func(f *top.Frame) error {
					shown = append(shown, time.Since(began))
					if rate := f.Gateways[0].Rates.Connections; len(shown) > 1 && (rate == nil || *rate != 10) || f.Trouble != "trouble" {
						t.Errorf("after %s: %+v", time.Since(began), f)
					}
					return nil
				})
				if err != nil || !slices.Equal(shown, tt.want) {
					t.Errorf("shown after %v (%v); want %v", shown, err, tt.want)
				}
			})
		})
	}
}

// A reading that takes longer than the interval makes rates no greater.
func TestTopMeasuresTheTimeThatPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		run := topRun{topFlags: topFlags{interval: time.Second, count: 2}}
		run.read = func(context.Context, time.Time) ([]top.Reading, string) {
			time.Sleep(3 * time.Second)
			return reading(began, time.Now()), ""
		}
		err := run.run(t.Context(), func(f *top.Frame) error {
			if g := f.Gateways[0]; *g.Seconds != 3 || *g.Rates.Connections != 10 {
				t.Errorf("measured over %v: %v", *g.Seconds, *g.Rates.Connections)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestTopEndsWhenItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		run := topRun{topFlags: topFlags{interval: time.Second}}
		run.read = func(_ context.Context, now time.Time) ([]top.Reading, string) { return reading(now, now), "" }
		shown := 0
		err := run.run(ctx, func(*top.Frame) error {
			if shown++; shown == 2 {
				cancel()
			}
			return nil
		})
		if err != nil || shown != 2 {
			t.Errorf("shown %d times, ended with %v", shown, err)
		}
		broken := errors.New("nobody listens")
		if err := run.run(t.Context(), func(*top.Frame) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestTopFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string
	}{
		{"--interval 1ms", "--interval is 100ms at the least"},
		{"--count -1", "not below zero"},
		{"--once --count 2", "exclude each other"},
		{"--sort size", "--sort is connections, rate, bytes, refusals or name"},
		{"-o yaml", "--output is text or json"},
	} {
		var said output
		args := append([]string{"gateways", "top"}, strings.Fields(tt.args)...)
		code := newApp(io.Discard, &said, func(string) string { return "" }).main(t.Context(), args)
		if code != exitUsage || !strings.Contains(said.String(), tt.want) {
			t.Errorf("%s: exit code %d, said %q", tt.args, code, said.String())
		}
	}
}

func gatewayReport(name, proxy string, listen ...string) *isthmusv1.Report {
	return &isthmusv1.Report{Name: name, Datacenter: "dc1", Gateway: &isthmusv1.GatewayStatus{Proxy: proxy, ListenAddresses: listen}}
}

func TestGatewaysAreNamed(t *testing.T) {
	plain := gatewayReport("n1", "", "10.0.0.1:8443")
	registered := gatewayReport("some name", "n2/mesh-gateway")
	for _, tt := range []struct {
		name string
		want []*isthmusv1.Report
	}{
		{"n1", []*isthmusv1.Report{plain}},
		{"N1", []*isthmusv1.Report{plain}},
		{"n1/mesh-gateway", []*isthmusv1.Report{plain}},
		{"10.0.0.1:8443", []*isthmusv1.Report{plain}},
		{"some name", []*isthmusv1.Report{registered}},
		{"n2/mesh-gateway", []*isthmusv1.Report{registered}},
		{"n2", nil},
		{"mesh-gateway", nil},
	} {
		reports := []*isthmusv1.Report{plain, registered}
		err := checkNames(reports, []string{"dc1"}, []string{tt.name})
		got := choose(reports, []string{tt.name})
		if !slices.Equal(got, tt.want) || (err == nil) != (len(tt.want) > 0) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
	if err := checkNames(nil, []string{"dc1"}, nil); !errors.Is(err, errNoGateway) {
		t.Errorf("without any gateway: %v", err)
	}
}

func TestADrawingReplacesWhatIsThere(t *testing.T) {
	if got := drawing("one\ntwo\n"); got != "\x1b[Hone\x1b[K\r\ntwo\x1b[K\x1b[J" {
		t.Errorf("drawn %q", got)
	}
	if _, ok := terminal(&output{}, func(string) string { return "" }); ok {
		t.Error("a buffer is a terminal")
	}
}

// The whole way: requests through gateways of two datacenters, and what top says of
// them, as a program reads it and as a person does.
func TestTopShowsWhatADevCarries(t *testing.T) {
	catalog := movedCatalog(t)
	environment := startDev(t, catalog)
	if idle := topFrames(t, environment, 1)[0]; len(idle.Gateways) != 4 || len(idle.Routes) != 0 {
		t.Errorf("before any request: %+v", idle)
	}
	web, err := os.ReadFile(filepath.Join(catalog, "dc1", "dc1-web-1", "web.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	// Its upstream db goes through a gateway of its own datacenter, and one of dc2.
	conn := requestThrough(t, regexp.MustCompile(`local_bind_address = "(.*)"`).FindStringSubmatch(string(web))[1]+":10001")
	defer conn.Close()

	frames := topFrames(t, environment, 2)
	for _, g := range frames[1].Gateways {
		if g.From != top.FromAdmin || g.State != "serving" || g.Trouble != "" || g.Rates.Connections == nil {
			t.Errorf("%+v", g)
		}
	}
	for _, want := range []struct{ datacenter, route string }{{"dc1", "*.dc2.internal."}, {"dc2", "db.default.dc2.internal."}} {
		i := slices.IndexFunc(frames[1].Routes, func(r top.Route) bool {
			return r.Datacenter == want.datacenter && strings.HasPrefix(r.Name, want.route)
		})
		if i < 0 {
			t.Fatalf("%s has no route %s…: %+v", want.datacenter, want.route, frames[1].Routes)
		}
		r := frames[1].Routes[i]
		if r.Connections != 1 || *r.Open != 1 || r.BytesIn == 0 || r.BytesOut == 0 || *r.Refused != 0 || *r.Live == 0 || r.Rates.BytesIn == nil {
			t.Errorf("the route is %+v", r)
		}
	}
	text, code := ask(t, environment, "gateways", "top", "--once", "--interval", "100ms", "--datacenter", "dc2", "dc2-gateway-1", "dc2-gateway-2", "--by-gateway")
	if code != exitOK || !strings.Contains(text, "2 gateways") || !strings.Contains(text, "db.default.dc2") || strings.Contains(text, "\x1b") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	if dev, err := findDev(environment); err != nil || dev.Datacenters[0].Gateways[0].Admin == "" {
		t.Errorf("the state file does not say where the counters are: %+v, %v", dev, err)
	}
	if _, code := ask(t, environment, "gateways", "top", "nobody"); code != exitFailure {
		t.Errorf("a gateway that is not there: exit code %d", code)
	}
}

// topFrames is what so many intervals give.
func topFrames(t *testing.T, environment func(string) string, count int) []top.Frame {
	t.Helper()
	out, code := ask(t, environment, "gateways", "top", "--count", strconv.Itoa(count), "--interval", "100ms", "-o", "json")
	if code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	var frames []top.Frame
	for line := range strings.Lines(out) {
		var f top.Frame
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		frames = append(frames, f)
	}
	if len(frames) != count {
		t.Fatalf("%d lines; want %d", len(frames), count)
	}
	return frames
}

// requestThrough makes one request on a connection that it keeps open.
func requestThrough(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: db\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return conn
}

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/gateway/sidecar"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/envoy"
	"github.com/isthmus-mesh/isthmus/services/history"
)

// The data plane is mixed where there is an Envoy and Go where there is none; one that
// was asked for and cannot be had is an error that says what to do.
func TestDataplaneIsSettled(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "envoy")
	if err := os.WriteFile(binary, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		flags    dataplaneFlags
		path     string
		variable string
		want     dataplane
		err      error
	}{
		{name: "one on the PATH", path: dir, want: dataplane{kind: dataplaneMixed, envoy: binary}},
		{name: "one of the environment", variable: binary, want: dataplane{kind: dataplaneMixed, envoy: binary}},
		{name: "one that is named", flags: dataplaneFlags{binary: binary}, want: dataplane{kind: dataplaneMixed, envoy: binary}},
		{name: "none", want: dataplane{kind: dataplaneGo, missing: true}},
		{name: "go, though there is one", flags: dataplaneFlags{kind: "go"}, path: dir, want: dataplane{kind: dataplaneGo}},
		{name: "envoy", flags: dataplaneFlags{kind: "envoy"}, path: dir, want: dataplane{kind: dataplaneEnvoy, envoy: binary}},
		{name: "mixed", flags: dataplaneFlags{kind: "mixed"}, path: dir, want: dataplane{kind: dataplaneMixed, envoy: binary}},
		{name: "envoy, and there is none", flags: dataplaneFlags{kind: "envoy"}, err: envoy.ErrNotFound},
		{name: "mixed, and there is none", flags: dataplaneFlags{kind: "mixed"}, err: envoy.ErrNotFound},
		{name: "a name of nothing", flags: dataplaneFlags{binary: "/not/there"}, err: envoy.ErrNotFound},
		{name: "nothing in the environment's place", variable: "/not/there", path: dir, err: envoy.ErrNotFound},
	} {
		if c.path == "" {
			c.path = t.TempDir()
		}
		t.Setenv("PATH", c.path)
		got, err := c.flags.settle(func(name string) string { return map[string]string{envoy.Variable: c.variable}[name] })
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

// What is asked for and cannot be is told before anything runs, with the next step.
func TestDataplaneThatCannotBe(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, c := range []struct {
		args string
		code int
		says []string
	}{
		{"demo --dataplane envoy", exitFailure, []string{"there is no Envoy on the PATH", "next: name one by --envoy-binary or ISTHMUS_ENVOY, or take --dataplane go"}},
		{"demo --dataplane mixed", exitFailure, []string{"there is no Envoy on the PATH", "next: "}},
		{"demo --dataplane nginx", exitUsage, []string{`--dataplane is go, envoy or mixed, not "nginx"`}},
		{"demo --dataplane go --envoy-binary /bin/envoy", exitUsage, []string{"--envoy-binary is of no use"}},
		{"dev --dataplane envoy", exitFailure, []string{"there is no Envoy on the PATH", "next: "}},
		{"dev --dataplane nginx", exitUsage, []string{"go, envoy or mixed"}},
	} {
		home := t.TempDir()
		var out, said output
		a := newApp(&out, &said, func(name string) string { return map[string]string{"HOME": home, "XDG_RUNTIME_DIR": home}[name] })
		if code := a.main(t.Context(), strings.Fields(c.args)); code != c.code || out.String() != "" {
			t.Errorf("%s: exit code %d, %q", c.args, code, out.String())
		}
		for _, want := range c.says {
			if !strings.Contains(said.String(), want) {
				t.Errorf("%s: said %q, want %q", c.args, said.String(), want)
			}
		}
	}
}

// On a machine without an Envoy the demo runs as ever, and says so in a line.
func TestDemoWithoutEnvoySaysSo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	home := t.TempDir()
	var out output
	a := newApp(&out, t.Output(), func(name string) string { return map[string]string{"HOME": home}[name] })
	if code := a.main(t.Context(), []string{"demo", "--catalog", movedCatalog(t)}); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"\n  data plane: Go sidecars and gateways, as no Envoy was found: name one by ISTHMUS_ENVOY", "\n10 facts held"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
}

// A line of an Envoy's access log becomes the record that a Go sidecar would have
// written: the path is told by who is registered where the connection went.
func TestAccessLogOfAnEnvoy(t *testing.T) {
	upstreams := []*isthmusv1.Upstream{
		{DestinationName: "api", Datacenter: "dc2", LocalBindAddress: "127.1.0.10", LocalBindPort: 10000},
		{DestinationName: "cache", LocalBindPort: 10001},
	}
	web := worldSidecar{datacenter: "dc1", node: "n", id: "web", public: "127.1.0.10:8181", instance: &isthmusv1.ServiceInstance{
		Proxy: &isthmusv1.Proxy{DestinationServiceName: "web", Upstreams: upstreams},
	}}
	w := &world{
		gateways: []*worldGateway{
			{datacenter: "dc1", listen: []string{"127.1.0.20:8443", "127.1.0.20:8444"}}, {datacenter: "dc2", listen: []string{"127.2.0.20:8443", "127.2.0.20:8444"}},
		},
		sidecars: []worldSidecar{web, {datacenter: "dc2", public: "127.2.0.10:21000"}},
	}
	record := func(direction sidecar.Direction, route, listener, endpoint string, path isthmusv1.Path, reason sidecar.Reason) *sidecar.Record {
		return &sidecar.Record{
			Start: time.Unix(1700000000, 5), Direction: direction, Route: route, Listener: listener, Endpoint: endpoint, Path: path, Reason: reason,
		}
	}
	const begun = "isthmus-demo 1700000000.000000005 "
	for line, want := range map[string]*sidecar.Record{
		begun + "127.1.0.10:10000 127.2.0.20:8444 -":    record(sidecar.Outbound, "api@dc2", "127.1.0.10:10000", "127.2.0.20:8444", isthmusv1.Path_PATH_REMOTE_GATEWAY, sidecar.ReasonDone),
		begun + "127.1.0.10:10000 127.1.0.20:8443 -":    record(sidecar.Outbound, "api@dc2", "127.1.0.10:10000", "127.1.0.20:8443", isthmusv1.Path_PATH_LOCAL_GATEWAY, sidecar.ReasonDone),
		begun + "127.1.0.10:10000 127.2.0.10:21000 DC":  record(sidecar.Outbound, "api@dc2", "127.1.0.10:10000", "127.2.0.10:21000", isthmusv1.Path_PATH_DIRECT, sidecar.ReasonDone),
		begun + "127.1.0.10:10000 127.9.9.9:1 -":        record(sidecar.Outbound, "api@dc2", "127.1.0.10:10000", "127.9.9.9:1", isthmusv1.Path_PATH_UNSPECIFIED, sidecar.ReasonDone),
		begun + "127.1.0.10:10000 127.2.0.20:8444 UF":   record(sidecar.Outbound, "api@dc2", "127.1.0.10:10000", "127.2.0.20:8444", isthmusv1.Path_PATH_REMOTE_GATEWAY, sidecar.ReasonConnectFailed),
		begun + "127.1.0.10:10000 127.2.0.20:8444 X,UF": record(sidecar.Outbound, "api@dc2", "127.1.0.10:10000", "127.2.0.20:8444", isthmusv1.Path_PATH_REMOTE_GATEWAY, sidecar.ReasonConnectFailed),
		begun + "127.1.0.10:10000 - UH":                 record(sidecar.Outbound, "api@dc2", "127.1.0.10:10000", "", isthmusv1.Path_PATH_UNSPECIFIED, sidecar.ReasonConnectFailed),
		begun + "127.0.0.1:10001 127.1.0.10:8181 -":     record(sidecar.Outbound, "cache@dc1", "127.0.0.1:10001", "127.1.0.10:8181", isthmusv1.Path_PATH_DIRECT, sidecar.ReasonDone),
		begun + "127.1.0.10:8181 127.1.0.10:8080 -":     record(sidecar.Inbound, "web", "127.1.0.10:8181", "127.1.0.10:8080", isthmusv1.Path_PATH_UNSPECIFIED, sidecar.ReasonDone),
		begun + "127.1.0.10:10000 127.2.0.20:8444":      nil,
		"isthmus-demo yesterday 127.1.0.10:1 - -":       nil,
		"somebody else's line":                          nil,
	} {
		got := w.readLine(web, line)
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%s: %+v, want %+v", line, got, want)
		}
	}
}

// Lines are handed over whole, however they come.
func TestLinesAreWhole(t *testing.T) {
	var lines []string
	w := &lineWriter{line: func(line string) { lines = append(lines, line) }}
	for _, piece := range []string{"one\ntw", "o", "\n\nthree\n", "rest"} {
		if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if got := strings.Join(lines, "|"); got != "one|two||three" {
		t.Errorf("lines %s", got)
	}
}

// A dev with Envoys is one for all commands.
func TestCommandsFindADevWithEnvoys(t *testing.T) {
	environment := startDev(t, movedCatalog(t), "--dataplane", "mixed", "--envoy-binary", envoytest.Need(t))
	var proxies []history.ProxyStatus
	until(t, "the Envoys are not as far as the routes", func() bool {
		out, code := ask(t, environment, "proxies", "-o", "json")
		if code != exitOK || json.Unmarshal([]byte(out), &proxies) != nil {
			t.Errorf("exit code %d: %s", code, out)
			return true
		}
		return !slices.ContainsFunc(proxies, func(p history.ProxyStatus) bool { return p.Behind == nil || p.Behind.Events > 0 })
	})
	var names []string
	for _, p := range proxies {
		if strings.HasPrefix(p.Reporter, "xds/") && p.Connected && p.LastNack == nil {
			names = append(names, p.Proxy)
		}
	}
	want := "dc1-web-1/web-sidecar-proxy dc2-api-1/api-sidecar-proxy dc2-db-1/db-sidecar-proxy dc2-gateway-2/mesh-gateway " +
		"dc2-logging-1/logging-sidecar-proxy dc2-search-1/search-sidecar-proxy"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("the Envoys are %s\nwant           %s", got, want)
	}
	for args, want := range map[string][]string{
		"gateways":  {"dc1-gateway-1/mesh-gateway", "serving", "connected to xds/"},
		"probe web": {"→ api@dc2 connected", "→ db@dc2 connected", "→ logging@dc2 connected", "→ search@dc2 connected"},
	} {
		out, code := ask(t, environment, strings.Fields(args)...)
		if code != exitOK {
			t.Errorf("isthmus %s: exit code %d\n%s", args, code, out)
		}
		for _, part := range want {
			if !strings.Contains(out, part) {
				t.Errorf("isthmus %s does not say %q:\n%s", args, part, out)
			}
		}
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/embed"
	"github.com/isthmus-mesh/isthmus/services/check"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	"github.com/isthmus-mesh/isthmus/services/role"
)

// checkLine runs isthmus check to its end.
func checkLine(t *testing.T, stderr io.Writer, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var stdout bytes.Buffer
	home := t.TempDir()
	a := newApp(&stdout, stderr, func(name string) string { return map[string]string{"HOME": home}[name] })
	code := a.main(ctx, append([]string{"check"}, args...))
	return stdout.String(), code
}

// checkJSON is its answer to programs.
func checkJSON(t *testing.T, args ...string) ([]check.Finding, int) {
	t.Helper()
	text, code := checkLine(t, t.Output(), append(args, "-o", "json")...)
	var findings []check.Finding
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&findings); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return findings, code
}

func putConfig(t *testing.T, a *devagent.Agent, method, path string, body any) {
	t.Helper()
	if err := a.Call(t.Context(), method, path, body, nil); err != nil {
		t.Fatal(err)
	}
}

// A healthy federation ends well; what fails ends with 1, and with --wait when it
// is mended.
func TestCheckCommand(t *testing.T) {
	t.Parallel()
	dcs := agenttest.StartFederation(t, devagent.Config{}, "dc1", "dc2")
	consulFlag := "--consul=dc1=" + dcs[0].HTTP + ",dc2=" + dcs[1].HTTP
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}

	text, code := checkLine(t, t.Output(), consulFlag)
	t.Log("\n" + text)
	if code != exitOK || !strings.HasPrefix(text, " 1 √ AGENT dc1, agent dc1-server: answers") || !strings.Contains(text, " 0 failed, judged from "+host) {
		t.Errorf("exit code %d", code)
	}
	findings, code := checkJSON(t, consulFlag, "--datacenter", "dc2")
	if code != exitOK || len(findings) == 0 || slices.ContainsFunc(findings, func(f check.Finding) bool { return f.Datacenter != "dc2" || f.From != host }) {
		t.Errorf("exit code %d, %+v", code, findings)
	}
	// With one agent its datacenter is what it says.
	findings, code = checkJSON(t, "--consul", dcs[1].HTTP)
	if i := slices.IndexFunc(findings, func(f check.Finding) bool { return f.Code == check.Agent && f.Status == check.Pass }); code != exitOK || i < 0 || findings[i].Datacenter != "dc2" {
		t.Errorf("exit code %d, %+v", code, findings)
	}

	for _, c := range []check.Code{check.ModePending, check.StickyDefaults} {
		if got := statuses(findings, c); got != "pass" {
			t.Errorf("the audit: %s is %q", c, got)
		}
	}

	mode := func(mode string) map[string]any { return map[string]any{"Mode": mode} }
	putConfig(t, dcs[0], http.MethodPut, "/v1/config", map[string]any{"Kind": "proxy-defaults", "Name": "global", "MeshGateway": mode("remote")})
	putConfig(t, dcs[0], http.MethodPut, "/v1/config", map[string]any{
		"Kind": "service-defaults", "Name": "sticky", "UpstreamConfig": map[string]any{"Defaults": map[string]any{"MeshGateway": mode("local")}},
	})
	if findings, code = checkJSON(t, consulFlag, "--datacenter", "dc1"); code != exitOK || statuses(findings, check.StickyDefaults) != "warn" {
		t.Errorf("a sticky default: exit code %d, %+v", code, findings)
	}
	putConfig(t, dcs[0], http.MethodPut, "/v1/config", map[string]any{"Kind": "service-defaults", "Name": "web", "MeshGateway": mode("bogus")})
	findings, code = checkJSON(t, consulFlag)
	if code != exitFailure || !slices.ContainsFunc(findings, func(f check.Finding) bool {
		return f.Code == check.ModeInvalid && f.Datacenter == "dc1" && f.Status == check.Fail && f.Subject == "service-defaults/web" && f.Fix != ""
	}) {
		t.Errorf("exit code %d, %+v", code, findings)
	}
	// What is not asked about fails nothing.
	if findings, code = checkJSON(t, consulFlag, "--only", "AGENT,CONNECT"); code != exitOK || statuses(findings, check.Agent) == "" || statuses(findings, check.ModeInvalid) != "" {
		t.Errorf("exit code %d, %+v", code, findings)
	}
	if findings, code = checkJSON(t, consulFlag, "--only", "MODE_INVALID"); code != exitFailure || statuses(findings, check.Agent) != "" {
		t.Errorf("exit code %d, %+v", code, findings)
	}
	if _, code := checkLine(t, t.Output(), consulFlag, "--only", "agent"); code != exitUsage {
		t.Errorf("an unknown code: exit code %d", code)
	}
	var stderr bytes.Buffer
	if _, code := checkLine(t, &stderr, consulFlag, "--wait", "--timeout", "1ms"); code != exitFailure || !strings.Contains(stderr.String(), "gave up after 1ms") {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
	mend := &onFirst{do: func() { putConfig(t, dcs[0], http.MethodDelete, "/v1/config/service-defaults/web", nil) }}
	if text, code := checkLine(t, mend, consulFlag, "--wait"); code != exitOK || !strings.HasPrefix(mend.text.String(), "waiting for ") || !strings.Contains(mend.text.String(), "MODE_INVALID of dc1") {
		t.Errorf("exit code %d, %s\n%s", code, mend.text.String(), text)
	}
}

// onFirst does something at the first word that is written to it.
type onFirst struct {
	text bytes.Buffer
	do   func()
}

func (o *onFirst) Write(b []byte) (int, error) {
	if o.do != nil {
		o.do()
		o.do = nil
	}
	return o.text.Write(b)
}

// With the log, our own parts are judged: well while they run, and missed when they
// are gone.
func TestCheckParts(t *testing.T) {
	t.Parallel()
	a := agenttest.StartFederation(t, devagent.Config{}, "dc1", "dc2")[0]
	putConfig(t, a, http.MethodPut, "/v1/agent/service/register", map[string]any{
		"Name": "web", "Port": 80, "Connect": map[string]any{"SidecarService": map[string]any{
			"Proxy": map[string]any{"Upstreams": []any{map[string]any{"DestinationName": "api", "LocalBindPort": 1}}},
		}},
	})
	server, err := embed.Start(embed.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	log, err := bus.Connect(server.URL(), bus.Options{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	args := []string{"--consul", a.HTTP, "--nats", server.URL(), "--datacenter", "dc1"}

	findings, code := checkJSON(t, args...)
	if got := statuses(findings, check.Bus); code != exitFailure || got != "fail" {
		t.Errorf("before anything runs: exit code %d, BUS %s", code, got)
	}

	client, err := consul.Open(consul.Options{Address: a.HTTP, Environment: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	p := parts{log: log, owner: "test", logger: slog.New(slog.DiscardHandler), registerer: newRegistry()}
	w, err := watcherPart(p, watcherSettings{datacenter: "dc1", consul: client})
	if err != nil {
		t.Fatal(err)
	}
	r, err := resolverPart(p, "dc1", 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- role.Run(ctx, []role.Component{w, r}, role.Options{}) }()
	if err := awaitBasis(log, "dc1", "CATALOG_dc1", 0); err != nil {
		t.Fatal(err)
	}
	findings, _ = checkJSON(t, args...)
	for _, code := range []check.Code{check.Bus, check.Watcher, check.WatcherLag, check.Resolver, check.ResolverLag, check.GatewayReport} {
		if got := statuses(findings, code); got != "pass" {
			t.Errorf("while they run: %s is %s: %+v", code, got, findings)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	putConfig(t, a, http.MethodPut, "/v1/config", map[string]any{"Kind": "service-defaults", "Name": "web", "Protocol": "http"})
	findings, code = checkJSON(t, args...)
	for _, c := range []check.Code{check.Watcher, check.WatcherLag, check.Resolver} {
		if got := statuses(findings, c); code != exitFailure || got != "fail" {
			t.Errorf("when they are gone: exit code %d, %s is %s", code, c, got)
		}
	}
	// No server: the log is what fails, in the time that a question has.
	server.Stop()
	findings, _ = checkJSON(t, "--consul", a.HTTP, "--nats", server.URL())
	if got := statuses(findings, check.Bus); got != "fail" {
		t.Errorf("without a server: BUS is %s", got)
	}
}

// statuses are those of a code, by commas.
func statuses(findings []check.Finding, code check.Code) string {
	var out []string
	for _, f := range findings {
		if f.Code == code {
			out = append(out, string(f.Status))
		}
	}
	return strings.Join(slices.Compact(out), ",")
}

// --consul of check is one URL, or several with their datacenters.
func TestSplitAgents(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "=",
		"http://a:1":                "=http://a:1",
		"http://a:1/x=y":            "=http://a:1/x=y",
		"dc1=http://a:1":            "dc1=http://a:1",
		"dc1=http://a:1, dc2=b:2":   "dc1=http://a:1 dc2=b:2",
		"unix:///run/consul=1.sock": "=unix:///run/consul=1.sock",
		"http://a:1,http://b:2":     "error",
		"dc1=http://a:1,http://b:2": "error",
		"dc1=":                      "error",
		"=http://a":                 "error",
		"dc1=http://a:1,":           "error",
	} {
		agents, err := splitAgents(text)
		var got []string
		for _, g := range agents {
			got = append(got, g.datacenter+"="+g.url)
		}
		if err != nil {
			got = []string{"error"}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

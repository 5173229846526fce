package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// The same facts hold with real Consul as the catalog.
func TestDemoHoldsBesideConsul(t *testing.T) {
	agenttest.Need(t)
	began := time.Now()
	code, facts := runDemo(t, &demoRun{consul: true, catalog: movedCatalog(t)})
	t.Logf("the demo took %s", time.Since(began).Round(time.Millisecond))
	if code != exitOK {
		t.Errorf("exit code %d", code)
	}
	var names []string
	for _, f := range facts {
		names = append(names, f.Fact)
		if !f.OK || f.Saw != "" {
			t.Errorf("%+v", f)
		}
	}
	if got, want := strings.Join(names, "; "), strings.Join(demoFacts, "; "); got != want {
		t.Errorf("facts %s\nwant  %s", got, want)
	}
}

// What is broken in Consul is noticed there.
func TestDemoBesideConsulNoticesBrokenCauses(t *testing.T) {
	agenttest.Need(t)
	for fact, edit := range map[string]func(*testing.T, string){
		"api goes remote": edits("dc1/dc1-web-1/web.hcl", `mode = "remote"`, `mode = "local"`),
		"search goes local": func(t *testing.T, catalog string) {
			for _, dc := range []string{"dc1", "dc2"} { // Federated datacenters share it.
				edits(dc+"/proxy-defaults.hcl", `Mode = "local"`, `Mode = "remote"`)(t, catalog)
			}
		},
	} {
		catalog := movedCatalog(t)
		edit(t, catalog)
		code, facts := runDemo(t, &demoRun{consul: true, catalog: catalog, patience: 5 * time.Second})
		if last := facts[len(facts)-1]; code != exitFailure || last.Fact != fact || last.OK {
			t.Errorf("%s: exit code %d at %+v", fact, code, last)
		}
	}
	catalog := movedCatalog(t)
	edits("dc2/proxy-defaults.hcl", `Mode = "local"`, `Mode = "remote"`)(t, catalog)
	var said output
	code := newApp(t.Output(), &said, func(string) string { return "" }).main(t.Context(), []string{"demo", "--consul", "--catalog", catalog})
	if code != exitFailure || !strings.Contains(said.String(), "proxy-defaults/global differs between the datacenters") {
		t.Errorf("exit code %d, said %q", code, said.String())
	}
}

// Whoever ends it in the middle finds no agent and no file left behind.
func TestDemoBesideConsulEndsWhenTold(t *testing.T) {
	agenttest.Need(t)
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	ctx, tell := context.WithCancelCause(t.Context())
	d := &demoRun{consul: true, catalog: movedCatalog(t), spoil: func(_ *demoRun, at string) {
		if at == "the global mode flips" {
			tell(errors.New("enough"))
		}
	}}
	var said output
	if code, _ := runDemoIn(ctx, t, d, &said); code != exitFailure || !strings.Contains(said.String(), "the global mode flips: enough") {
		t.Errorf("exit code %d, said %q", code, said.String())
	}
	for _, agent := range d.agents {
		if agent.Running() {
			t.Errorf("%s still runs", agent.Node)
		}
	}
	left, err := os.ReadDir(temporary)
	for _, l := range left {
		if strings.HasPrefix(l.Name(), "isthmus-") {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// Without Consul the demo says how to get it, before it does anything.
func TestDemoNeedsConsul(t *testing.T) {
	t.Setenv("ISTHMUS_CONSUL_BINARY", "/nowhere/consul")
	var said output
	// The environment's variable means an agent, for other commands.
	consulURL := func(name string) string { return map[string]string{"ISTHMUS_CONSUL": "http://127.0.0.1:8500"}[name] }
	if code := newApp(t.Output(), &said, consulURL).main(t.Context(), []string{"demo", "--consul"}); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"Consul is not installed", "next: build it with deploy/tools/install.sh", "ISTHMUS_CONSUL_BINARY", "isthmus demo"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("said %q, want %q", said.String(), want)
		}
	}
}

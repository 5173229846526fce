package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// envoyChildren are the Envoys that this process runs, by their command line.
func envoyChildren(t *testing.T) map[int]string {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[int]string)
	for _, file := range files {
		text, _ := os.ReadFile(file) // The thread may have ended.
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			line, _ := os.ReadFile(filepath.Join("/proc", field, "cmdline")) // As may the child.
			if strings.Contains(string(line), "--admin-address-path") {
				out[pid] = string(line)
			}
		}
	}
	return out
}

// leavesNoEnvoy wants no Envoy to run.
func leavesNoEnvoy(t *testing.T) {
	t.Helper()
	if left := envoyChildren(t); len(left) > 0 {
		t.Errorf("Envoys still run: %v", left)
	}
}

// runsEnvoys notes how many Envoys run in each step.
func runsEnvoys(t *testing.T, into map[string]int) func(*demoRun, string) {
	return func(_ *demoRun, step string) { into[step] = len(envoyChildren(t)) }
}

// The same facts hold with Envoys, which run: all sidecars and one gateway where nothing
// is asked for, or everything; also with real Consul as the catalog.
func TestDemoHoldsWithEnvoys(t *testing.T) {
	binary := envoytest.Need(t)
	for _, c := range []struct {
		name, asked, dataplane string
		consul                 bool
		envoys                 int
	}{
		{name: "nothing is asked for", dataplane: "mixed", envoys: 6},
		{name: "all are Envoys", asked: "envoy", dataplane: "envoy", envoys: 9},
		{name: "beside Consul", asked: "envoy", dataplane: "envoy", consul: true, envoys: 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.consul {
				agenttest.Need(t)
			}
			began, running := time.Now(), make(map[string]int)
			code, facts := runDemo(t, &demoRun{
				catalog: movedCatalog(t), consul: c.consul, dataplane: dataplaneFlags{kind: c.asked, binary: binary}, spoil: runsEnvoys(t, running),
			})
			t.Logf("the demo took %s", time.Since(began).Round(time.Millisecond))
			leavesNoEnvoy(t)
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
			counted := slices.Collect(maps.Values(facts[0].Envoys))
			if facts[0].Dataplane != c.dataplane || !slices.Equal(counted, []int{c.envoys}) {
				t.Errorf("the data plane is %s, with the Envoys %v", facts[0].Dataplane, facts[0].Envoys)
			}
			if n := running["the global mode flips"]; n != c.envoys {
				t.Errorf("%d Envoys ran, want %d", n, c.envoys)
			}
		})
	}
}

// What is broken is noticed where Envoys carry the requests: by their access logs, by
// their counters, by their reports, and by their end.
func TestDemoWithEnvoysNoticesBrokenCauses(t *testing.T) {
	binary := envoytest.Need(t)
	for _, c := range []struct {
		name, kind, fact, saw string
		edit                  func(*testing.T, string)
		spoil                 func(*testing.T, *demoRun)
		// step is where it is spoilt.
		step string
	}{
		{
			name: "api is local", kind: dataplaneEnvoy, fact: "api goes remote", saw: "0 connections with path remote-gateway, 20 over gateways of dc1, 20 of dc2",
			edit: edits("dc1/dc1-web-1/web.hcl", `mode = "remote"`, `mode = "local"`),
		},
		{
			name: "somebody else uses a gateway", kind: dataplaneEnvoy, fact: "gateway counters agree", saw: "connections in dc1",
			step: "each mode takes its path", spoil: strangerAtGateway,
		},
		{
			name: "an Envoy dies", kind: dataplaneMixed, fact: "the global mode flips", saw: errEnvoyEnded.Error() + " with the exit status 137",
			step: "the global mode flips", spoil: func(t *testing.T, d *demoRun) { killEnvoy(t, d, "dc2-search-1/search-sidecar-proxy") },
		},
		{
			name: "search has a mode of its own", kind: dataplaneMixed, fact: "the global mode flips", saw: "0 connections over the new path",
			step: "the global mode flips", spoil: func(t *testing.T, d *demoRun) {
				edits("dc1/dc1-web-1/web.hcl", "local_bind_port    = 10003\n", "local_bind_port    = 10003\n mesh_gateway { mode = \"local\" }\n")(t, d.world.catalog)
			},
		},
		{
			name: "the Envoys are not told", kind: dataplaneMixed, fact: "the next gateway carries on", saw: "dc2-gateway-1 was not left: dc1-web-1/web-sidecar-proxy has yet to take in what follows CATALOG_dc2@",
			step: "the next gateway carries on", spoil: func(t *testing.T, d *demoRun) {
				// The watcher publishes nothing of a datacenter with errors.
				replace(t, filepath.Join(d.world.catalog, "dc2", "broken.hcl"), "{")
			},
		},
		{
			name: "the next gateway is gone too", kind: dataplaneEnvoy, fact: "the next gateway carries on", saw: "0 connections over other gateways",
			step: "the next gateway carries on", spoil: func(_ *testing.T, d *demoRun) {
				_, rest := d.gatewaysIn("dc2")
				for _, g := range rest {
					g.stop.stop()
				}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			catalog := movedCatalog(t)
			if c.edit != nil {
				c.edit(t, catalog)
			}
			d := &demoRun{catalog: catalog, dataplane: dataplaneFlags{kind: c.kind, binary: binary}, spoil: func(d *demoRun, step string) {
				d.patience = 0
				if step == c.fact || step == "each mode takes its path" && strings.Contains(c.fact, " goes ") {
					d.patience = 5 * time.Second
				}
				if c.spoil != nil && step == c.step {
					c.spoil(t, d)
				}
			}}
			code, facts := runDemo(t, d)
			leavesNoEnvoy(t)
			last := facts[len(facts)-1]
			if code != exitFailure || last.Fact != c.fact || last.OK || !strings.Contains(last.Saw, c.saw) {
				t.Errorf("exit code %d at %q, seen %q\nwant %q, seen %q", code, last.Fact, last.Saw, c.fact, c.saw)
			}
			for _, f := range facts[:len(facts)-1] {
				if !f.OK {
					t.Errorf("it went on after %+v", f)
				}
			}
		})
	}
}

// killEnvoy kills the Envoy of a proxy.
func killEnvoy(t *testing.T, d *demoRun, proxy string) {
	t.Helper()
	for _, e := range d.world.envoys() {
		for pid, line := range envoyChildren(t) {
			if e.proxy() == proxy && strings.Contains(line, e.adminFile()) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Error(err)
				}
				return
			}
		}
	}
	t.Errorf("no Envoy of %s runs", proxy)
}

// Whoever ends it in the middle finds no Envoy and no file left behind.
func TestDemoWithEnvoysEndsWhenTold(t *testing.T) {
	binary := envoytest.Need(t)
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	for _, step := range []string{"everything is up", "the next gateway carries on"} {
		ctx, tell := context.WithCancelCause(t.Context())
		running := 0
		d := &demoRun{catalog: movedCatalog(t), dataplane: dataplaneFlags{kind: dataplaneEnvoy, binary: binary}, spoil: func(_ *demoRun, at string) {
			if at == step {
				until(t, "no Envoy runs", func() bool { running = len(envoyChildren(t)); return running > 0 })
				tell(errors.New("enough"))
			}
		}}
		var said output
		if code, _ := runDemoIn(ctx, t, d, &said); code != exitFailure || !strings.Contains(said.String(), step+": enough") {
			t.Errorf("%s: exit code %d, said %q", step, code, said.String())
		}
		leavesNoEnvoy(t)
	}
	left, err := os.ReadDir(temporary)
	for _, l := range left {
		if strings.HasPrefix(l.Name(), "isthmus-") || err != nil {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// demoFacts are all that the demo states, in its order.
var demoFacts = []string{
	"everything is up",
	"api goes remote", "db goes local", "logging goes none", "search goes local",
	"gateway counters agree",
	"the global mode flips",
	"the next gateway carries on",
	"the route explains itself",
	"the log replays",
}

// shownFact is a fact as somebody outside reads it.
type shownFact struct {
	Fact, Sentence, Saw string
	OK                  bool
	Dataplane           string
	Envoys              map[string]int
}

// runDemo runs the demo as a command would, and returns the exit code and the
// facts of its JSON.
func runDemo(t *testing.T, d *demoRun) (int, []shownFact) {
	t.Helper()
	return runDemoIn(t.Context(), t, d, t.Output())
}

func runDemoIn(ctx context.Context, t *testing.T, d *demoRun, stderr io.Writer) (int, []shownFact) {
	t.Helper()
	var out bytes.Buffer
	home := t.TempDir()
	a := newApp(&out, stderr, func(name string) string {
		if strings.HasPrefix(name, "XDG_") || name == "HOME" {
			return home
		}
		return ""
	})
	root := a.root()
	a.logLevel = "error"
	if err := a.makeLogger(); err != nil {
		t.Fatal(err)
	}
	d.app, d.json = a, true
	if d.dataplane == (dataplaneFlags{}) {
		d.dataplane.kind = dataplaneGo // Whether or not this machine has an Envoy.
	}
	command, _, err := root.Find([]string{"demo"})
	if err != nil {
		t.Fatal(err)
	}
	code := a.exitCode(command, d.run(ctx))
	var facts []shownFact
	if err := json.Unmarshal(out.Bytes(), &facts); err != nil {
		t.Fatalf("%v in %s", err, out.Bytes())
	}
	return code, facts
}

func TestDemoHolds(t *testing.T) {
	began := time.Now()
	code, facts := runDemo(t, &demoRun{catalog: movedCatalog(t)})
	t.Logf("the demo took %s", time.Since(began).Round(time.Millisecond))
	if code != exitOK {
		t.Errorf("exit code %d", code)
	}
	var names []string
	for _, f := range facts {
		names = append(names, f.Fact)
		if !f.OK || f.Saw != "" || f.Sentence == "" {
			t.Errorf("%+v", f)
		}
	}
	if got, want := strings.Join(names, "; "), strings.Join(demoFacts, "; "); got != want {
		t.Errorf("facts %s\nwant  %s", got, want)
	}
}

// Whoever ends the demo in the middle is told no fact that was not measured, and
// finds nothing left behind.
func TestDemoEndsWhenTold(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	for i, step := range []string{"everything is up", "the global mode flips", "the next gateway carries on"} {
		ctx, tell := context.WithCancelCause(t.Context())
		var said output
		code, facts := runDemoIn(ctx, t, &demoRun{spoil: func(_ *demoRun, at string) {
			if at == step {
				tell(errors.New("enough"))
			}
		}}, &said)
		if code != exitFailure || !strings.Contains(said.String(), "ended before it was seen that "+step+": enough") {
			t.Errorf("%s: exit code %d, said %q", step, code, said.String())
		}
		for _, f := range facts {
			if !f.OK {
				t.Errorf("%s: told %+v", step, f)
			}
		}
		if (len(facts) > 0) != (i > 0) {
			t.Errorf("%s: %d facts", step, len(facts))
		}
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// full is a place where nothing can be written.
type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestDemoNeedsItsReader(t *testing.T) {
	for _, args := range [][]string{{"demo"}, {"demo", "--json"}} {
		var said output
		code := newApp(full{}, &said, func(string) string { return "" }).main(t.Context(), args)
		if code != exitFailure || !strings.Contains(said.String(), errFull.Error()) {
			t.Errorf("%v: exit code %d, said %q", args, code, said.String())
		}
	}
}

// TestDemoNoticesBrokenCauses breaks the cause of each fact, and sees that the
// demo ends there with exit code 1 and says what was seen instead.
func TestDemoNoticesBrokenCauses(t *testing.T) {
	cases := []struct {
		// fact is the first that does not hold, saw part of what was seen.
		name, fact, saw string
		// edit changes the catalog before the start, spoil the world in a step.
		edit  func(t *testing.T, catalog string)
		spoil map[string]func(t *testing.T, d *demoRun)
	}{
		{
			name: "nobody may connect to api", fact: "everything is up", saw: "api did not answer",
			edit: func(t *testing.T, catalog string) { deny(t, catalog, "api") },
		},
		{
			name: "api is local", fact: "api goes remote", saw: "0 connections with path remote-gateway",
			edit: edits("dc1/dc1-web-1/web.hcl", `mode = "remote"`, `mode = "local"`),
		},
		{
			name: "db is direct", fact: "db goes local", saw: "0 connections with path local-gateway",
			edit: edits("dc1/dc1-web-1/web.hcl", `mode = "local"`, `mode = "none"`),
		},
		{
			name: "logging is remote", fact: "logging goes none", saw: "0 connections with path direct",
			edit: edits("dc1/dc1-web-1/web.hcl", `mode = "none"`, `mode = "remote"`),
		},
		{
			name: "the global mode is another", fact: "search goes local", saw: "0 connections with path local-gateway",
			edit: edits("dc1/proxy-defaults.hcl", `Mode = "local"`, `Mode = "remote"`),
		},
		{
			name: "somebody else uses a gateway", fact: "gateway counters agree", saw: "connections in dc1",
			spoil: map[string]func(*testing.T, *demoRun){"each mode takes its path": strangerAtGateway},
		},
		{
			name: "search has a mode of its own", fact: "the global mode flips", saw: "0 connections over the new path",
			spoil: map[string]func(*testing.T, *demoRun){"the global mode flips": func(t *testing.T, d *demoRun) {
				edits("dc1/dc1-web-1/web.hcl", "local_bind_port    = 10003\n", "local_bind_port    = 10003\n mesh_gateway { mode = \"local\" }\n")(t, d.world.catalog)
			}},
		},
		{
			name: "db has no mode of its own", fact: "the global mode flips", saw: "stayed: api",
			spoil: map[string]func(*testing.T, *demoRun){"the global mode flips": func(t *testing.T, d *demoRun) {
				edits("dc1/dc1-web-1/web.hcl", `mode = "local"`, `mode = ""`)(t, d.world.catalog)
			}},
		},
		{
			name: "requests fail meanwhile", fact: "the global mode flips", saw: "requests failed, the first with: logging",
			spoil: map[string]func(*testing.T, *demoRun){"the global mode flips": func(t *testing.T, d *demoRun) {
				deny(t, d.world.catalog, "logging")
			}},
		},
		{
			name: "dc2 has one gateway", fact: "the next gateway carries on", saw: "dc2 has no two gateways",
			edit: func(t *testing.T, catalog string) {
				if err := os.RemoveAll(filepath.Join(catalog, "dc2", "dc2-gateway-2")); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "the next gateway is gone too", fact: "the next gateway carries on", saw: "0 connections over other gateways",
			spoil: map[string]func(*testing.T, *demoRun){"the next gateway carries on": func(_ *testing.T, d *demoRun) {
				_, rest := d.gatewaysIn("dc2")
				for _, g := range rest {
					g.stop.stop()
				}
			}},
		},
		{
			name: "search gets a mode of its own", fact: "the route explains itself", saw: "from upstream",
			spoil: map[string]func(*testing.T, *demoRun){"the route explains itself": ownModeOfSearch},
		},
		{
			name: "somebody else writes a route", fact: "the log replays", saw: "ROUTES_dc1",
			spoil: map[string]func(*testing.T, *demoRun){"the log replays": foreignRoute},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			catalog := movedCatalog(t)
			if c.edit != nil {
				c.edit(t, catalog)
			}
			d := &demoRun{catalog: catalog, spoil: func(d *demoRun, step string) {
				// What never comes need not be waited for long.
				d.patience = 0
				if step == c.fact || step == "each mode takes its path" && strings.Contains(c.fact, " goes ") {
					d.patience = 5 * time.Second
				}
				if spoil := c.spoil[step]; spoil != nil {
					spoil(t, d)
				}
			}}
			code, facts := runDemo(t, d)
			if code != exitFailure {
				t.Errorf("exit code %d, want %d", code, exitFailure)
			}
			for i, f := range facts {
				last := i == len(facts)-1
				if f.Fact != demoFacts[i] || f.OK == last {
					t.Errorf("fact %d: %+v", i+1, f)
				}
				if last && (f.Fact != c.fact || !strings.Contains(f.Saw, c.saw)) {
					t.Errorf("ended at %q, seen %q\nwant %q, seen %q", f.Fact, f.Saw, c.fact, c.saw)
				}
			}
		})
	}
}

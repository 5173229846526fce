package history_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// randomFiles gives what the files of a datacenter might say.
func randomFiles(r *rand.Rand, dc string) map[string]string {
	files := dc1Files
	if dc == "dc2" {
		files = dc2Files
	}
	modes := []string{"local", "remote", "none"}
	pick := func(options ...string) string { return options[r.IntN(len(options))] }
	files = with(files,
		"proxy-defaults.hcl", pick("", proxyDefaults(modes[r.IntN(3)])),
		"gateway.hcl", pick(files["gateway.hcl"], files["gateway.hcl"], ""),
		"defaults.hcl", pick("", "Kind = \"service-defaults\"\nName = \"web\"\nMeshGateway { Mode = \""+modes[r.IntN(3)]+"\" }"),
		"intentions.hcl", pick("", "Kind = \"service-intentions\"\nName = \"api\"\nSources = [{ Name = \"web\" Action = \""+pick("allow", "deny")+"\" }]"),
		"resolver.hcl", pick("", "", "Kind = \"service-resolver\"\nName = \"api\"\nFailover = { \"*\" = { Datacenters = [\"dc1\", \"dc2\"] } }",
			"Kind = \"service-resolver\"\nName = \"api\"\nRedirect { Service = \"search\" }"),
		"search.hcl", pick("", "", strings.NewReplacer("api", "search", "8181", "8183", "port = 80 ", "port = 83 ").Replace(dc2Files["api.hcl"])),
	)
	for i := range r.IntN(3) {
		files[fmt.Sprintf("api-%d.hcl", i)] = fmt.Sprintf(
			`service { id = "api-proxy-%d" name = "api-proxy" kind = "connect-proxy" port = %d proxy { destination_service_name = "api" } check { name = "c" status = "%s" tcp = "127.0.0.1:1" interval = "1s" } }`,
			i, 9000+i, pick("passing", "warning", "critical"))
	}
	return files
}

// randomHistory writes some states of both datacenters, resolving now and then.
func randomHistory(w *world, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	w.write("dc1", randomFiles(r, "dc1"))
	for range 4 + r.IntN(8) {
		switch r.IntN(3) {
		case 0:
			w.write("dc1", randomFiles(r, "dc1"))
		case 1:
			w.write("dc2", randomFiles(r, "dc2"))
		case 2:
			w.resolve()
		}
	}
	w.resolve()
}

// histories is how many random histories are replayed.
const histories = 200

func TestReplayFindsNoDifference(t *testing.T) {
	bases, keys := 0, 0
	for seed := range uint64(histories) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 0)
			defer w.stop()
			randomHistory(w, seed)
			result, err := history.Replay(t.Context(), history.ReplayOptions{Log: w.log, Datacenter: "dc1"})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if result.Difference != nil || result.Skipped > 0 {
				t.Errorf("seed %d: %+v, %+v", seed, result, result.Difference)
			}
			bases, keys = bases+result.Bases, keys+result.Keys
		})
	}
	if bases < 2*histories || keys < 10*bases {
		t.Errorf("%d bases and %d keys compared: the histories are too poor", bases, keys)
	}
}

// forgetful is a resolver with a planted bug: it misses some changes.
type forgetful struct {
	*resolver.Machine
	misses func(resolver.Output) bool
}

func (f forgetful) Ready() *resolver.Update {
	update := f.Machine.Ready()
	if update == nil {
		return nil
	}
	kept := &resolver.Update{Basis: update.Basis}
	for _, o := range update.Changes {
		if !f.misses(o) {
			kept.Changes = append(kept.Changes, o)
		}
	}
	return kept
}

func TestReplayFindsPlantedBugs(t *testing.T) {
	for _, tt := range []struct {
		name string
		bug  func() func(resolver.Output) bool
		kind string
	}{
		{"tombstones are forgotten", func() func(resolver.Output) bool {
			return func(o resolver.Output) bool { return o.Value == nil }
		}, ""},
		{"an endpoint set is made once", func() func(resolver.Output) bool {
			seen := map[isthmusv1.Key]bool{}
			return func(o resolver.Output) bool {
				again := seen[o.Key]
				seen[o.Key] = true
				return again && o.Key.Kind == isthmusv1.KindEndpoint
			}
		}, "endpoints/"},
		{"intentions do not reach the routes", func() func(resolver.Output) bool {
			return func(o resolver.Output) bool { return o.Key.Kind == isthmusv1.KindInbound }
		}, "inbound/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := 0
			for seed := range uint64(20) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 0)
					defer w.stop()
					randomHistory(w, seed)
					result, err := history.Replay(t.Context(), history.ReplayOptions{Log: w.log, Datacenter: "dc1", Machine: func(dc string) history.Machine {
						return forgetful{resolver.New(dc), tt.bug()}
					}})
					if err != nil {
						t.Fatal(err)
					}
					if d := result.Difference; d != nil {
						found++
						if !strings.HasPrefix(d.Key, tt.kind) || d.Sequence == 0 || d.Basis == "" {
							t.Errorf("seed %d: %+v", seed, d)
						}
					}
				})
			}
			if found == 0 {
				t.Error("the bug is not found")
			}
		})
	}
}

// The first difference comes with the events that led to it.
func TestReplayShowsTheEventOfTheDifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		w.write("dc2", dc2Files)
		w.resolve()
		p := w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults("remote")))
		w.resolve()
		result, err := history.Replay(t.Context(), history.ReplayOptions{Log: w.log, Datacenter: "dc1", Machine: func(dc string) history.Machine {
			return forgetful{resolver.New(dc), func(o resolver.Output) bool {
				set, ok := o.Value.(*isthmusv1.RouteSet)
				return ok && set.GetRoutes()[0].GetTargets()[0].GetDecision().GetMode() == "remote"
			}}
		}})
		if err != nil {
			t.Fatal(err)
		}
		d := result.Difference
		if d == nil {
			t.Fatal("no difference")
		}
		if len(d.Events) != 1 || d.Events[0].Sequence != p.GetSequence() || !strings.Contains(d.Events[0].Text, "local → remote") {
			t.Errorf("events %v", d.Events)
		}
		if !strings.HasPrefix(d.Key, "routeset/web/") || d.Basis != "CATALOG_dc1@8 CATALOG_dc2@6" {
			t.Errorf("%+v", d)
		}
		if details := strings.Join(d.Details, "\n"); d.Recorded && d.Resolved && !strings.Contains(details, "decision mode remote → local") {
			t.Errorf("details %s", details)
		}
	})
}

// What other rules have written is not compared, and said so.
func TestReplaySkipsOtherRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		w.resolve()
		w.start("ROUTES_dc1", bus.WriterConfig{RulesVersion: resolver.RulesVersion + 1})
		w.write("dc2", dc2Files)
		w.resolve()
		result, err := history.Replay(t.Context(), history.ReplayOptions{Log: w.log, Datacenter: "dc1"})
		if err != nil {
			t.Fatal(err)
		}
		why := fmt.Sprintf("rules %d, these are %d", resolver.RulesVersion+1, resolver.RulesVersion)
		if result.Skipped != 1 || !strings.Contains(result.Why, why) || result.Bases == 0 || result.Difference != nil {
			t.Errorf("%+v", result)
		}
	})
}

func TestReplayBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc2", dc2Files)
		var ends []uint64
		for _, mode := range []string{"local", "remote", "none", "local"} {
			w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults(mode)))
			w.resolve()
			state, _ := w.log.State(t.Context(), "ROUTES_dc1")
			ends = append(ends, state.Last)
		}
		var progress []uint64
		result, err := history.Replay(t.Context(), history.ReplayOptions{
			Log: w.log, Datacenter: "dc1", From: ends[1], To: ends[2],
			Progress: func(sequence, last uint64) {
				if last != ends[2] {
					t.Errorf("last %d", last)
				}
				progress = append(progress, sequence)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if result.From != ends[1] || result.To != ends[2] || result.Bases != 2 || result.Difference != nil ||
			len(progress) == 0 || progress[len(progress)-1] != ends[2] {
			t.Errorf("%+v, progress %v, ends %v", result, progress, ends)
		}
	})
}

// History that has left the log in part is compared from where it is whole.
func TestReplayBeginsWhereHistoryIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 400)
		defer w.stop()
		w.write("dc2", dc2Files)
		for i := range 700 {
			w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults([]string{"local", "remote"}[i%2])))
			w.resolve()
		}
		result, err := history.Replay(t.Context(), history.ReplayOptions{Log: w.log, Datacenter: "dc1"})
		if err != nil {
			t.Fatal(err)
		}
		if result.Difference != nil || result.From <= 1 || result.Bases < 50 {
			t.Errorf("%+v", result)
		}
	})
}

func TestReplayErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		if _, err := history.Replay(t.Context(), history.ReplayOptions{Log: w.log, Datacenter: "dc9"}); !errors.Is(err, bus.ErrNoStream) {
			t.Errorf("no stream: %v", err)
		}
		if _, err := history.Replay(t.Context(), history.ReplayOptions{Log: w.log, Datacenter: "dc1"}); !errors.Is(err, history.ErrNothingRecorded) {
			t.Errorf("nothing recorded: %v", err)
		}
	})
}

// Routes that were written by hand are found, though the rules are whole.
func TestReplayFindsWhatAWriterGotWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		w.write("dc2", dc2Files)
		w.resolve()
		basis := w.writers["ROUTES_dc1"].Basis()
		key := isthmusv1.MeshKey()
		if _, err := w.writers["ROUTES_dc1"].Write(t.Context(), bus.Difference{
			Basis: basis, Puts: []bus.Put{{Key: key, Value: &isthmusv1.MeshRoutes{Datacenter: "dc1", TrustDomain: "other"}}},
		}); err != nil {
			t.Fatal(err)
		}
		result, err := history.Replay(t.Context(), history.ReplayOptions{Log: w.log, Datacenter: "dc1"})
		if err != nil {
			t.Fatal(err)
		}
		d := result.Difference
		if d == nil || d.Key != key.String() || !strings.Contains(strings.Join(d.Details, "\n"), "trust domain other → td.consul") {
			t.Errorf("%+v", d)
		}
	})
}

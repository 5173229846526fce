package resolver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/testing/protocmp"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// shows is what an agent-registered proxy web shows: the mode of its instance,
// and those of its upstreams api and beta in dc2.
type shows struct{ instance, api, beta string }

// world is that proxy beside config entries.
func (s shows) world(entries string) world {
	return world{
		"dc1": fmt.Sprintf(`
gateway 10.1.0.20:8443
sidecar web 10.1.0.10:21000 {
  merged_central_config: true
  proxy {
    mesh_gateway { mode: %q }
    upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 mesh_gateway { mode: %q } }
    upstreams { destination_name: "beta" datacenter: "dc2" local_bind_port: 2 mesh_gateway { mode: %q } }
    upstreams { destination_type: "prepared_query" destination_name: "near" local_bind_port: 3 }
  }
}
%s`, s.instance, s.api, s.beta, entries),
		"dc2": "gateway 10.2.0.20:8443\nsidecar api 10.2.0.9:21000\nsidecar beta 10.2.0.10:21000",
	}
}

func explainOne(t *testing.T, m *resolver.Machine, upstream string) (resolver.Explanation, resolver.ExplainedTarget) {
	t.Helper()
	answers, err := m.Explain(resolver.Question{Proxy: "web", Upstream: upstream})
	if err != nil || len(answers) != 1 || len(answers[0].Targets) != 1 {
		t.Fatalf("%d explanations, error %v", len(answers), err)
	}
	return answers[0], answers[0].Targets[0]
}

func levelNames(list []resolver.ExplainedLevel) string {
	var out []string
	for _, l := range list {
		out = append(out, fmt.Sprintf("%s=%s", l.Level.Name(), l.Mode))
	}
	return strings.Join(out, " ")
}

const (
	pdLocal    = `config proxy-defaults global { mesh_gateway { mode: "local" } }`
	pdRemote   = `config proxy-defaults global { mesh_gateway { mode: "remote" } }`
	pdOpaque   = `config proxy-defaults global { config_json: '{"mesh_gateway":"local"}' }`
	sdLocal    = `config service-defaults web { mesh_gateway { mode: "local" } }`
	dfLocal    = `config service-defaults web { upstream_defaults { mesh_gateway { mode: "local" } } }`
	dfRemote   = `config service-defaults web { upstream_defaults { mesh_gateway { mode: "remote" } } }`
	overRemote = `config service-defaults web { upstream_overrides { name: "api" mesh_gateway { mode: "remote" } } }`
	overCase   = `config service-defaults web { upstream_overrides { name: "Api" mesh_gateway { mode: "remote" } } }`
)

// TestLikeliestLevel: of a mode that is shown merged, the level is named that the
// present entries would give it from, else what of the registration may set it;
// and whether the agent has yet to merge the entries is graded. What is shown
// decides in each case.
func TestLikeliestLevel(t *testing.T) {
	for _, test := range []struct {
		name      string
		shown     shows
		entries   []string
		likeliest string
		pending   resolver.Pending
	}{
		{"proxy-defaults", shows{"local", "local", "local"}, []string{pdLocal}, "proxy-defaults=local", resolver.PendingNot},
		{"opaque proxy-defaults, which an instance does not inherit", shows{"", "local", "local"}, []string{pdOpaque}, "proxy-defaults=local", resolver.PendingNot},
		{"service-defaults above proxy-defaults", shows{"local", "local", "local"}, []string{pdRemote, sdLocal}, "service-defaults=local", resolver.PendingNot},
		{"the highest of several that set it", shows{"local", "local", "local"}, []string{pdLocal, sdLocal}, "service-defaults=local", resolver.PendingNot},
		{"defaults", shows{"local", "remote", "remote"}, []string{pdLocal, dfRemote}, "upstream-defaults=remote", resolver.PendingNot},
		{"an override", shows{"local", "remote", "local"}, []string{pdLocal, overRemote}, "override=remote", resolver.PendingNot},
		{"an override of another spelling is none to Consul", shows{"local", "local", "local"}, []string{pdLocal, overCase}, "proxy-defaults=local", resolver.PendingNot},

		{"no entry, and all alike", shows{"local", "local", "local"}, nil, "upstream=local instance=local", resolver.PendingNot},
		{"no entry, and the instance shows none", shows{"", "local", ""}, nil, "upstream=local", resolver.PendingNot},
		{"no entry, and the upstream shows none", shows{"local", "", ""}, nil, "instance=local", resolver.PendingNot},

		{"no entry but the target's own, which no agent merges", shows{"local", "local", "local"},
			[]string{`config service-defaults api { mesh_gateway { mode: "local" } }`}, "upstream=local instance=local", resolver.PendingNot},

		{"all alike, and the entries come to another", shows{"local", "local", "local"}, []string{pdRemote}, "upstream=local instance=local", resolver.PendingLikely},
		{"an override sets another upstream apart", shows{"local", "local", "remote"},
			[]string{pdRemote, `config service-defaults web { upstream_overrides { name: "beta" mesh_gateway { mode: "remote" } } }`},
			"upstream=local instance=local", resolver.PendingLikely},
		{"an override that is not shown", shows{"local", "local", "local"}, []string{pdLocal, overRemote}, "upstream=local", resolver.PendingLikely},
		{"the other upstream differs", shows{"local", "local", "remote"}, []string{pdRemote}, "upstream=local instance=local", resolver.PendingPossible},
		{"the other upstream shows none", shows{"local", "local", ""}, []string{pdRemote}, "upstream=local instance=local", resolver.PendingPossible},
		{"only this upstream differs", shows{"remote", "local", "remote"}, []string{pdRemote}, "upstream=local", resolver.PendingPossible},
		{"the instance shows none", shows{"", "local", "local"}, []string{dfRemote}, "upstream=local", resolver.PendingPossible},
		{"an invalid mode is shown as it is", shows{"bogus", "bogus", "bogus"}, []string{`config proxy-defaults global { mesh_gateway { mode: "bogus" } }`}, "proxy-defaults=bogus", resolver.PendingNot},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := test.shown.world(strings.Join(test.entries, "\n")).machine(t)
			answer, got := explainOne(t, m, "api")
			shown := test.shown.api
			if shown == "" {
				shown = test.shown.instance
			}
			if got.Winner.Level != isthmusv1.Level_LEVEL_MERGED || got.Winner.Mode != shown {
				t.Errorf("decided by %s", decided(got)[0])
			}
			if levelNames(got.Likeliest) != test.likeliest || got.Pending != test.pending {
				t.Errorf("likeliest %q, pending %q; want %q, %q", levelNames(got.Likeliest), got.Pending, test.likeliest, test.pending)
			}
			for _, l := range got.Likeliest {
				if l.Origin == nil {
					t.Errorf("%s has no origin", l.Level.Name())
				}
			}
			stated := strings.Join(codes(answer.Problems), " ") == resolver.CodeModePendingAgent
			if want := test.pending == resolver.PendingLikely; stated != want {
				t.Errorf("the route states %v, want it pending: %v", codes(answer.Problems), want)
			}
			if got.Unmerged != nil {
				t.Errorf("unmerged %s", levelNames(got.Unmerged))
			}
		})
	}
}

// TestPendingNames are words that commands show.
func TestPendingNames(t *testing.T) {
	want := []resolver.Pending{"", "possible", "likely", "certain"}
	got := []resolver.Pending{resolver.PendingNot, resolver.PendingPossible, resolver.PendingLikely, resolver.PendingCertain}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPendingForCertain: a proxy that shows no mode although an entry sets one
// has not been merged. The entry does not act before, unless a chain has it by
// itself, and the explanation lists what waits.
func TestPendingForCertain(t *testing.T) {
	for _, test := range []struct{ name, entries, decided, unmerged string }{
		{"defaults", dfLocal, "default=none", "upstream-defaults=local"},
		{"service-defaults", sdLocal, "default=none", "service-defaults=local"},
		{"an override above proxy-defaults", pdLocal + "\n" + overRemote, "proxy-defaults=local", "override=remote proxy-defaults=local"},
		{"opaque proxy-defaults, which no chain reads", pdOpaque, "default=none", "proxy-defaults=local"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := shows{}.world(test.entries).machine(t)
			answer, got := explainOne(t, m, "api")
			if decided(got)[0] != test.decided || levelNames(got.Unmerged) != test.unmerged || got.Pending != resolver.PendingCertain || got.Likeliest != nil {
				t.Errorf("decided by %s, unmerged %s, pending %q, likeliest %s", decided(got)[0], levelNames(got.Unmerged), got.Pending, levelNames(got.Likeliest))
			}
			if diff := cmp.Diff([]string{resolver.CodeModePendingAgent}, codes(answer.Problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if p := answer.Problems[0]; p.GetSeverity() != isthmusv1.Severity_SEVERITY_WARNING || !strings.HasPrefix(p.GetText(), "pending agent: the proxy shows no mode, although ") {
				t.Errorf("problem %v", p)
			}
		})
	}
	_, got := explainOne(t, shows{}.world("").machine(t), "api")
	if got.Pending != resolver.PendingNot || decided(got)[0] != "default=none" {
		t.Errorf("without any mode: pending %q, decided by %s", got.Pending, decided(got)[0])
	}
}

// TestNothingIsPending where modes are as registered, for prepared queries, whose
// modes no agent merges, and in a route all of whose targets are here.
func TestNothingIsPending(t *testing.T) {
	w := shows{"local", "local", "local"}.world(pdRemote)
	if answer, got := explainOne(t, w.machine(t), "near"); got.Pending != resolver.PendingNot || len(answer.Problems) > 0 {
		t.Errorf("a prepared query: pending %q, problems %v", got.Pending, answer.Problems)
	}
	raw := world{"dc1": strings.Replace(w["dc1"], "merged_central_config: true", "", 1), "dc2": w["dc2"]}
	if answer, got := explainOne(t, raw.machine(t), "api"); got.Pending != resolver.PendingNot || len(answer.Problems) > 0 || got.Likeliest != nil {
		t.Errorf("as registered: pending %q, problems %v, likeliest %s", got.Pending, answer.Problems, levelNames(got.Likeliest))
	}
	near := world{"dc1": strings.ReplaceAll(w["dc1"], `datacenter: "dc2"`, "") + "\nsidecar api 10.1.0.11:21000"}
	if answer, _ := explainOne(t, near.machine(t), "api"); len(answer.Problems) > 0 {
		t.Errorf("in the own datacenter: problems %v", answer.Problems)
	}
	// A failover to another datacenter is enough for the mode to act.
	near["dc1"] += "\n" + `config service-resolver api { failover { subset: "*" datacenters: "dc9" } }`
	answers, err := near.machine(t).Explain(resolver.Question{Proxy: "web", Upstream: "api"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{resolver.CodeModePendingAgent}, codes(answers[0].Problems)); diff != "" {
		t.Errorf("with a failover elsewhere: problems (-want +got):\n%s", diff)
	}
}

// TestUnmergedEntriesMoveNoRoute: entries that the agent has not merged change
// neither path nor config of a route, until the registration shows them.
func TestUnmergedEntriesMoveNoRoute(t *testing.T) {
	w := shows{"local", "local", "local"}.world(pdLocal)
	m := w.settled(t)
	before, was := explainOne(t, m, "api")
	for _, entry := range []string{
		pdRemote, overRemote, dfRemote,
		`config service-defaults web { mesh_gateway { mode: "none" } upstream_defaults { protocol: "http" connect_timeout_ms: 9 limits { max_connections: 3 } } }`,
		`config service-defaults api { mesh_gateway { mode: "remote" } }`,
	} {
		change(t, m, "dc1", entry)
		after, is := explainOne(t, m, "api")
		if decided(is)[0] != decided(was)[0] || is.Target.GetPath() != was.Target.GetPath() || after.Protocol != before.Protocol ||
			after.Route.GetConfig() != nil || is.Target.GetConnectTimeout().AsDuration() != was.Target.GetConnectTimeout().AsDuration() {
			t.Errorf("%s moved the route to %v", entry, after.Route)
		}
	}
}

// TestMergedConfig: what Consul's merge writes into an upstream's config is read
// as it writes it, and counts alone; so do its extensions.
func TestMergedConfig(t *testing.T) {
	w := world{"dc1": `
sidecar web 10.1.0.10:21000 {
  merged_central_config: true
  proxy {
    envoy_extensions_json: '[{"name":"a"},{"name":"b"}]'
    upstreams {
      destination_name: "api" local_bind_port: 1
      config_json: '{"connect_timeout_ms":1234,"limits":{"MaxConcurrentRequests":null,"MaxConnections":7,"MaxPendingRequests":null},"passive_health_check":{"BaseEjectionTime":20000000000,"EnforcingConsecutive5xx":50,"Interval":10000000000,"MaxEjectionPercent":null,"MaxFailures":3},"protocol":"http"}'
    }
  }
}
config proxy-defaults global { envoy_extensions_json: '[{"name":"a"}]' }
config service-defaults web {
  envoy_extensions_json: '[{"name":"b"}]'
  upstream_defaults { connect_timeout_ms: 1 balance_outbound_connections: "exact_balance" limits { max_pending_requests: 4 } }
}`}
	m := w.machine(t)
	answer, _ := explainOne(t, m, "api")
	want := &isthmusv1.UpstreamConfig{}
	const text = `protocol: "http" connect_timeout_ms: 1234 limits { max_connections: 7 } passive_health_check {
		base_ejection_time { seconds: 20 } enforcing_consecutive_5xx: 50 interval { seconds: 10 } max_failures: 3 }`
	if err := prototext.Unmarshal([]byte(text), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, answer.Route.GetConfig(), protocmp.Transform()); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	for _, value := range m.All() {
		if p, ok := value.(*isthmusv1.ProxyRoutes); ok && string(p.GetEnvoyExtensionsJson()) != `[{"name":"a"},{"name":"b"}]` {
			t.Errorf("extensions %s", p.GetEnvoyExtensionsJson())
		}
	}
}

// consulMachine is a machine whose dc1 was read from Consul, not from files.
func (w world) consulMachine(t *testing.T) *resolver.Machine {
	t.Helper()
	m := resolver.New("dc1")
	for dc := range w {
		tx := w.transaction(t, dc)
		for i := range tx.Changes {
			tx.Changes[i].Source = &isthmusv1.Source{Query: "config", IndexAt: 42}
		}
		m.Apply(tx)
	}
	return m
}

// TestStickyDefaults: a mode in UpstreamConfig.Defaults that decides and hides
// another one which it would inherit may be one that nobody wrote. Where it was
// read in a file it is what was written.
func TestStickyDefaults(t *testing.T) {
	both := `config service-defaults web { mesh_gateway { mode: "remote" } upstream_defaults { mesh_gateway { mode: "local" } } }`
	for _, test := range []struct {
		name     string
		shown    shows
		raw      bool
		entries  string
		suspects string
	}{
		{"over proxy-defaults", shows{}, true, pdRemote + "\n" + dfLocal, "remote of proxy-defaults/global"},
		{"over service-defaults", shows{}, true, pdLocal + "\n" + both, "remote of service-defaults/web"},
		{"over its equal", shows{}, true, pdLocal + "\n" + dfLocal, ""},
		{"over nothing", shows{}, true, dfLocal, ""},
		{"over the target's own", shows{}, true, dfLocal + "\n" + `config service-defaults api { mesh_gateway { mode: "remote" } }`, ""},
		{"below the instance", shows{instance: "none"}, true, pdRemote + "\n" + dfLocal, ""},
		{"behind a merged mode", shows{"remote", "local", "local"}, false, pdRemote + "\n" + dfLocal, "remote of proxy-defaults/global"},
		{"not what is shown merged", shows{"none", "none", "none"}, false, pdRemote + "\n" + dfLocal, ""},
		{"service-defaults over proxy-defaults", shows{}, true, pdRemote + "\n" + sdLocal, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := test.shown.world(test.entries)
			if test.raw {
				w["dc1"] = strings.Replace(w["dc1"], "merged_central_config: true", "", 1)
			}
			_, got := explainOne(t, w.consulMachine(t), "api")
			if stated := strings.Contains(strings.Join(codes(got.Problems), " "), resolver.CodeStickyDefaults); stated != (test.suspects != "") {
				t.Fatalf("decided by %v, problems %v", decided(got), got.Problems)
			}
			if test.suspects != "" {
				p := got.Problems[len(got.Problems)-1]
				if !strings.Contains(p.GetText(), "UpstreamConfig.Defaults of service-defaults/web has mode local, which hides "+test.suspects) ||
					!strings.HasPrefix(p.GetFix(), "rewrite service-defaults/web: `consul config write`") || p.GetSeverity() != isthmusv1.Severity_SEVERITY_WARNING {
					t.Errorf("problem %v", p)
				}
			}
			if len(got.Target.GetProblems()) > 0 {
				t.Errorf("the route, which knows no sources, states %v", got.Target.GetProblems())
			}
			if _, got := explainOne(t, w.machine(t), "api"); len(got.Problems) > 0 {
				t.Errorf("from files: %v", got.Problems)
			}
		})
	}
}

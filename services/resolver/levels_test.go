package resolver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// levelsInOrder are the levels that a mode can be written at, highest first:
// reference 1.1, observed on the real Consul for all pairs.
var levelsInOrder = []string{
	"upstream", "override", "instance", "upstream-defaults", "service-defaults", "proxy-defaults", "target-service-defaults",
}

// modesAt are modes by the name of the level they are written at.
type modesAt map[string]string

func (m modesAt) mode(level string) string {
	if m[level] == "" {
		return ""
	}
	return fmt.Sprintf("mesh_gateway { mode: %q }", m[level])
}

// shape is a way in which an upstream of web comes to the service other in dc2.
type shape struct {
	name string
	// upstream of web, and the entries that lead from it to other in dc2.
	upstream, entries string
}

var shapes = []shape{
	{"plain", `destination_name: "other" datacenter: "dc2"`, ""},
	{"redirect", `destination_name: "api"`, `
config service-resolver api {
  redirect { service: "other" datacenter: "dc2" }
}`},
	{"failover", `destination_name: "api"`, `
config service-resolver api {
  failover { subset: "*" targets { service: "other" datacenter: "dc2" } }
}`},
	{"failover by datacenter", `destination_name: "api"`, `
config service-resolver api {
  failover { subset: "*" service: "other" datacenters: "dc2" }
}`},
	{"split", `destination_name: "api"`, `
config service-splitter api {
  splits { weight: 9000 }
  splits { weight: 1000 service: "other" }
}
config service-resolver other {
  redirect { datacenter: "dc2" }
}`},
	{"route", `destination_name: "api"`, `
config service-router api {
  routes { match { path_prefix: "/other" } destination { service: "other" } }
}
config service-resolver other {
  redirect { datacenter: "dc2" }
}`},
}

// world writes the modes at their levels. In every shape but the plain one the
// service-defaults of api set a mode too: it is not the target's, and must not
// count for other.
func (s shape) world(m modesAt, more string) world {
	decoy := ""
	if s.entries != "" {
		decoy = `config service-defaults api { mesh_gateway { mode: "local" } }`
	}
	name := "api"
	if s.entries == "" {
		name = "other"
	}
	return world{
		"dc1": strings.Join([]string{
			"gateway 10.1.0.20:8443",
			"sidecar api 10.1.0.9:21000",
			fmt.Sprintf("sidecar web 10.1.0.10:21000 {\nproxy { %s upstreams { %s %s local_bind_port: 1 } }\n%s\n}",
				m.mode("instance"), s.upstream, m.mode("upstream"), more),
			fmt.Sprintf("config service-defaults web {\n%s\nupstream_defaults { %s }\nupstream_overrides { name: %q %s }\n}",
				m.mode("service-defaults"), m.mode("upstream-defaults"), name, m.mode("override")),
			fmt.Sprintf("config proxy-defaults global {\n%s\nconfig_json: '{\"protocol\":\"http\"}'\n}", m.mode("proxy-defaults")),
			fmt.Sprintf("config service-defaults other {\n%s\n}", m.mode("target-service-defaults")),
			decoy,
			s.entries,
		}, "\n"),
		"dc2": "gateway 10.2.0.20:8443\nsidecar other 10.2.0.9:21000",
	}
}

// target is what web's only upstream comes to at other in dc2.
func (s shape) target(t *testing.T, w world) resolver.ExplainedTarget {
	t.Helper()
	answers, err := w.machine(t).Explain(resolver.Question{Proxy: "web"})
	if err != nil || len(answers) != 1 {
		t.Fatalf("%d explanations, error %v", len(answers), err)
	}
	for _, target := range answers[0].Targets {
		if target.Target.GetService().GetName() == "other" && target.Target.GetDatacenter() == "dc2" {
			return target
		}
	}
	t.Fatalf("no target other in dc2: %v", answers[0].Route)
	return resolver.ExplainedTarget{}
}

// decided shows a decision as LEVEL=MODE, the winner first.
func decided(e resolver.ExplainedTarget) []string {
	out := []string{fmt.Sprintf("%s=%s", e.Winner.Level.Name(), e.Target.GetDecision().GetMode())}
	for _, h := range e.Hidden {
		out = append(out, fmt.Sprintf("%s=%s", h.Level.Name(), h.Mode))
	}
	return out
}

var pathOf = map[string]isthmusv1.Path{
	"none": isthmusv1.Path_PATH_DIRECT, "local": isthmusv1.Path_PATH_LOCAL_GATEWAY, "remote": isthmusv1.Path_PATH_REMOTE_GATEWAY,
}

// TestEachPairOfLevels sets two levels against each other, each way round and
// with an explicit none above: the higher one decides and names the lower one.
func TestEachPairOfLevels(t *testing.T) {
	for _, s := range shapes {
		for i, high := range levelsInOrder {
			for _, low := range levelsInOrder[i+1:] {
				for _, modes := range [][2]string{{"local", "remote"}, {"remote", "local"}, {"none", "local"}, {"none", "remote"}, {"remote", "none"}} {
					t.Run(fmt.Sprintf("%s/%s %s over %s %s", s.name, high, modes[0], low, modes[1]), func(t *testing.T) {
						got := s.target(t, s.world(modesAt{high: modes[0], low: modes[1]}, ""))
						want := []string{high + "=" + modes[0], low + "=" + modes[1]}
						if diff := cmp.Diff(want, decided(got)); diff != "" {
							t.Errorf("(-want +got):\n%s", diff)
						}
						if got.Target.GetPath() != pathOf[modes[0]] {
							t.Errorf("path %s for mode %s", got.Target.GetPath().Name(), modes[0])
						}
					})
				}
			}
		}
	}
}

// TestEachLevelAlone: each level decides when it is the only one, and hides
// nothing; with none set at all the default is none.
func TestEachLevelAlone(t *testing.T) {
	for _, s := range shapes {
		for _, level := range levelsInOrder {
			for _, mode := range []string{"none", "local", "remote"} {
				t.Run(s.name+"/"+level+" "+mode, func(t *testing.T) {
					got := s.target(t, s.world(modesAt{level: mode}, ""))
					if diff := cmp.Diff([]string{level + "=" + mode}, decided(got)); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
					if got.Target.GetPath() != pathOf[mode] {
						t.Errorf("path %s for mode %s", got.Target.GetPath().Name(), mode)
					}
				})
			}
		}
		t.Run(s.name+"/default", func(t *testing.T) {
			got := s.target(t, s.world(nil, ""))
			if diff := cmp.Diff([]string{"default=none"}, decided(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Target.GetPath() != isthmusv1.Path_PATH_DIRECT {
				t.Errorf("path %s", got.Target.GetPath().Name())
			}
		})
	}
}

// TestAllLevels takes the levels away from the top, one after the other: the
// next one decides, and all below stay hidden in their order.
func TestAllLevels(t *testing.T) {
	for _, s := range shapes {
		for first := range levelsInOrder {
			m, want := modesAt{}, []string{}
			for i, level := range levelsInOrder[first:] {
				m[level] = []string{"local", "remote", "none"}[(i+first)%3]
				want = append(want, level+"="+m[level])
			}
			t.Run(s.name+"/from "+levelsInOrder[first], func(t *testing.T) {
				if diff := cmp.Diff(want, decided(s.target(t, s.world(m, "")))); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestLevelOrigins: every level names the place that it was written at.
func TestLevelOrigins(t *testing.T) {
	m := modesAt{}
	for _, level := range levelsInOrder {
		m[level] = "remote"
	}
	got := shapes[0].target(t, shapes[0].world(m, ""))
	want := map[string]string{
		"upstream":                "instance/dc1-node/web-sidecar-proxy dc1.txt:3",
		"override":                "config/service-defaults/web dc1.txt:7",
		"instance":                "instance/dc1-node/web-sidecar-proxy dc1.txt:3",
		"upstream-defaults":       "config/service-defaults/web dc1.txt:7",
		"service-defaults":        "config/service-defaults/web dc1.txt:7",
		"proxy-defaults":          "config/proxy-defaults/global dc1.txt:12",
		"target-service-defaults": "config/service-defaults/other dc1.txt:16",
	}
	places := map[string]string{}
	for _, l := range append([]resolver.ExplainedLevel{got.Winner}, got.Hidden...) {
		if l.Origin.Stream != "CATALOG_dc1" || l.Origin.Incarnation != "first" || l.Origin.Sequence == 0 {
			t.Errorf("%s: origin %+v", l.Level.Name(), l.Origin)
		}
		places[l.Level.Name()] = fmt.Sprintf("%v %s:%d", l.Key, l.Origin.Source.GetFile(), l.Origin.Source.GetLine())
	}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestMergedLevel: where the source shows modes with the entries merged in, the
// shown mode decides and the entries only explain. Where it shows none, entries
// of the source do not act before they are merged; what is left is what a chain
// has by itself: the target's service-defaults, then proxy-defaults.
func TestMergedLevel(t *testing.T) {
	entries := modesAt{"override": "none", "upstream-defaults": "local", "service-defaults": "none", "proxy-defaults": "remote", "target-service-defaults": "local"}
	hidden := []string{"override=none", "upstream-defaults=local", "service-defaults=none", "proxy-defaults=remote", "target-service-defaults=local"}
	with := func(more modesAt) modesAt {
		out := modesAt{}
		for _, m := range []modesAt{entries, more} {
			for k, v := range m {
				out[k] = v
			}
		}
		return out
	}
	for _, test := range []struct {
		name  string
		modes modesAt
		want  []string
	}{
		{"shown at the upstream", with(modesAt{"upstream": "remote", "instance": "local"}), append([]string{"merged=remote"}, hidden...)},
		{"shown at the instance", with(modesAt{"instance": "local"}), append([]string{"merged=local"}, hidden...)},
		{"nothing shown", with(nil), []string{"target-service-defaults=local", "proxy-defaults=remote"}},
		{"nothing shown, nothing at the target", modesAt{"override": "none", "service-defaults": "none", "proxy-defaults": "remote"}, []string{"proxy-defaults=remote"}},
		{"nothing shown, nothing for a chain", modesAt{"override": "local", "upstream-defaults": "local", "service-defaults": "local"}, []string{"default=none"}},
		{"nothing at all", modesAt{}, []string{"default=none"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := shapes[0].target(t, shapes[0].world(test.modes, "merged_central_config: true"))
			if diff := cmp.Diff(test.want, decided(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Winner.Level == isthmusv1.Level_LEVEL_MERGED && got.Winner.Key.String() != "instance/dc1-node/web-sidecar-proxy" {
				t.Errorf("merged cites %v", got.Winner.Key)
			}
		})
	}
}

// TestEachTargetDecidesForItself: without a mode of the source, each target of
// one chain has that of its own service-defaults.
func TestEachTargetDecidesForItself(t *testing.T) {
	w := world{
		"dc1": `
gateway 10.1.0.20:8443
sidecar web 10.1.0.10:21000 { proxy { upstreams { destination_name: "api" local_bind_port: 1 } } }
config proxy-defaults global { config_json: '{"protocol":"http"}' }
config service-splitter api {
  splits { weight: 5000 service: "api" }
  splits { weight: 5000 service: "beta" }
}
config service-resolver api {
  redirect { datacenter: "dc2" }
  failover { subset: "*" targets { service: "gamma" datacenter: "dc3" } }
}
config service-resolver beta { redirect { datacenter: "dc2" } }
config service-defaults api { mesh_gateway { mode: "remote" } }
config service-defaults beta { mesh_gateway { mode: "local" } }`,
		"dc2": "gateway 10.2.0.20:8443\nsidecar api 10.2.0.9:21000\nsidecar beta 10.2.0.10:21000",
		"dc3": "gateway 10.3.0.20:8443\nsidecar gamma 10.3.0.9:21000",
	}
	answers, err := w.machine(t).Explain(resolver.Question{Proxy: "web"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, target := range answers[0].Targets {
		got = append(got, fmt.Sprintf("%d %d %s %s %s", target.Weight, target.FailoverIndex,
			target.Target.GetId(), decided(target)[0], target.Target.GetPath().Name()))
	}
	want := []string{
		"5000 0 api.default.default.dc2 target-service-defaults=remote remote-gateway",
		"5000 1 gamma.default.default.dc3 default=none direct",
		"5000 0 beta.default.default.dc2 target-service-defaults=local local-gateway",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

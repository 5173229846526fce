package resolver_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// TestInvalidMode: what Consul stored although it is no mode wins at its level,
// acts as none, and is stated. Comparison is exact.
func TestInvalidMode(t *testing.T) {
	for _, mode := range []string{"bogus", "Local", "REMOTE", " local"} {
		for _, level := range levelsInOrder {
			t.Run(level+" "+mode, func(t *testing.T) {
				m := modesAt{level: mode}
				if level != "target-service-defaults" {
					m["target-service-defaults"] = "remote"
				}
				got := shapes[0].target(t, shapes[0].world(m, ""))
				if want := level + "=none"; decided(got)[0] != want {
					t.Errorf("decided by %s, want %s", decided(got)[0], want)
				}
				if got.Winner.Mode != mode || got.Target.GetPath() != isthmusv1.Path_PATH_DIRECT {
					t.Errorf("mode %q, path %s", got.Winner.Mode, got.Target.GetPath().Name())
				}
				if diff := cmp.Diff([]string{resolver.CodeInvalidMode}, codes(got.Target.GetProblems())); diff != "" {
					t.Errorf("problems (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func codes(problems []*isthmusv1.Problem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, p.GetCode())
	}
	return out
}

// TestOpaqueProxyDefaultsMode: Config.mesh_gateway is the last resort of
// proxy-defaults, below its own mode and above the target's service-defaults.
// The same key of a proxy's or an upstream's config means nothing.
func TestOpaqueProxyDefaultsMode(t *testing.T) {
	for _, test := range []struct{ name, defaults, want string }{
		{"text", `config_json: '{"mesh_gateway":"local"}'`, "proxy-defaults=local"},
		{"object", `config_json: '{"mesh_gateway":{"mode":"local"}}'`, "proxy-defaults=local"},
		{"object in CamelCase", `config_json: '{"mesh_gateway":{"Mode":"local"}}'`, "proxy-defaults=local"},
		{"list", `config_json: '{"mesh_gateway":[{"mode":"local"}]}'`, "proxy-defaults=local"},
		{"below the field", `config_json: '{"mesh_gateway":"local"}' mesh_gateway { mode: "none" }`, "proxy-defaults=none"},
		{"absent", `config_json: '{}'`, "target-service-defaults=remote"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := world{
				"dc1": `
gateway 10.1.0.20:8443
sidecar web 10.1.0.10:21000 {
  proxy {
    config_json: '{"mesh_gateway":{"mode":"remote"}}'
    upstreams { destination_name: "other" datacenter: "dc2" local_bind_port: 1 config_json: '{"mesh_gateway":{"mode":"remote"}}' }
  }
}
config proxy-defaults global { ` + test.defaults + ` }
config service-defaults other { mesh_gateway { mode: "remote" } }`,
				"dc2": "gateway 10.2.0.20:8443\nsidecar other 10.2.0.9:21000",
			}
			if got := decided(shapes[0].target(t, w))[0]; got != test.want {
				t.Errorf("decided by %s, want %s", got, test.want)
			}
		})
	}
}

// TestOverrideMatches: an override is found by name, namespace, partition and
// peer, without case; one for another upstream does not count.
func TestOverrideMatches(t *testing.T) {
	for _, test := range []struct {
		name, upstream, override string
		found                    bool
	}{
		{"same name", `destination_name: "other"`, `name: "other"`, true},
		{"other case", `destination_name: "Other"`, `name: "oTHER"`, true},
		{"other name", `destination_name: "other"`, `name: "others"`, false},
		{"default namespace written out", `destination_name: "other"`, `name: "other" namespace: "default" partition: "Default"`, true},
		{"other namespace", `destination_name: "other"`, `name: "other" namespace: "ns1"`, false},
		{"same namespace", `destination_name: "other" destination_namespace: "ns1"`, `name: "other" namespace: "NS1"`, true},
		{"other partition", `destination_name: "other"`, `name: "other" partition: "p1"`, false},
		{"override of a peer", `destination_name: "other"`, `name: "other" peer: "cloud"`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := world{"dc1": fmt.Sprintf(`
sidecar web 10.1.0.10:21000 {
  proxy { upstreams { %s datacenter: "dc2" local_bind_port: 1 } }
}
config service-defaults web { upstream_overrides { %s mesh_gateway { mode: "remote" } } }`, test.upstream, test.override),
				"dc2": "gateway 10.2.0.20:8443\nsidecar other 10.2.0.9:21000"}
			answers, err := w.machine(t).Explain(resolver.Question{Proxy: "web"})
			if err != nil {
				t.Fatal(err)
			}
			want := "default=none"
			if test.found {
				want = "override=remote"
			}
			if got := decided(answers[0].Targets[0])[0]; got != want {
				t.Errorf("decided by %s, want %s", got, want)
			}
		})
	}
}

// TestSourceIsTheDestinationService: the service-defaults that count are those
// of the service that a proxy stands for, not those of the proxy's own name.
func TestSourceIsTheDestinationService(t *testing.T) {
	s := shapes[0]
	w := s.world(modesAt{"service-defaults": "remote"}, "")
	w["dc1"] += "\nconfig service-defaults web-sidecar-proxy { mesh_gateway { mode: \"local\" } }"
	if got := decided(s.target(t, w))[0]; got != "service-defaults=remote" {
		t.Errorf("decided by %s", got)
	}
}

// TestEntriesAreReadInTheOwnDatacenter: what another datacenter's catalog says
// of services and defaults decides nothing here.
func TestEntriesAreReadInTheOwnDatacenter(t *testing.T) {
	s := shapes[0]
	w := s.world(nil, "")
	w["dc2"] += `
config proxy-defaults global { mesh_gateway { mode: "local" } }
config service-defaults web { mesh_gateway { mode: "local" } }
config service-defaults other { mesh_gateway { mode: "local" } }
config service-resolver other { redirect { service: "elsewhere" } }`
	if diff := cmp.Diff([]string{"default=none"}, decided(s.target(t, w))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

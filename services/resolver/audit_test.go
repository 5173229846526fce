package resolver_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// audited is what an audit of dc1, read from Consul, finds: CODE SUBJECT.
func (w world) audited(t *testing.T) ([]string, []resolver.Finding) {
	t.Helper()
	findings, err := w.consulMachine(t).Audit()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range findings {
		if f.Origin == nil || f.Origin.Stream != "CATALOG_dc1" || f.Key.Kind == "" {
			t.Errorf("%s of %s cites %v, %+v", f.Problem.GetCode(), f.Subject, f.Key, f.Origin)
		}
		out = append(out, f.Problem.GetCode()+" "+f.Subject)
	}
	return out, findings
}

const (
	plainWeb  = `sidecar web 10.1.0.10:21000 { proxy { upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 } } }`
	remoteWeb = `sidecar web 10.1.0.10:21000 { proxy { mesh_gateway { mode: "remote" } upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 } } }`
	upWeb     = `sidecar web 10.1.0.10:21000 { proxy { upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 mesh_gateway { mode: "remote" } } } }`
	twoWeb    = `sidecar web 10.1.0.11:21000 node=n2 { proxy { upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 } } }`
	mergedWeb = `sidecar web 10.1.0.10:21000 { merged_central_config: true proxy { mesh_gateway { mode: "%s" } upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 mesh_gateway { mode: "%s" } } } }`
)

func merged(instance, upstream string) string { return fmt.Sprintf(mergedWeb, instance, upstream) }

// TestAudit: each catalog comes to its findings and no others.
func TestAudit(t *testing.T) {
	for _, test := range []struct {
		name       string
		statements []string
		want       []string
	}{
		{"all well", []string{plainWeb, pdLocal}, nil},
		{"a sticky default, without any proxy", []string{pdRemote, dfLocal}, []string{"STICKY_DEFAULTS service-defaults/web"}},
		{"defaults over nothing else", []string{dfLocal}, nil},

		{"a proxy that shows none although an entry sets one", []string{merged("", ""), dfLocal}, []string{"MODE_PENDING_AGENT dc1-node/web-sidecar-proxy"}},
		{"a proxy that is merged", []string{merged("local", "local"), pdLocal}, nil},
		{"a proxy of two upstreams is found once", []string{
			`sidecar web 10.1.0.10:21000 { merged_central_config: true proxy { upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 } upstreams { destination_name: "b" datacenter: "dc2" local_bind_port: 2 } } }`,
			sdLocal}, []string{"MODE_PENDING_AGENT dc1-node/web-sidecar-proxy"}},

		{"invalid modes of entries, whether they decide or not", []string{
			`config proxy-defaults global { mesh_gateway { mode: "Local" } config_json: '{"mesh_gateway":"bogus"}' }`,
			`config service-defaults web { mesh_gateway { mode: "a" } upstream_defaults { mesh_gateway { mode: "b" } } upstream_overrides { name: "api" mesh_gateway { mode: "c" } } }`,
		}, []string{
			"INVALID_MODE proxy-defaults/global", "INVALID_MODE proxy-defaults/global",
			"INVALID_MODE service-defaults/web", "INVALID_MODE service-defaults/web", "INVALID_MODE service-defaults/web",
			"STICKY_DEFAULTS service-defaults/web",
		}},
		{"invalid modes of a registration", []string{strings.NewReplacer("remote", "x").Replace(remoteWeb)}, []string{"INVALID_MODE dc1-node/web-sidecar-proxy"}},
		{"an invalid mode of an upstream", []string{strings.NewReplacer("remote", "x").Replace(upWeb)}, []string{"INVALID_MODE dc1-node/web-sidecar-proxy"}},
		{"an invalid mode that an agent merged is its entry's", []string{merged("x", "x"), `config proxy-defaults global { mesh_gateway { mode: "x" } }`},
			[]string{"INVALID_MODE proxy-defaults/global"}},
		{"an invalid mode that a merged proxy has by itself", []string{merged("", "x")}, []string{"INVALID_MODE dc1-node/web-sidecar-proxy"}},

		{"hidden by the only proxy", []string{remoteWeb, pdLocal}, []string{"HIDDEN_MODE proxy-defaults/global"}},
		{"hidden by one proxy of two", []string{remoteWeb, twoWeb, pdLocal}, nil},
		{"hidden by the upstream, all of them", []string{upWeb, pdLocal, sdLocal}, []string{"HIDDEN_MODE proxy-defaults/global", "HIDDEN_MODE service-defaults/web"}},
		{"an instance whose only upstream is overridden", []string{strings.Replace(remoteWeb, "remote", "local", 1), overRemote}, []string{"HIDDEN_MODE dc1-node/web-sidecar-proxy"}},
		{"an override and defaults are modes of their own", []string{plainWeb,
			`config service-defaults web { upstream_defaults { mesh_gateway { mode: "remote" } } upstream_overrides { name: "api" mesh_gateway { mode: "local" } } }`},
			[]string{"HIDDEN_MODE service-defaults/web"}},
		{"hidden at the target, but not as a source", []string{remoteWeb,
			`sidecar api 10.1.0.12:21000 { proxy { upstreams { destination_name: "db" datacenter: "dc2" local_bind_port: 1 } } }`,
			`config service-defaults api { mesh_gateway { mode: "local" } }`}, nil},
		{"hidden at the target only", []string{remoteWeb, `config service-defaults api { mesh_gateway { mode: "local" } }`}, []string{"HIDDEN_MODE service-defaults/api"}},
		{"the likeliest level behind a merged mode acts", []string{merged("local", "local"), pdLocal, `config service-defaults api { mesh_gateway { mode: "remote" } }`},
			[]string{"HIDDEN_MODE service-defaults/api"}},
		{"a merged mode that is none of the entries'", []string{merged("", "remote"), pdLocal}, []string{"HIDDEN_MODE proxy-defaults/global"}},
		{"nothing is hidden from a proxy without upstreams", []string{"sidecar web 10.1.0.10:21000 { proxy { mesh_gateway { mode: 'remote' } } }", pdLocal}, nil},
		{"nothing is hidden at an external target", []string{plainWeb, pdLocal, `config service-defaults api { external_sni: "api.example" }`}, nil},

		{"names that differ in case", []string{"native api 10.1.0.9:80", "native API 10.1.0.9:81 id=2", "native web 10.1.0.9:82"}, []string{"CASE_CLASH API"}},
		{"a proxy that spells its service differently", []string{"native api 10.1.0.9:80", "sidecar Api 10.1.0.9:81"}, []string{"CASE_CLASH Api"}},
		{"proxies whose own names differ", []string{"sidecar a 10.1.0.9:81 id=1", `sidecar b 10.1.0.9:82 id=2 { name: "A-sidecar-proxy" }`}, []string{"CASE_CLASH A-sidecar-proxy"}},
		{"one name in two namespaces", []string{"native api 10.1.0.9:80", "native API 10.1.0.9:81 ns=n"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := world{"dc1": strings.Join(test.statements, "\n"), "dc2": "gateway 10.2.0.20:8443\nsidecar api 10.2.0.9:21000"}
			got, findings := w.audited(t)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s\n%v", diff, findings)
			}
		})
	}
}

// TestAuditTexts: a finding says where a mode stands and what to do.
func TestAuditTexts(t *testing.T) {
	w := world{"dc1": strings.Join([]string{
		merged("", ""), remoteWeb[:len(remoteWeb)-1] + ` id: "raw" }`, pdRemote, "native API 10.1.0.9:81 id=1", "native Api 10.1.0.9:82 id=2", "native api 10.1.0.9:83",
		`config service-defaults web { upstream_defaults { mesh_gateway { mode: "none" } } upstream_overrides { name: "other" mesh_gateway { mode: "bad" } } }`,
	}, "\n")}
	_, findings := w.audited(t)
	var got []string
	for _, f := range findings {
		severity := strings.ToLower(strings.TrimPrefix(f.Problem.GetSeverity().String(), "SEVERITY_"))
		got = append(got, fmt.Sprintf("%s %s %s: %s", severity, f.Problem.GetCode(), f.Subject, f.Problem.GetText()), f.Problem.GetFix())
	}
	want := []string{
		"warning CASE_CLASH API: services API and Api and api differ only in case: they are found as one, and each has its own identity",
		"register the service under one spelling",
		"warning HIDDEN_MODE service-defaults/web: mode none of UpstreamConfig.Defaults decides for no upstream of any proxy: it is hidden by the level instance",
		"take it away, or the modes that hide it",
		`error INVALID_MODE service-defaults/web: mesh gateway mode "bad" of UpstreamConfig.Overrides of other is none of none, local and remote; it acts as none`,
		"write none, local or remote",
		"warning MODE_PENDING_AGENT dc1-node/web-sidecar-proxy: pending agent: the proxy shows no mode, although service-defaults/web sets none; its agent has not merged it yet",
		"if it stays, look at the agent that the proxy is registered with: it merges changed entries within seconds while it runs",
		"warning STICKY_DEFAULTS service-defaults/web: possibly a sticky default: UpstreamConfig.Defaults of service-defaults/web has mode none, which hides remote of proxy-defaults/global; if nobody wrote it there, Consul's servers inherited it once and keep it",
		"rewrite service-defaults/web: `consul config write`, with the mode that you mean in UpstreamConfig.Defaults, so that none is inherited and kept",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAuditOfValues: an audit asks nothing but one datacenter's values, finds no
// sticky defaults in files, and needs to know the trust domain.
func TestAuditOfValues(t *testing.T) {
	w := world{"dc1": remoteWeb + "\n" + pdRemote + "\n" + dfLocal}
	findings, err := resolver.Audit("dc1", w.transaction(t, "dc1"))
	if err != nil || len(findings) != 2 {
		t.Fatalf("findings %v, error %v", findings, err)
	}
	for _, f := range findings {
		if f.Problem.GetCode() != resolver.CodeHiddenMode || f.Origin.Source.GetFile() != "dc1.txt" {
			t.Errorf("finding %v", f)
		}
	}
	if _, err := resolver.Audit("dc1", &isthmusv1.Transaction{Stream: "CATALOG_dc1", Reset: true}); !errors.Is(err, resolver.ErrNotWhole) {
		t.Errorf("error %v of an empty catalog", err)
	}
}

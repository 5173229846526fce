package definition_test

import (
	"strings"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

// Each file is accepted; the line marked "#!" is warned about, and nothing else.
var warnings = []rule{
	{"proxy instead of the inline sidecar", "a.hcl", "service {\n  name = \"web\"\n  connect {\n    sidecar_service { } #!\n  }\n}\nservice {\n  name = \"web-sidecar-proxy\"\n  kind = \"connect-proxy\"\n  port = 1\n  proxy { destination_service_name = \"web\" }\n}", "sidecar_service", "stands for this sidecar"},
	{"service and proxy on one port", "a.hcl", "service {\n  name = \"web\"\n  port = 1\n}\nservice {\n  name = \"p\"\n  kind = \"connect-proxy\"\n  port = 1 #!\n  proxy { destination_service_name = \"web\" }\n}", "service[1].port", "p listens on 127.0.0.1:1, as web does in a.hcl:1"},
	{"sidecar that is null", "a.yaml", "service:\n  name: web\n  connect:\n    sidecar_service: #!\n", "sidecar_service", "there is no sidecar"},
	{"transparent proxy mode", "a.hcl", proxyHead + "    mode = \"transparent\" #!\n  }\n}", "proxy.mode", "transparent proxy mode is not supported"},
	{"transparent mode of all", "a.hcl", "kind = \"proxy-defaults\"\nmode = \"transparent\" #!\n", "mode", "transparent proxy mode is not supported"},
	{"upstream of a peer", "a.hcl", upstreamHead + "      local_bind_port = 1\n      destination_peer = \"p\" #!\n    }\n  }\n}", "destination_peer", "cluster peering is not supported"},
	{"other gateways", "a.hcl", "service {\n  name = \"egress\"\n  kind = \"terminating-gateway\" #!\n  port = 1\n}", "service.kind", "kind terminating-gateway is not supported"},
	{"unserved kind of entry", "a.hcl", "kind = \"jwt-provider\" #!\nname = \"okta\"\nissuer = \"x\"", "kind", "entries of kind jwt-provider are not supported"},
	{"unknown protocol", "a.hcl", defaultsHead + "protocol = \"htpp\" #!\n", "protocol", `protocol "htpp" is not known and is treated as tcp`},
	{"nanoseconds by mistake", "a.hcl", resolverHead + "connect_timeout = 5 #!\n", "connect_timeout", "this is 5ns"},
	{"setting of an agent", "a.hcl", "server = true #!\n", "server", "has no effect here"},
	{"setting of a federated agent", "a.hcl", "primary_gateways = [\"10.0.0.1:8443\"] #!\n", "primary_gateways", "has no effect here"},
	{"old setting of an agent", "a.hcl", "verify_server_hostname = true #!\n", "verify_server_hostname", "has no effect here"},
	{"central configuration off", "a.hcl", "enable_central_service_config = false #!\n", "enable_central_service_config", "count all the same"},
	{"web tokens in intentions", "a.yaml", "kind: service-intentions\nname: api\njwt: {providers: [{name: okta}]} #!\nsources: [{name: web, action: allow}]\n", "jwt", "JSON web tokens are not supported"},
	{"sameness group", "a.yaml", "kind: service-resolver\nname: api\nfailover:\n  '*': {sameness_group: g} #!\n", "sameness_group", "sameness groups are not supported"},
}

func TestWarnings(t *testing.T) {
	for _, r := range warnings {
		t.Run(r.name, func(t *testing.T) {
			before, _, _ := strings.Cut(r.text, "#!")
			line := 1 + strings.Count(before, "\n")
			catalog := definition.Parse([]definition.File{{Name: r.file, Data: []byte(r.text)}}, datacenter)
			checkRules(t, catalog)
			if len(catalog.Problems) != 1 {
				t.Fatalf("want one warning, got:\n%s", problems(catalog))
			}
			p := catalog.Problems[0]
			if p.Severity != definition.SeverityWarning || p.Line != line || !strings.Contains(p.Key, r.key) || !strings.Contains(p.Problem, r.problem) {
				t.Errorf("want a warning on line %d at %q: %q, got: %s", line, r.key, r.problem, p)
			}
		})
	}
}

// Suggestions name what was most likely meant, and nothing where nothing is near.
func TestSuggestions(t *testing.T) {
	for written, fix := range map[string]string{
		"destination_nme": "did you mean destination_name?",
		"DestinatonName":  "did you mean destination_name?",
		"datacentre":      "did you mean datacenter?",
		"local_bind_prot": "did you mean local_bind_port?",
		"meshgatway":      "did you mean mesh_gateway?",
		"xyzzy_plugh":     "remove it",
	} {
		catalog := definition.Parse([]definition.File{{Name: "a.hcl", Data: []byte(upstreamHead + "local_bind_port = 1\n" + written + " = 1\n}\n}\n}")}}, datacenter)
		if len(catalog.Problems) != 1 || catalog.Problems[0].Fix != fix {
			t.Errorf("%s: want %q, got:\n%s", written, fix, problems(catalog))
		}
	}
}

// A key that belongs to another kind of file is told where it belongs.
func TestMisplacedKeysAreToldWhereTheyBelong(t *testing.T) {
	for _, test := range []struct{ name, data, key, fix string }{
		{"a.yaml", "Name: web\nMeshGateway: {Mode: local}\n", "Name", `write kind = "…" for a config entry, or service { } around a service`},
		{"a.hcl", "MeshGateway { Mode = \"local\" }\n", "MeshGateway", `write kind = "…" for a config entry, or service { } around a service`},
		{"a.hcl", "Kind = \"service-defaults\"\nName = \"web\"\nservice { name = \"web\" }\n", "service", "put it into another file"},
		{"a.json", "{\"Kind\": \"proxy-defaults\", \"Name\": \"global\", \"Services\": []}", "Services", "put it into another file"},
	} {
		catalog := definition.Parse([]definition.File{{Name: test.name, Data: []byte(test.data)}}, datacenter)
		if len(catalog.Problems) == 0 || catalog.Problems[0].Key != test.key || catalog.Problems[0].Fix != test.fix {
			t.Errorf("%s: want %s: %q, got:\n%s", test.data, test.key, test.fix, problems(catalog))
		}
	}
}

// A token is accepted wherever an agent accepts one, and is in no value and in
// no problem.
func TestTokensStayOnTheirMachine(t *testing.T) {
	const secret = "5e0c4a1f-secret"
	catalog := definition.Parse([]definition.File{
		{Name: "agent.hcl", Data: []byte(`acl { enabled = true, tokens { agent = "` + secret + `" } }` + "\nencrypt = \"" + secret + "\"")},
		{Name: "web.hcl", Data: []byte(`service {
			name  = "web"
			token = "` + secret + `"
			check { ttl = "5s", token = "` + secret + `" }
			connect { sidecar_service { token = "` + secret + `" } }
		}`)},
		{Name: "cert.yaml", Data: []byte("kind: inline-certificate\nname: c\nprivate_key: " + secret)},
	}, datacenter)
	if catalog.HasErrors() {
		t.Fatalf("refused:\n%s", problems(catalog))
	}
	if text := model(catalog) + problems(catalog); strings.Contains(text, secret) {
		t.Errorf("the secret is in:\n%s", text)
	}
	if !strings.Contains(model(catalog), "instance/dc1/web-sidecar-proxy") {
		t.Error("the definitions did not come out")
	}
}

func TestIntentionPolicy(t *testing.T) {
	for _, test := range []struct{ name, text, want, primary string }{
		{"nothing said", "", "allow", ""},
		{"said", `default_intention_policy = "deny"`, "deny", ""},
		{"access control's default", `acl { enabled = true, default_policy = "deny" }`, "deny", ""},
		{"access control that is off", `acl { default_policy = "deny" }`, "allow", ""},
		{"said beats access control", "default_intention_policy = \"allow\"\nacl { enabled = true, default_policy = \"deny\" }", "allow", ""},
		{"primary", `primary_datacenter = "dc2"`, "allow", "dc2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			catalog := definition.Parse([]definition.File{{Name: "deep/agent.hcl", Data: []byte(test.text)}}, datacenter)
			facts, ok := catalog.Values[0].Message.(*isthmusv1.MeshFacts)
			if !ok || catalog.HasErrors() {
				t.Fatalf("no facts first in:\n%s%s", model(catalog), problems(catalog))
			}
			if facts.GetDefaultIntentionPolicy() != test.want || facts.GetPrimaryDatacenter() != test.primary {
				t.Errorf("got %s and %q", facts.GetDefaultIntentionPolicy(), facts.GetPrimaryDatacenter())
			}
			if facts.GetTrustDomain() != datacenter.TrustDomain || strings.Join(facts.GetKnownDatacenters(), " ") != "dc1 dc2" {
				t.Errorf("the options are not in the facts: %v", facts)
			}
		})
	}
}

func TestPolicyThatTwoFilesSayDifferently(t *testing.T) {
	catalog := definition.Parse([]definition.File{
		{Name: "a/agent.hcl", Data: []byte(`default_intention_policy = "deny"`)},
		{Name: "b/agent.hcl", Data: []byte("\n" + `default_intention_policy = "allow"`)},
	}, datacenter)
	if len(catalog.Problems) != 1 || catalog.Problems[0].File != "b/agent.hcl" || catalog.Problems[0].Line != 2 ||
		!strings.Contains(catalog.Problems[0].Problem, `"deny" in a/agent.hcl:1`) {
		t.Errorf("got:\n%s", problems(catalog))
	}
}

// A definition that is wrong does not come out; those beside it do.
func TestBadValuesDoNotComeOut(t *testing.T) {
	catalog := definition.Parse([]definition.File{
		{Name: "a.hcl", Data: []byte("service {\n name = \"good\"\n}\nservice {\n name = \"bad\"\n port = 99999\n connect { sidecar_service {} }\n}")},
		{Name: "b.yaml", Data: []byte("kind: mesh\nnome: x\n---\nkind: proxy-defaults\n")},
	}, datacenter)
	text := model(catalog)
	for _, want := range []string{"instance/dc1/good", "config/proxy-defaults/global"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in:\n%s", want, text)
		}
	}
	for _, not := range []string{"bad", "config/mesh"} {
		if strings.Contains(text, not) {
			t.Errorf("%s came out in:\n%s", not, text)
		}
	}
}

// A file with many warnings is as valid as one with a few, and an error after
// them is not lost.
func TestManyWarningsAreNoError(t *testing.T) {
	text := numbered("---\n{kind: service-defaults, name: s%d, protocol: gopher}\n", 1500)
	catalog := definition.Parse([]definition.File{{Name: "a.yaml", Data: []byte(text)}}, datacenter)
	if catalog.HasErrors() {
		t.Errorf("warnings are taken as errors:\n%s", catalog.Problems[len(catalog.Problems)-1])
	}
	if got, want := len(catalog.Problems), 1001; got != want {
		t.Errorf("%d problems are listed, want %d", got, want)
	}
	if got, want := len(catalog.Values), 1501; got != want {
		t.Errorf("%d values, want %d", got, want)
	}
	text += "---\n{kind: mesh, title: mesh}\n"
	catalog = definition.Parse([]definition.File{{Name: "a.yaml", Data: []byte(text)}}, datacenter)
	if last := catalog.Problems[len(catalog.Problems)-1]; last.Line != 3002 || last.Severity != definition.SeverityError {
		t.Errorf("the last problem is %s, want the error on line 3002", last)
	}
}

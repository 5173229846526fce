package resolver_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

var asked = world{
	"dc1": `
gateway 10.1.0.20:8443 node=gw
sidecar web 10.1.0.10:21000 node=n1 {
  proxy {
    upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 }
    upstreams { destination_name: "api" local_bind_port: 2 }
    upstreams { destination_name: "db" datacenter: "dc2" local_bind_port: 3 mesh_gateway { mode: "remote" } }
    upstreams { destination_type: "prepared_query" destination_name: "near" local_bind_port: 4 }
  }
}
sidecar web 10.1.0.11:21000 node=n2 id=web-sidecar-proxy { proxy { upstreams { destination_name: "api" local_bind_port: 2 } } }
sidecar shop 10.1.0.12:21000 node=n1 id=shop-1 { proxy { upstreams { destination_name: "api" local_bind_port: 2 } } }
sidecar api 10.1.0.13:21000
sidecar quiet 10.1.0.14:21000
query near { results { node: "dc1-node" instance_id: "api-sidecar-proxy" service: "api" healthy: true } }
config service-intentions api { sources { name: "shop" action: "deny" } }`,
	"dc2": `
facts { default_intention_policy: "deny" }
gateway 10.2.0.20:8443 id=g1
gateway 10.2.0.21:8443 id=g2 critical
sidecar api 10.2.0.10:21000
sidecar db 10.2.0.11:21000 critical
config service-intentions api { sources { name: "WEB" action: "allow" } }
config service-intentions db { sources { name: "*" permissions { action: "allow" path_prefix: "/" } } }`,
}

// TestExplainFinds: a proxy is NODE/ID or a unique ID, a service stands for all
// its proxies, an upstream may be asked for in one datacenter or in any.
func TestExplainFinds(t *testing.T) {
	m := asked.machine(t)
	all := []string{"n1/web-sidecar-proxy api@dc2", "n1/web-sidecar-proxy api@dc1", "n1/web-sidecar-proxy db@dc2", "n1/web-sidecar-proxy near@dc1"}
	for _, test := range []struct {
		q    resolver.Question
		want []string
	}{
		{resolver.Question{Proxy: "n1/web-sidecar-proxy"}, all},
		{resolver.Question{Proxy: "N1/Web-Sidecar-Proxy", Upstream: "API"}, all[:2]},
		{resolver.Question{Proxy: "n1/web-sidecar-proxy", Upstream: "api", Datacenter: "DC2"}, all[:1]},
		{resolver.Question{Proxy: "n1/web-sidecar-proxy", Upstream: "api", Datacenter: "dc1"}, all[1:2]},
		{resolver.Question{Proxy: "n1/web-sidecar-proxy", Datacenter: "dc2"}, []string{all[0], all[2]}},
		{resolver.Question{Proxy: "n1/web-sidecar-proxy", Upstream: "near"}, all[3:]},
		{resolver.Question{Proxy: "shop-1"}, []string{"n1/shop-1 api@dc1"}},
		{resolver.Question{Proxy: "shop"}, []string{"n1/shop-1 api@dc1"}},
		{resolver.Question{Proxy: "shop-sidecar-proxy"}, []string{"n1/shop-1 api@dc1"}},
		{resolver.Question{Proxy: "web", Upstream: "api", Datacenter: "dc1"}, []string{all[1], "n2/web-sidecar-proxy api@dc1"}},
		{resolver.Question{Proxy: "quiet"}, nil},
	} {
		t.Run(fmt.Sprint(test.q), func(t *testing.T) {
			answers, err := m.Explain(test.q)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range answers {
				got = append(got, fmt.Sprintf("%s %s@%s", a.Proxy, a.Upstream.GetDestinationName(), a.Datacenter))
				if a.Basis.Text() == "" || a.Service == nil || a.Route == nil || a.Protocol != "tcp" {
					t.Errorf("incomplete: %+v", a)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestExplainWithoutAnswer lists what could have been asked instead.
func TestExplainWithoutAnswer(t *testing.T) {
	m := asked.machine(t)
	for _, test := range []struct {
		q          resolver.Question
		want       error
		name       string
		candidates []string
	}{
		{resolver.Question{Proxy: "web-sidecar-proxy"}, resolver.ErrAmbiguousProxy, "web-sidecar-proxy",
			[]string{"n1/web-sidecar-proxy", "n2/web-sidecar-proxy"}},
		{resolver.Question{Proxy: "wbe"}, resolver.ErrUnknownProxy, "wbe",
			[]string{"api", "dc1-node/api-sidecar-proxy", "dc1-node/quiet-sidecar-proxy", "n1/shop-1", "n1/web-sidecar-proxy", "n2/web-sidecar-proxy", "quiet", "shop", "web"}},
		{resolver.Question{Proxy: "gw/mesh-gateway"}, resolver.ErrUnknownProxy, "gw/mesh-gateway",
			[]string{"api", "dc1-node/api-sidecar-proxy", "dc1-node/quiet-sidecar-proxy", "n1/shop-1", "n1/web-sidecar-proxy", "n2/web-sidecar-proxy", "quiet", "shop", "web"}},
		{resolver.Question{Proxy: "shop", Upstream: "db"}, resolver.ErrUnknownUpstream, "db", []string{"api@dc1"}},
		{resolver.Question{Proxy: "web", Upstream: "db", Datacenter: "dc1"}, resolver.ErrUnknownUpstream, "db@dc1",
			[]string{"api@dc1", "api@dc2", "db@dc2", "near@dc1"}},
		{resolver.Question{Proxy: "quiet", Upstream: "db"}, resolver.ErrUnknownUpstream, "db", nil},
	} {
		t.Run(fmt.Sprint(test.q), func(t *testing.T) {
			_, err := m.Explain(test.q)
			var e *resolver.NoAnswerError
			if !errors.Is(err, test.want) || !errors.As(err, &e) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if diff := cmp.Diff(test.candidates, e.Candidates); diff != "" || e.Name != test.name {
				t.Errorf("name %q, candidates (-want +got):\n%s", e.Name, diff)
			}
		})
	}
	_, err := m.Explain(resolver.Question{Proxy: "shop", Upstream: "db"})
	if want := `"db": no such upstream; there is api@dc1`; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// TestExplainEndpoints: behind gateways an endpoint is healthy if its gateway
// passes and a backend does.
func TestExplainEndpoints(t *testing.T) {
	w := asked
	m := w.machine(t)
	endpoints := func(q resolver.Question) []string {
		answers, err := m.Explain(q)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, e := range answers[0].Targets[0].Endpoints {
			out = append(out, fmt.Sprintf("%s:%d %s", e.GetAddress(), e.GetPort(), word(e.GetHealth().String())))
		}
		return out
	}
	if diff := cmp.Diff([]string{"10.2.0.10:21000 healthy"}, endpoints(resolver.Question{Proxy: "n1/web-sidecar-proxy", Upstream: "api", Datacenter: "dc2"})); diff != "" {
		t.Errorf("direct (-want +got):\n%s", diff)
	}
	both := resolver.Question{Proxy: "n1/web-sidecar-proxy", Upstream: "db"}
	if diff := cmp.Diff([]string{"10.2.0.20:8443 unhealthy", "10.2.0.21:8443 unhealthy"}, endpoints(both)); diff != "" {
		t.Errorf("failing backend (-want +got):\n%s", diff)
	}
	change(t, m, "dc2", "sidecar db 10.2.0.11:21000")
	if diff := cmp.Diff([]string{"10.2.0.20:8443 healthy", "10.2.0.21:8443 unhealthy"}, endpoints(both)); diff != "" {
		t.Errorf("passing backend (-want +got):\n%s", diff)
	}
}

// TestExplainReadsWhatWasMade: an explanation is of the very route that is put
// out.
func TestExplainReadsWhatWasMade(t *testing.T) {
	m := asked.machine(t)
	answers, err := m.Explain(resolver.Question{Proxy: "web"})
	if err != nil {
		t.Fatal(err)
	}
	routes := map[string]proto.Message{}
	for _, value := range m.All() {
		if set, ok := value.(*isthmusv1.RouteSet); ok {
			for _, r := range set.GetRoutes() {
				routes[set.GetHash()+r.GetId()] = r
			}
		}
	}
	for _, a := range answers {
		found := false
		for _, r := range routes {
			found = found || r == a.Route
		}
		if !found {
			t.Errorf("%s: the route of %s is not one that was put out", a.Proxy, a.Route.GetId())
		}
	}
}

// TestExplainAuthorization asks the intentions of the target's datacenter.
func TestExplainAuthorization(t *testing.T) {
	m := asked.machine(t)
	for _, test := range []struct {
		q                  resolver.Question
		allowed, byRequest bool
		reason, origin     string
	}{
		{resolver.Question{Proxy: "n1/web-sidecar-proxy", Upstream: "api", Datacenter: "dc2"}, true, false,
			"web to api in dc2: allow from WEB in config/service-intentions/api, precedence 9", "CATALOG_dc2 dc2.txt:7"},
		{resolver.Question{Proxy: "n1/web-sidecar-proxy", Upstream: "api", Datacenter: "dc1"}, true, false,
			"web to api in dc1: no intention matches, the default is allow", "CATALOG_dc1 dc1.txt:0"},
		{resolver.Question{Proxy: "shop", Upstream: "api"}, false, false,
			"shop to api in dc1: deny from shop in config/service-intentions/api, precedence 9", "CATALOG_dc1 dc1.txt:16"},
		{resolver.Question{Proxy: "n1/web-sidecar-proxy", Upstream: "db"}, false, false,
			"web to db in dc2: config/service-intentions/db has permissions, which deny because the protocol is tcp", "CATALOG_dc2 dc2.txt:8"},
		{resolver.Question{Proxy: "n1/web-sidecar-proxy", Upstream: "near"}, true, false,
			"web to api in dc1: no intention matches, the default is allow", "CATALOG_dc1 dc1.txt:0"},
	} {
		t.Run(fmt.Sprint(test.q), func(t *testing.T) {
			checkAuthorization(t, m, test.q, test.allowed, test.byRequest, test.reason, test.origin)
		})
	}
	change(t, m, "dc2", `config service-defaults db { protocol: "http" }`)
	checkAuthorization(t, m, resolver.Question{Proxy: "n1/web-sidecar-proxy", Upstream: "db"}, false, true,
		"web to db in dc2: the permissions of config/service-intentions/db decide by request", "CATALOG_dc2 dc2.txt:8")
}

func checkAuthorization(t *testing.T, m *resolver.Machine, q resolver.Question, allowed, byRequest bool, reason, origin string) {
	t.Helper()
	answers, err := m.Explain(q)
	if err != nil || len(answers) != 1 {
		t.Fatalf("%d answers, error %v", len(answers), err)
	}
	a := answers[0].Authorization
	if a.Allowed != allowed || a.ByRequest != byRequest || a.Reason != reason {
		t.Errorf("allowed %v, by request %v: %s; want %v, %v: %s", a.Allowed, a.ByRequest, a.Reason, allowed, byRequest, reason)
	}
	if got := fmt.Sprintf("%s %s:%d", a.Origin.Stream, a.Origin.Source.GetFile(), a.Origin.Source.GetLine()); got != origin {
		t.Errorf("origin %s, want %s", got, origin)
	}
}

// TestAuthorizationOfAChain is that of the first target that would refuse.
func TestAuthorizationOfAChain(t *testing.T) {
	m := world{"dc1": `
sidecar web 10.1.0.10:21000 { proxy { upstreams { destination_name: "api" local_bind_port: 1 } } }
sidecar api 10.1.0.11:21000
sidecar beta 10.1.0.12:21000
config proxy-defaults global { config_json: '{"protocol":"http"}' }
config service-splitter api { splits { weight: 9000 } splits { weight: 1000 service: "beta" } }
config service-intentions beta { sources { name: "web" action: "deny" } }`}.machine(t)
	answers, err := m.Explain(resolver.Question{Proxy: "web"})
	if err != nil {
		t.Fatal(err)
	}
	a := answers[0]
	if a.Authorization.Allowed || !a.Targets[0].Authorization.Allowed || a.Targets[1].Authorization.Allowed {
		t.Errorf("authorization %+v", a.Authorization)
	}
	if a.Targets[0].Weight != 9000 || a.Targets[1].Weight != 1000 {
		t.Errorf("weights %d and %d", a.Targets[0].Weight, a.Targets[1].Weight)
	}
}

// TestAuthorizationOfUnknownDatacenters: a target in a datacenter whose
// intentions are not known does not refuse for those that are.
func TestAuthorizationOfUnknownDatacenters(t *testing.T) {
	for _, test := range []struct {
		name, failover, entries string
		allowed                 bool
		reason                  string
	}{
		{"after one that allows", `targets { datacenter: "dc9" }`, "", true,
			"web to api in dc1: no intention matches, the default is allow"},
		{"after one that refuses", `targets { datacenter: "dc9" }`,
			`config service-intentions api { sources { name: "web" action: "deny" } }`, false,
			"web to api in dc1: deny from web in config/service-intentions/api, precedence 9"},
		{"before one that allows", `targets { service: "beta" }`,
			`config service-resolver api { redirect { datacenter: "dc9" } failover { subset: "*" targets { service: "beta" datacenter: "dc1" } } }`, true,
			"web to beta in dc1: no intention matches, the default is allow"},
		{"between one that allows and one that refuses", `targets { datacenter: "dc9" } targets { service: "beta" }`,
			`config service-intentions beta { sources { name: "web" action: "deny" } }`, false,
			"web to beta in dc1: deny from web in config/service-intentions/beta, precedence 9"},
		{"alone", `targets { datacenter: "dc8" }`, `config service-resolver api { redirect { datacenter: "dc9" } }`, false,
			"the catalog of dc9 is not here: its intentions are not known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := world{"dc1": fmt.Sprintf(`
sidecar web 10.1.0.10:21000 { proxy { upstreams { destination_name: "api" local_bind_port: 1 } } }
sidecar api 10.1.0.11:21000
sidecar beta 10.1.0.12:21000
config service-resolver api { failover { subset: "*" %s } }
%s`, test.failover, test.entries)}.machine(t)
			answers, err := m.Explain(resolver.Question{Proxy: "web"})
			if err != nil {
				t.Fatal(err)
			}
			if a := answers[0].Authorization; a.Allowed != test.allowed || a.Reason != test.reason {
				t.Errorf("allowed %v: %s; want %v: %s", a.Allowed, a.Reason, test.allowed, test.reason)
			}
		})
	}
}

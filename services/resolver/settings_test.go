package resolver_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

func output[M proto.Message](t *testing.T, m *resolver.Machine, key isthmusv1.Key) M {
	t.Helper()
	for k, value := range m.All() {
		if k == key {
			return value.(M)
		}
	}
	t.Fatalf("%v is not there", key)
	return *new(M)
}

func firstRoute(t *testing.T, m *resolver.Machine) *isthmusv1.Route {
	t.Helper()
	for _, value := range m.All() {
		if set, ok := value.(*isthmusv1.RouteSet); ok {
			return set.GetRoutes()[0]
		}
	}
	t.Fatal("no route set")
	return nil
}

// TestUpstreamConfig: the source's defaults, then its override, then the
// upstream's own config, field by field; numbers may be text.
func TestUpstreamConfig(t *testing.T) {
	for _, test := range []struct{ name, defaults, override, own, want string }{
		{"nothing", "", "", "", ""},
		{"defaults", `protocol: "http" connect_timeout_ms: 1000 limits { max_connections: 0 }`, "", "",
			`protocol: "http" connect_timeout_ms: 1000 limits { max_connections: 0 }`},
		{"override over defaults", `protocol: "http" envoy_cluster_json: "{}"`, `protocol: "grpc" balance_outbound_connections: "exact_balance"`, "",
			`protocol: "grpc" envoy_cluster_json: "{}" balance_outbound_connections: "exact_balance"`},
		{"upstream over all", `protocol: "http" connect_timeout_ms: 1000`, `protocol: "grpc" limits { max_connections: 1 }`,
			`{"protocol":"http2","connect_timeout_ms":"2000","limits":{"max_connections":"3","max_pending_requests":4},` +
				`"envoy_listener_json":{"a":1},"passive_health_check":{"interval":"10s","max_failures":5,"base_ejection_time":30000000000,"max_ejection_percent":50}}`,
			`protocol: "http2" connect_timeout_ms: 2000 limits { max_connections: 3 max_pending_requests: 4 } envoy_listener_json: "{\"a\":1}"
			 passive_health_check { interval { seconds: 10 } max_failures: 5 base_ejection_time { seconds: 30 } max_ejection_percent: 50 }`},
		{"lists of one", "", "", `{"limits":[{"max_concurrent_requests":9}],"passive_health_check":[{"enforcing_consecutive_5xx":0}]}`,
			`limits { max_concurrent_requests: 9 } passive_health_check { enforcing_consecutive_5xx: 0 }`},
		{"nonsense", "", "", `{"connect_timeout_ms":-1,"limits":3,"passive_health_check":{"interval":"soon"},"protocol":5}`, `passive_health_check {}`},
		{"no JSON", "", "", `{`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := world{"dc1": `
sidecar web 10.1.0.10:21000 { proxy { upstreams { destination_name: "api" local_bind_port: 1 config_json: '` + test.own + `' } } }
config service-defaults web {
  upstream_defaults { ` + test.defaults + ` mesh_gateway { mode: "local" } }
  upstream_overrides { name: "api" ` + test.override + ` mesh_gateway { mode: "local" } }
}`}.machine(t)
			route := firstRoute(t, m)
			want := &isthmusv1.UpstreamConfig{}
			if err := prototext.Unmarshal([]byte(test.want), want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, nonNil(route.GetConfig()), protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if string(route.GetConfigJson()) != test.own {
				t.Errorf("the upstream's own config became %s", route.GetConfigJson())
			}
		})
	}
}

func nonNil(c *isthmusv1.UpstreamConfig) *isthmusv1.UpstreamConfig {
	if c == nil {
		return &isthmusv1.UpstreamConfig{}
	}
	return c
}

// TestProtocolAndTimeout: the upstream's own choice, the source's override, its
// defaults, then the target's service-defaults, proxy-defaults, tcp; and for the
// connect timeout the target's resolver, then 5 s.
func TestProtocolAndTimeout(t *testing.T) {
	lines := []struct{ text, protocol, timeout string }{
		{`config proxy-defaults global { config_json: '{"protocol":"HTTP"}' }`, "http", "5s"},
		{`config service-defaults api { protocol: "grpc" }` + "\n" + `config service-resolver api { connect_timeout { seconds: 4 } }`, "grpc", "4s"},
		{`upstream_defaults { protocol: "http2" connect_timeout_ms: 3000 }`, "http2", "3s"},
		{`upstream_overrides { name: "api" protocol: "tcp" connect_timeout_ms: 2000 }`, "tcp", "2s"},
		{`{"protocol":"http","connect_timeout_ms":1000}`, "http", "1s"},
	}
	for n := range len(lines) + 1 {
		at := func(i int) string {
			if i < n {
				return lines[i].text
			}
			return ""
		}
		m := world{"dc1": at(0) + "\n" + at(1) + "\nconfig service-defaults web { " + at(2) + " " + at(3) + " }\n" +
			`sidecar web 10.1.0.10:21000 { proxy { upstreams { destination_name: "api" local_bind_port: 1 config_json: '` + at(4) + `' } } }`}.machine(t)
		protocol, timeout := "tcp", "5s"
		if n > 0 {
			protocol, timeout = lines[n-1].protocol, lines[n-1].timeout
		}
		r := firstRoute(t, m)
		inNode := r.GetChain().GetNodes()[0].GetResolver().GetConnectTimeout().AsDuration().String()
		if got := r.GetTargets()[0].GetConnectTimeout().AsDuration().String(); r.GetProtocol() != protocol || got != timeout || inNode != timeout {
			t.Errorf("with %d places: %s within %s (%s), want %s within %s", n, r.GetProtocol(), got, inNode, protocol, timeout)
		}
	}
}

// TestProxySettings: what a proxy takes from its registration, from the
// service's defaults and from proxy-defaults.
func TestProxySettings(t *testing.T) {
	const entries = `
config proxy-defaults global {
  config_json: '{"protocol":"http","x":1}'
  expose { checks: true }
  access_logs { enabled: true }
  envoy_extensions_json: '[{"Name":"global"}]'
}
config service-defaults web {
  expose { paths { path: "/metrics" } }
  max_inbound_connections: 5
  local_connect_timeout_ms: 6
  local_request_timeout_ms: 7
  balance_inbound_connections: "exact_balance"
  envoy_extensions_json: '[{"Name":"web"}]'
}
config mesh mesh {
  tls_incoming { tls_min_version: "TLSv1_3" } tls_outgoing { tls_max_version: "TLSv1_3" }
  request_normalization { merge_slashes: true } sanitize_x_forwarded_client_cert: true validate_clusters: true
}
`
	for _, test := range []struct{ name, registration, want string }{
		{"from the entries", "", `
local { protocol: "http" max_inbound_connections: 5 connect_timeout_ms: 6 request_timeout_ms: 7 balance_inbound_connections: "exact_balance" }
expose { paths { path: "/metrics" } } access_logs { enabled: true }
envoy_extensions_json: '[{"Name":"global"},{"Name":"web"}]'`},
		{"from the registration", `
local_service_address: "127.0.0.1" local_service_port: 8080 local_service_socket_path: "/run/web"
config_json: '{"protocol":"grpc","max_inbound_connections":"1","local_connect_timeout_ms":2,"local_request_timeout_ms":0,"balance_inbound_connections":"none"}'
expose { checks: true paths { path: "/own" } } access_logs { type: "stderr" } envoy_extensions_json: '[{"Name":"own"}]'`, `
local_service_address: "127.0.0.1" local_service_port: 8080 local_service_socket_path: "/run/web"
config_json: '{"protocol":"grpc","max_inbound_connections":"1","local_connect_timeout_ms":2,"local_request_timeout_ms":0,"balance_inbound_connections":"none"}'
local { protocol: "grpc" max_inbound_connections: 1 connect_timeout_ms: 2 balance_inbound_connections: "none" }
expose { checks: true paths { path: "/own" } } access_logs { type: "stderr" }
envoy_extensions_json: '[{"Name":"global"},{"Name":"web"},{"Name":"own"}]'`},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := world{"dc1": entries + "sidecar web 10.1.0.10:21000 node=n wan=198.51.100.10:443 {\nproxy {" + test.registration + "}\n}"}.machine(t)
			want := &isthmusv1.ProxyRoutes{}
			if err := prototext.Unmarshal([]byte(test.want+`
node: "n" id: "web-sidecar-proxy" name: "web-sidecar-proxy" kind: "connect-proxy" service { name: "web" }
address: "10.1.0.10" port: 21000 spiffe_id: "spiffe://td.consul/ns/default/dc/dc1/svc/web"
tagged_addresses { tag: "wan" address: "198.51.100.10" port: 443 }
proxy_defaults_config_json: '{"protocol":"http","x":1}'
tls_incoming { tls_min_version: "TLSv1_3" } tls_outgoing { tls_max_version: "TLSv1_3" }
request_normalization { merge_slashes: true } sanitize_x_forwarded_client_cert: true validate_clusters: true`), want); err != nil {
				t.Fatal(err)
			}
			got := output[*isthmusv1.ProxyRoutes](t, m, isthmusv1.ProxyKey("", "n", "", "web-sidecar-proxy"))
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestDefaultIntentionPolicy: only allow allows; what cannot be read denies, and
// is stated.
func TestDefaultIntentionPolicy(t *testing.T) {
	for _, test := range []struct{ policy, action, problem string }{
		{"allow", "allow", ""}, {"deny", "deny", ""}, {"ALLOW", "allow", ""}, {"write", "deny", resolver.CodeInvalidPolicy},
	} {
		m := world{"dc1": "facts { default_intention_policy: \"" + test.policy + "\" }\nsidecar web 10.1.0.10:21000"}.machine(t)
		in := output[*isthmusv1.Inbound](t, m, isthmusv1.InboundKey(&isthmusv1.ServiceRef{Name: "web"}))
		if in.GetDefaultAction() != test.action {
			t.Errorf("policy %q: %s, want %s", test.policy, in.GetDefaultAction(), test.action)
		}
		var want []string
		if test.problem != "" {
			want = []string{test.problem}
		}
		if diff := cmp.Diff(want, codes(in.GetProblems())); diff != "" {
			t.Errorf("policy %q (-want +got):\n%s", test.policy, diff)
		}
	}
}

// TestProtocolsOnTheWay: every service that a redirect or failover passes has a
// part in the chain, so another protocol of any of them is stated.
func TestProtocolsOnTheWay(t *testing.T) {
	const mixed = "the chain has several protocols: api is tcp, but middle is http"
	for _, test := range []struct{ name, entries, want string }{
		{"redirect through a service that speaks otherwise", `
config service-resolver api { redirect { service: "middle" } }
config service-resolver middle { redirect { service: "last" } }`, mixed},
		{"failover through a service that speaks otherwise", `
config service-resolver api { failover { subset: "*" service: "middle" } }
config service-resolver middle { redirect { service: "last" } }`, mixed},
		{"redirect to a service that speaks otherwise", `
config service-resolver api { redirect { service: "middle" } }`, mixed},
		{"redirect to a service that speaks alike", `
config service-resolver api { redirect { service: "last" } }`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := world{"dc1": `
sidecar web 10.1.0.10:21000 { proxy { upstreams { destination_name: "api" local_bind_port: 1 } } }
config service-defaults middle { protocol: "http" }` + test.entries}.machine(t)
			answers, err := m.Explain(resolver.Question{Proxy: "web"})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range answers[0].Problems {
				got = append(got, p.GetText())
			}
			if text := strings.Join(got, "\n"); text != test.want {
				t.Errorf("problems %q, want %q", text, test.want)
			}
		})
	}
}

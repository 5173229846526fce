package resource_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpmanager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// extended is a sidecar with extensions, an exposed path and one upstream.
func extended(extensions string) *sidecar {
	return &sidecar{
		proxy: &isthmusv1.ProxyRoutes{
			Node: "n1", Id: "web-sidecar-proxy", Kind: isthmusv1.InstanceKindProxy, Service: &isthmusv1.ServiceRef{Name: "web"},
			Address: "10.0.0.1", Port: 21000, LocalServicePort: 8080, Local: &isthmusv1.Local{Protocol: "http"},
			EnvoyExtensionsJson: []byte(extensions),
			Expose:              &isthmusv1.Expose{Paths: []*isthmusv1.ExposePath{{Path: "/health", ListenerPort: 21500, Protocol: "http"}}},
			Binds:               []*isthmusv1.Bind{{Route: "api", Port: 10001}},
		},
		inbound: &isthmusv1.Inbound{TrustDomain: "t.consul", DefaultAction: isthmusv1.ActionAllow},
		routes: &isthmusv1.RouteSet{Routes: []*isthmusv1.Route{{
			Id: "api", Protocol: "http", Datacenter: "dc1", Destination: &isthmusv1.ServiceRef{Name: "api"},
		}}},
	}
}

const script = `"Script":"-- mine"`

// Where a required extension is not applied nothing listens, neither for callers nor for
// the application, and it is said why. One that is not required leaves all as it is.
func TestARequiredExtensionThatIsNotApplied(t *testing.T) {
	for _, one := range []struct{ what, extension, says string }{
		{"one for authorization", `"name":"builtin/ext-authz","arguments":{}`, "it is not supported"},
		{"one for other upstreams", `"name":"builtin/property-override","arguments":{"ProxyType":"connect-proxy"}`, "it is not supported"},
		{"a kind that is no text", `"name":"builtin/property-override","arguments":{"ProxyType":7}`, "it is not supported"},
		{"one that Consul does not have", `"name":"builtin/http/localratelimit"`, "it is not supported"},
		{"no script", `"name":"builtin/lua","arguments":{"Listener":"inbound"}`, "it has no Script"},
		{"a script that is no text", `"name":"builtin/lua","arguments":{"Listener":"inbound","Script":["x"]}`, "its argument Script is no text"},
		{"no listener", `"name":"builtin/lua","arguments":{` + script + `}`, `its argument Listener is "", and should be inbound or outbound`},
		{"another kind", `"name":"builtin/lua","arguments":{"ProxyType":"mesh-gateway","Listener":"inbound",` + script + `}`, `its argument ProxyType is "mesh-gateway"`},
		{"versions of Consul", `"name":"builtin/lua","consul_version":">1.0","arguments":{"Listener":"inbound",` + script + `}`, "consul_version and envoy_version are not evaluated"},
		{"versions of Envoy", `"name":"builtin/lua","envoy_version":">1.0","arguments":{"Listener":"inbound",` + script + `}`, "consul_version and envoy_version are not evaluated"},
	} {
		t.Run(one.what, func(t *testing.T) {
			for _, required := range []string{`true`, `"true"`, `1`} {
				listeners, stated := extended(`[{` + one.extension + `,"required":` + required + `}]`).listeners(t)
				if len(listeners) > 0 {
					t.Errorf("required (%s), it is not applied, and these listen: %v", required, listeners)
				}
				wantStated(t, stated, one.says+"; it is required, so none of the proxy's listeners is served")
			}
			for _, required := range []string{`false`, `"false"`, `""`, `null`} {
				listeners, stated := extended(`[{` + one.extension + `,"required":` + required + `}]`).listeners(t)
				if len(listeners) != 3 {
					t.Errorf("not required (%s), it leaves these: %v", required, listeners)
				}
				wantStated(t, stated, one.says)
			}
		})
	}
	listeners, stated := extended(`{"name":"builtin/lua"}`).listeners(t)
	if len(listeners) > 0 {
		t.Errorf("the extensions cannot be read, and these listen: %v", listeners)
	}
	wantStated(t, stated, "it is required, so none of the proxy's listeners is served")
}

// What is for proxies of another kind is nothing here, required or not.
func TestExtensionsOfOtherProxies(t *testing.T) {
	for _, extension := range []string{
		`null`,
		`{"name":"builtin/aws/lambda","required":true,"arguments":{"ARN":"arn"}}`,
		`{"name":"builtin/lua","required":true,"arguments":{"ProxyType":"api-gateway","Listener":"inbound"}}`,
		`{"name":"builtin/property-override","required":true,"arguments":{"ProxyType":"terminating-gateway"}}`,
	} {
		listeners, stated := extended(`[` + extension + `]`).listeners(t)
		plain, _ := extended(``).listeners(t)
		if strings.Join(listeners, "\n") != strings.Join(plain, "\n") || len(stated) > 0 {
			t.Errorf("%s makes it %v, %v", extension, listeners, stated)
		}
	}
}

// An inbound script of a service without requests does nothing, which is said; and
// sidecars share their upstreams only where scripts and refusals are the same.
func TestExtensionsAndProtocols(t *testing.T) {
	s := extended(`[{"name":"builtin/lua","required":true,"arguments":{"Listener":"inbound",` + script + `}}]`)
	s.proxy.Local.Protocol = "tcp"
	listeners, stated := s.listeners(t)
	if len(listeners) != 3 {
		t.Errorf("these listen: %v", listeners)
	}
	wantStated(t, stated, "do nothing, as they do nothing in Consul: its protocol is tcp")

	keys := map[string]string{}
	for _, extensions := range []string{
		``, `[{"name":"builtin/lua","arguments":{"Listener":"outbound","Script":"-- a"}}]`,
		`[{"name":"builtin/lua","arguments":{"Listener":"outbound","Script":"-- b"}}]`, `[{"name":"builtin/wasm","required":true}]`,
	} {
		_, key := resource.OutboundOf(extended(extensions).proxy)
		if other, twice := keys[key]; twice {
			t.Errorf("%s and %s are as one", extensions, other)
		}
		keys[key] = extensions
	}
	_, plain := resource.OutboundOf(extended(``).proxy)
	if _, inbound := resource.OutboundOf(extended(`[{"name":"builtin/lua","arguments":{"Listener":"inbound","Script":"-- a"}}]`).proxy); inbound != plain {
		t.Error("what callers meet keeps sidecars from sharing their upstreams")
	}
}

// listeners are the names and versions of what the sidecar listens at, and what is stated.
func (s *sidecar) listeners(t *testing.T) (names []string, stated []*isthmusv1.Problem) {
	t.Helper()
	public, stated := resource.Public(s.proxy, s.inbound)
	for _, r := range public {
		if r.Type == resource.Listener {
			names = append(names, r.Name+" "+r.Version)
		}
	}
	outbound, _ := resource.OutboundOf(s.proxy)
	for _, u := range resource.Upstreams(s.routes, outbound, func(*isthmusv1.EndpointSetRef) *isthmusv1.EndpointSet { return nil }) {
		if l, _ := u.Shape().Bound(s.proxy.GetBinds()[0]); l != nil {
			names = append(names, l.Name+" "+l.Version)
		}
	}
	return names, stated
}

func wantStated(t *testing.T, stated []*isthmusv1.Problem, says string) {
	t.Helper()
	if len(stated) != 1 || stated[0].GetCode() != resource.CodeExtension || !strings.HasSuffix(stated[0].GetText(), says) {
		t.Errorf("stated is %v, and should be %q", stated, says)
	}
}

// Listeners that somebody wrote get the scripts too, in every chain, and behind what
// judges the caller.
func TestExtensionsOfListenersOfOnesOwn(t *testing.T) {
	const manager = `{"filters":[{"name":"http","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",` +
		`"http_filters":[{"name":"envoy.filters.http.cors"},{"name":"envoy.filters.http.router"}]}}]}`
	const listener = `{"name":"mine","filter_chains":[` + manager + `],"default_filter_chain":` + manager + `}`
	s := extended(`[{"name":"builtin/lua","arguments":{"Listener":"inbound",` + script + `}},{"name":"builtin/lua","arguments":{"Listener":"outbound",` + script + `}}]`)
	s.proxy.Expose = nil
	s.proxy.ConfigJson = fmt.Appendf(nil, `{"envoy_public_listener_json":%q}`, `{"name":"mine","filter_chains":[`+manager+`]}`)
	s.routes.Routes[0].Chain = &isthmusv1.Chain{IsDefault: true}
	s.routes.Routes[0].Config = &isthmusv1.UpstreamConfig{EnvoyListenerJson: listener}
	public, _ := resource.Public(s.proxy, s.inbound)
	wantFilters(t, public[len(public)-1], "envoy.filters.http.rbac", "envoy.filters.http.cors", "envoy.filters.http.lua", "envoy.filters.http.router")
	outbound, _ := resource.OutboundOf(s.proxy)
	upstream := resource.Upstreams(s.routes, outbound, func(*isthmusv1.EndpointSetRef) *isthmusv1.EndpointSet { return nil })[0]
	bound, problem := upstream.Shape().Bound(s.proxy.GetBinds()[0])
	if problem != nil {
		t.Fatal(problem)
	}
	wantFilters(t, bound, "envoy.filters.http.cors", "envoy.filters.http.lua", "envoy.filters.http.router")
}

// wantFilters wants every chain of a listener to have these HTTP filters.
func wantFilters(t *testing.T, r *resource.Resource, want ...string) {
	t.Helper()
	l := &listenerv3.Listener{}
	if err := r.Body.UnmarshalTo(l); err != nil {
		t.Fatal(err)
	}
	chains := l.GetFilterChains()
	if l.GetDefaultFilterChain() != nil {
		chains = append(chains, l.GetDefaultFilterChain())
	}
	for _, chain := range chains {
		m := &httpmanager.HttpConnectionManager{}
		if err := chain.GetFilters()[0].GetTypedConfig().UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range m.GetHttpFilters() {
			got = append(got, f.GetName())
		}
		if !slices.Equal(got, want) {
			t.Errorf("the filters of %s are %q, and should be %q", r.Name, got, want)
		}
	}
}

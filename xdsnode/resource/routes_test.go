package resource

import (
	"slices"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// resolvers are nodes of a chain that lead to clusters of their names.
func resolvers(names ...string) []*isthmusv1.ChainNode {
	var out []*isthmusv1.ChainNode
	for _, name := range names {
		out = append(out, &isthmusv1.ChainNode{Name: name, Node: &isthmusv1.ChainNode_Resolver{Resolver: &isthmusv1.ChainResolver{Target: name}}})
	}
	return out
}

// routed are the routes of a router, with a resolver "last" as Consul adds it.
func routed(routes ...*isthmusv1.ChainRoute) []*routev3.Route {
	router := &isthmusv1.ChainRouter{Routes: append(routes, &isthmusv1.ChainRoute{Next: "last"})}
	nodes := append(resolvers("api", "last"), &isthmusv1.ChainNode{Name: "router:api", Node: &isthmusv1.ChainNode_Router{Router: router}})
	return made(&isthmusv1.Chain{Start: "router:api", Nodes: nodes})
}

func made(chain *isthmusv1.Chain) []*routev3.Route {
	same := func(node string) string { return strings.TrimPrefix(node, "nowhere") }
	return routeConfiguration("api", &isthmusv1.Route{Chain: chain}, same).GetVirtualHosts()[0].GetRoutes()
}

// A route of which an Envoy could not take a part is left out whole: with the parts that
// are left it would take requests that were not meant.
func TestRoutesThatEnvoyRefusesAreLeftOut(t *testing.T) {
	for name, match := range map[string]*isthmusv1.ServiceRouteMatch{
		"path":                     {PathRegex: "("},
		"header":                   {Headers: []*isthmusv1.HeaderMatch{{Name: "x", Regex: `\p{Letter}`}}},
		"header without a name":    {Headers: []*isthmusv1.HeaderMatch{{Exact: "x"}}},
		"header, in no way":        {Headers: []*isthmusv1.HeaderMatch{{Name: "x"}}},
		"name of a header":         {Headers: []*isthmusv1.HeaderMatch{{Name: "x\n", Present: true}}},
		"parameter":                {QueryParams: []*isthmusv1.QueryParamMatch{{Name: "q", Regex: "[z-a]"}}},
		"parameter without a name": {QueryParams: []*isthmusv1.QueryParamMatch{{Present: true}}},
		"parameter, in no way":     {QueryParams: []*isthmusv1.QueryParamMatch{{Name: "q"}}},
		"long parameter":           {QueryParams: []*isthmusv1.QueryParamMatch{{Name: strings.Repeat("q", 2000), Present: true}}},
		"method":                   {Methods: []string{""}},
	} {
		if routes := routed(&isthmusv1.ChainRoute{Match: match, Next: "api"}); len(routes) != 1 || routes[0].GetRoute().GetCluster() != "last" {
			t.Errorf("%s: %v", name, routes)
		}
	}
}

// Requests that lead nowhere are refused, and go nowhere else.
func TestRoutesThatLeadNowhere(t *testing.T) {
	refused := func(r *routev3.Route) bool { return r.GetDirectResponse().GetStatus() == 503 }
	routes := routed(&isthmusv1.ChainRoute{Match: &isthmusv1.ServiceRouteMatch{PathPrefix: "/a"}, Next: "nowhere"})
	if len(routes) != 2 || !refused(routes[0]) || refused(routes[1]) {
		t.Errorf("of a router: %v", routes)
	}
	splitter := &isthmusv1.ChainNode{Name: "splitter:api", Node: &isthmusv1.ChainNode_Splitter{Splitter: &isthmusv1.ChainSplitter{
		Splits: []*isthmusv1.ChainSplit{{Weight: 10_000, Next: "nowhere"}, {Weight: 0, Next: "api"}},
	}}}
	for name, chain := range map[string]*isthmusv1.Chain{
		"no chain": nil, "no node": {Start: "nowhere"},
		"a splitter without weight": {Start: "splitter:api", Nodes: append(resolvers("api"), splitter)},
	} {
		if routes := made(chain); len(routes) != 1 || !refused(routes[0]) {
			t.Errorf("%s: %v", name, routes)
		}
	}
}

// A timeout below zero is none; a resolver's counts where the chain begins with it.
func TestRouteTimeouts(t *testing.T) {
	second := durationpb.New(time.Second)
	chain := &isthmusv1.Chain{Start: "api", Nodes: resolvers("api")}
	chain.GetNodes()[0].GetResolver().RequestTimeout = second
	if got := made(chain)[0].GetRoute().GetTimeout(); got.AsDuration() != time.Second {
		t.Errorf("a resolver's: %v", got)
	}
	for _, test := range []struct{ given, want *durationpb.Duration }{
		{nil, nil}, {&durationpb.Duration{}, nil}, {second, second}, {durationpb.New(-time.Second), &durationpb.Duration{}},
		{&durationpb.Duration{Seconds: 1 << 40}, durationpb.New(longestTimeout)},
	} {
		action := routed(&isthmusv1.ChainRoute{
			Next: "api", Destination: &isthmusv1.ServiceRouteDestination{RequestTimeout: test.given, IdleTimeout: test.given},
		})[0].GetRoute()
		for _, got := range []*durationpb.Duration{action.GetTimeout(), action.GetIdleTimeout()} {
			if (got == nil) != (test.want == nil) || got.AsDuration() != test.want.AsDuration() {
				t.Errorf("%v becomes %v, want %v", test.given, got, test.want)
			}
		}
	}
}

// Headers that an Envoy lets nobody modify, and values that it cannot read, are left as
// they are; the others are modified.
func TestHeaderModifiers(t *testing.T) {
	pairs := func(of ...string) []*isthmusv1.HeaderPair {
		var out []*isthmusv1.HeaderPair
		for i := 0; i < len(of); i += 2 {
			out = append(out, &isthmusv1.HeaderPair{Name: of[i], Value: of[i+1]})
		}
		return out
	}
	add, remove := modifiers(&isthmusv1.HeaderModifiers{
		Add: pairs("x-a", "1", ":path", "/", "Host", "h", "", "x", "x-half", "100%", "x-all", "100%%",
			"x-long", strings.Repeat("x", 20_000)),
		Set: pairs("x-ip", "%DOWNSTREAM_REMOTE_ADDRESS%", "x-req", "a%REQ(X-B?:path):9%%PROTOCOL%", "x-no", "%no%",
			"x-unknown", "%NOPE%", "x-bare", "%REQ%", "x-given", "%PROTOCOL(1)%", "x-three", "%%%", "x-line", "a\nb"),
		Remove: []string{"x-c", ":authority", "HOST", "x\r"},
	})
	var got []string
	for _, h := range add {
		got = append(got, h.GetHeader().GetKey()+" "+h.GetAppendAction().String())
	}
	want := []string{
		"x-a APPEND_IF_EXISTS_OR_ADD", "x-all APPEND_IF_EXISTS_OR_ADD",
		"x-ip OVERWRITE_IF_EXISTS_OR_ADD", "x-req OVERWRITE_IF_EXISTS_OR_ADD",
	}
	if !slices.Equal(got, want) || !slices.Equal(remove, []string{"x-c"}) {
		t.Errorf("adds %q, removes %q; want %q, x-c", got, remove, want)
	}
}

// A listener says which route configurations it waits for, and a cluster which
// assignment.
func TestRefs(t *testing.T) {
	manager := func(config *hcm.HttpConnectionManager) *listenerv3.FilterChain {
		return &listenerv3.FilterChain{Filters: []*listenerv3.Filter{filter("http", config)}}
	}
	byName := func(name string) *listenerv3.FilterChain {
		return manager(&hcm.HttpConnectionManager{RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{RouteConfigName: name}}})
	}
	inline := manager(&hcm.HttpConnectionManager{RouteSpecifier: &hcm.HttpConnectionManager_RouteConfig{}})
	listener := pack(&listenerv3.Listener{Name: "l", FilterChains: []*listenerv3.FilterChain{byName("b"), inline, byName("a")}, DefaultFilterChain: byName("b")})
	if !slices.Equal(listener.Refs, []string{"a", "b"}) || listener.Type.Awaited() != Route {
		t.Errorf("a listener waits for %v of %s", listener.Refs, listener.Type.Awaited())
	}
	gateway := &isthmusv1.GatewaySettings{Binds: []*isthmusv1.GatewayBind{{Name: "default", Address: "10.0.0.1", Port: 1}}}
	if refs := GatewayListeners(gateway, nil)[0].Refs; refs != nil {
		t.Errorf("a gateway's listener waits for %v", refs)
	}
	name := &isthmusv1.NameRoute{Sni: "api"}
	if c := NameCluster(name, gateway, nil); !slices.Equal(c.Refs, []string{"api"}) || c.Type.Awaited() != Assignment {
		t.Errorf("a cluster waits for %v of %s", c.Refs, c.Type.Awaited())
	}
	hosts := &isthmusv1.EndpointSet{Endpoints: []*isthmusv1.Endpoint{{Address: "api.example", Port: 1}}}
	if c := NameCluster(name, gateway, hosts); c.Refs != nil {
		t.Errorf("a cluster of host names waits for %v", c.Refs)
	}
	if a := EndpointsOf("api", nil); a.Refs != nil || a.Type.Awaited() != "" {
		t.Errorf("an assignment waits for %v", a.Refs)
	}
}

package client_test

import (
	"fmt"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/xdsnode/client"
)

const typeRoute = typePrefix + "envoy.config.route.v3.RouteConfiguration"

// routed is a listener whose routes are sent by themselves.
func routed(t *testing.T, name, routes string) *listenerv3.Listener {
	t.Helper()
	manager, err := anypb.New(&hcm.HttpConnectionManager{RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{
		RouteConfigName: routes, ConfigSource: &core.ConfigSource{ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return &listenerv3.Listener{Name: name, FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
		Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager},
	}}}}}
}

// leadingTo are routes to clusters.
func leadingTo(name string, clusters ...string) *routev3.RouteConfiguration {
	host := &routev3.VirtualHost{Name: name, Domains: []string{"*"}}
	for _, cluster := range clusters {
		host.Routes = append(host.Routes, &routev3.Route{Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
		}}})
	}
	return &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{host}}
}

// TestRoutes: routes that are sent by themselves are asked for by the names that
// listeners give them, waited for, and left with them.
func TestRoutes(t *testing.T) {
	s, c := begun(t)
	s.answer(typeCluster, "1", nil)
	s.answer(typeListener, "2", nil, packed(t, "l", routed(t, "l", "api")))
	if got := s.request(); got.GetTypeUrl() != typeRoute || !cmp.Equal(got.GetResourceNamesSubscribe(), []string{"api"}) {
		t.Errorf("asked for %v", got)
	}
	got := await(t, c, "listeners are there", (*client.Snapshot).Answered)
	if got.Complete() || !cmp.Equal(got.Unrouted(), []string{"api"}) {
		t.Errorf("complete %v, without routes: %v", got.Complete(), got.Unrouted())
	}
	s.answer(typeRoute, "3", nil, packed(t, "api", leadingTo("api", "b", "a", "b")))
	got = await(t, c, "routes are there", (*client.Snapshot).Complete)
	if want := map[string][]string{"api": {"a", "b"}}; !cmp.Equal(got.Routes, want) {
		t.Errorf("routes %v", got.Routes)
	}
	if body := got.Bodies[typeRoute]["api"]; !body.MessageIs((*routev3.RouteConfiguration)(nil)) {
		t.Errorf("the routes were sent as %v", body)
	}
	if text := fmt.Sprintf("%+v", got); !strings.Contains(text, "Bodies:2 resources") {
		t.Errorf("printed: %s", text)
	}

	s.answer(typeListener, "4", []string{"l"})
	if got := s.request(); got.GetTypeUrl() != typeRoute || !cmp.Equal(got.GetResourceNamesUnsubscribe(), []string{"api"}) {
		t.Errorf("left %v", got)
	}
	got = await(t, c, "the listener is gone", func(s *client.Snapshot) bool { return len(s.Listeners) == 0 })
	if len(got.Routes) != 0 || len(got.Bodies[typeRoute]) != 0 {
		t.Errorf("routes without a listener: %v, %v", got.Routes, got.Bodies[typeRoute])
	}
}

package bootstrap

import (
	"fmt"
	"net/netip"
	"net/url"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
)

// sinks are where statistics are sent.
func (s Stats) sinks() (parts, error) {
	var out parts
	add := func(name string, m proto.Message) {
		out = append(out, marshal(&metricsv3.StatsSink{Name: name, ConfigType: &metricsv3.StatsSink_TypedConfig{TypedConfig: packed(m)}}))
	}
	if s.Statsd != "" {
		at, err := sinkAddress("statsd", s.Statsd, false)
		if err != nil {
			return nil, err
		}
		add("envoy.stat_sinks.statsd", &metricsv3.StatsdSink{StatsdSpecifier: &metricsv3.StatsdSink_Address{Address: at}})
	}
	if s.Dogstatsd != "" {
		at, err := sinkAddress("dogstatsd", s.Dogstatsd, true)
		if err != nil {
			return nil, err
		}
		add("envoy.stat_sinks.dog_statsd", &metricsv3.DogStatsdSink{DogStatsdSpecifier: &metricsv3.DogStatsdSink_Address{Address: at}})
	}
	return out, nil
}

// sinkAddress reads udp://IP:PORT, and unix:///PATH where that may be.
func sinkAddress(what, text string, pipe bool) (*core.Address, error) {
	form := "udp://IP:PORT"
	if pipe {
		form += " or unix:///PATH"
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
	case pipe && u.Scheme == "unix" && u.Host == "" && u.Path != "":
		return &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: u.Path}}}, nil
	case u.Scheme == "udp":
		at, err := netip.ParseAddrPort(u.Host)
		if err != nil {
			break
		}
		out := socket(at.Addr().String(), at.Port())
		out.GetSocketAddress().Protocol = core.SocketAddress_UDP
		return out, nil
	}
	return nil, fmt.Errorf("%s %q: %w, as %s is", what, text, ErrSink, form)
}

// listeners are where statistics are served to others: by way of the admin server, and
// nothing else of it.
func (s Stats) listeners() (parts, error) {
	var out parts
	for _, l := range []struct{ at, what, name, path, rewritten string }{
		{s.Prometheus, "prometheus", "envoy_prometheus_metrics", "/metrics", "/stats/prometheus"},
		{s.Bind, "stats", "envoy_metrics", "/stats", "/stats"},
	} {
		if l.at == "" {
			continue
		}
		at, err := netip.ParseAddrPort(l.at)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w, as IP:PORT is", l.what, l.at, ErrSink)
		}
		out = append(out, marshal(adminListener(at, l.name, l.path, l.rewritten)))
	}
	return out, nil
}

// adminListener leads one path, and what is below it, to the admin server.
func adminListener(at netip.AddrPort, name, path, rewritten string) *listenerv3.Listener {
	route := &routev3.Route{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: path}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: adminCluster}, PrefixRewrite: rewritten,
		}},
	}
	manager := &hcmv3.HttpConnectionManager{
		StatPrefix: name,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name: "self_admin_route", VirtualHosts: []*routev3.VirtualHost{{Name: adminCluster, Domains: []string{"*"}, Routes: []*routev3.Route{route}}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(&routerv3.Router{})},
		}},
	}
	return &listenerv3.Listener{
		Name: name + "_listener", Address: socket(at.Addr().String(), at.Port()),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(manager)},
		}}}},
	}
}

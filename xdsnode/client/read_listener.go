package client

import (
	"fmt"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	http "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	sni "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	tcp "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// readListener reads a listener.
func readListener(resource *discovery.Resource) (Listener, error) {
	m := &listenerv3.Listener{}
	if err := open(resource, m, (*listenerv3.Listener).GetName); err != nil {
		return Listener{}, err
	}
	out := Listener{Name: m.GetName()}
	out.Address, out.Port, out.Path = where(m.GetAddress())
	chains := m.GetFilterChains()
	if last := m.GetDefaultFilterChain(); last != nil {
		chains = append(slices.Clone(chains), last)
	}
	for _, chain := range chains {
		read, err := readChain(chain)
		if err != nil {
			return Listener{}, err
		}
		out.Chains = append(out.Chains, read)
	}
	return out, nil
}

// readChain reads where a filter chain leads.
func readChain(m *listenerv3.FilterChain) (Chain, error) {
	out := Chain{ServerNames: slices.Sorted(slices.Values(m.GetFilterChainMatch().GetServerNames()))}
	for _, filter := range m.GetFilters() {
		if err := readFilter(filter.GetTypedConfig(), &out); err != nil {
			return Chain{}, fmt.Errorf("filter %s: %w", filter.GetName(), err)
		}
	}
	slices.Sort(out.Targets)
	out.Targets = slices.Compact(out.Targets)
	return out, nil
}

// readFilter reads where a filter leads, if it leads anywhere.
func readFilter(packed *anypb.Any, into *Chain) error {
	switch {
	case packed.MessageIs((*tcp.TcpProxy)(nil)):
		m := &tcp.TcpProxy{}
		if err := packed.UnmarshalTo(m); err != nil {
			return err
		}
		into.lead(m.GetCluster())
		for _, weighted := range m.GetWeightedClusters().GetClusters() {
			into.lead(weighted.GetName())
		}
	case packed.MessageIs((*http.HttpConnectionManager)(nil)):
		m := &http.HttpConnectionManager{}
		if err := packed.UnmarshalTo(m); err != nil {
			return err
		}
		into.Route = m.GetRds().GetRouteConfigName()
		into.Targets = append(into.Targets, targets(m.GetRouteConfig())...)
	case packed.MessageIs((*sni.SniCluster)(nil)):
		into.ByServerName = true
	}
	return nil
}

// readRoutes reads where routes lead that are sent by themselves.
func readRoutes(resource *discovery.Resource) ([]string, error) {
	m := &routev3.RouteConfiguration{}
	if err := open(resource, m, (*routev3.RouteConfiguration).GetName); err != nil {
		return nil, err
	}
	out := targets(m)
	slices.Sort(out)
	return slices.Compact(out), nil
}

// targets are the clusters that requests go to.
func targets(m *routev3.RouteConfiguration) []string {
	var c Chain
	for _, host := range m.GetVirtualHosts() {
		for _, route := range host.GetRoutes() {
			c.lead(route.GetRoute().GetCluster())
			for _, weighted := range route.GetRoute().GetWeightedClusters().GetClusters() {
				c.lead(weighted.GetName())
			}
		}
	}
	return c.Targets
}

func (c *Chain) lead(cluster string) {
	if cluster != "" {
		c.Targets = append(c.Targets, cluster)
	}
}

package resource

import (
	"cmp"
	"fmt"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Shape is what all listeners of an upstream have alike: a listener without an address.
// It is made once, however many proxies bind it.
type Shape struct {
	Problems []*isthmusv1.Problem
	listener *listenerv3.Listener
	// named: somebody wrote the listener, and its name and address with it.
	named bool
	// closed: none of them is served, since an extension that is required is not applied.
	closed bool
	name   string
	// Version is equal for shapes of which the same listeners are made.
	Version string
}

// Shape makes the upstream's listener, but for where it is bound.
func (u *Upstream) Shape() *Shape {
	s := &Shape{name: u.name(), closed: u.outbound.extensions.closed, listener: &listenerv3.Listener{
		TrafficDirection:        core.TrafficDirection_OUTBOUND,
		AccessLog:               listenerLogs(u.outbound.accessLogs),
		ConnectionBalanceConfig: balance(u.route.GetConfig().GetBalanceOutboundConnections()),
	}}
	filter, problem := u.filter()
	s.Problems = problemsOf(problem)
	s.listener.FilterChains = []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{filter}}}
	if u.custom != "" {
		l, err := readListener(u.custom)
		if err != nil {
			s.Problems = append(s.Problems, invalidSetting("envoy_listener_json of upstream "+u.route.GetId(), err))
		} else {
			s.listener, s.named = l, true
		}
	}
	extend(s.listener, u.outbound.extensions.outbound)
	s.Version = version([]byte(s.name), []byte{0}, mustMarshal(s.listener))
	return s
}

// filter carries connections or requests to where the upstream leads.
func (u *Upstream) filter() (*listenerv3.Filter, *isthmusv1.Problem) {
	logs := requestLogs(u.outbound.accessLogs)
	if !isHTTP(u.route.GetProtocol()) {
		return filter("envoy.filters.network.tcp_proxy", &tcpproxy.TcpProxy{
			StatPrefix: u.stat(), ClusterSpecifier: &tcpproxy.TcpProxy_Cluster{Cluster: u.cluster}, AccessLog: logs,
		}), nil
	}
	m, problem := httpManager{
		stat: u.stat(), protocol: u.route.GetProtocol(), logs: logs,
		tracing: u.outbound.tracing, maxHeadersKB: u.outbound.maxHeadersKB,
	}.build()
	if u.Routes != nil {
		m.RouteSpecifier = routesByName(u.Routes.Name, u.outbound.fetchTimeout)
	} else {
		m.RouteSpecifier = oneRoute(u.name(), u.fullName(), anyRequest(), toCluster(u.cluster))
	}
	return managerFilter(m), problem
}

// stat begins the names of stats, in which Envoy has no colons (Consul makeStatPrefix).
func (u *Upstream) stat() string { return "upstream." + strings.ReplaceAll(u.fullName(), ":", "_") }

// fullName is SERVICE.NAMESPACE.PARTITION.DATACENTER, as in the names of stats, and of a
// prepared query what its listener is called.
func (u *Upstream) fullName() string {
	if u.query() {
		return u.name()
	}
	d := u.route.GetDestination()
	return fmt.Sprintf("%s.%s.%s.%s", d.GetName(), orDefault(d.GetNamespace()), orDefault(d.GetPartition()), u.route.GetDatacenter())
}

// Bound is the listener of a shape where a proxy binds it. A bind that is none is stated,
// and there is no listener; there is none either where the extensions of the proxy forbid it.
func (s *Shape) Bound(bind *isthmusv1.Bind) (*Resource, *isthmusv1.Problem) {
	if s.closed {
		return nil, nil
	}
	if s.named {
		return pack(s.listener), nil
	}
	l := proto.CloneOf(s.listener)
	if path := bind.GetSocketPath(); path != "" {
		at, err := pipeOf(path, bind.GetSocketMode())
		if err != nil {
			return nil, leftOut("the socket of upstream "+bind.GetRoute(), err)
		}
		l.Name, l.Address = s.name+":"+path, at
		return pack(l), nil
	}
	address := cmp.Or(bind.GetAddress(), loopback)
	at, err := listening(address, bind.GetPort())
	if err != nil {
		return nil, leftOut("the address of upstream "+bind.GetRoute(), err)
	}
	l.Name, l.Address = ListenerName(s.name, address, bind.GetPort()), at
	return pack(l), nil
}

// balance spreads connections over threads exactly, where that is asked for.
func balance(how string) *listenerv3.Listener_ConnectionBalanceConfig {
	if how != "exact_balance" {
		return nil
	}
	return &listenerv3.Listener_ConnectionBalanceConfig{BalanceType: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance_{
		ExactBalance: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance{},
	}}
}

package resource

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	connectionlimit "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	httpmanager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const publicListener = "public_listener"

// Public is what callers of a proxy's service meet: its public listener, the listeners of
// exposed paths, and the clusters of the application (Consul agent/xds/listeners.go,
// makeInboundListener). in is nil while nothing is known of who may call: nobody may.
func Public(p *isthmusv1.ProxyRoutes, in *isthmusv1.Inbound) (resources []*Resource, problems []*isthmusv1.Problem) {
	b := &publicBuilder{proxy: p, inbound: in, config: configOf(p), extensions: extensionsOf(p)}
	b.state(tlsProblem("Incoming", p.GetTlsIncoming()))
	local, problem := localCluster(p, b.config)
	b.state(problem)
	b.out = append(b.out, local)
	b.problems = append(b.problems, b.extensions.problems...)
	if !b.extensions.closed {
		b.listener()
		b.exposed()
	}
	return b.out, b.problems
}

type publicBuilder struct {
	proxy   *isthmusv1.ProxyRoutes
	inbound *isthmusv1.Inbound
	config  config
	// extensions are what somebody adds to listeners.
	extensions *extensions

	out      []*Resource
	problems []*isthmusv1.Problem
}

func (b *publicBuilder) state(p *isthmusv1.Problem) {
	b.problems = append(b.problems, problemsOf(p)...)
}

func (b *publicBuilder) protocol() string { return b.proxy.GetLocal().GetProtocol() }

func (b *publicBuilder) listener() {
	p := b.proxy
	if p.GetAddress() == "" || p.GetPort() == 0 || p.GetPort() > maxPort {
		b.state(invalidSetting("the address of proxy "+p.GetId(), fmt.Errorf("callers cannot connect: %s:%d is none", p.GetAddress(), p.GetPort())))
		return
	}
	if text := b.config.text("envoy_public_listener_json"); text != "" {
		if l := b.custom(text); l != nil {
			extend(l, b.extensions.inbound)
			b.out = append(b.out, pack(l))
			return
		}
	}
	chain := &listenerv3.FilterChain{TransportSocket: publicTLS(b.protocol(), p.GetTlsIncoming())}
	// Who is not let in does not count (Consul, injectConnectFilters).
	if !isHTTP(b.protocol()) {
		chain.Filters = append(chain.Filters, networkIntentions(b.inbound))
	}
	if n := p.GetLocal().GetMaxInboundConnections(); n > 0 {
		chain.Filters = append(chain.Filters, filter("envoy.filters.network.connection_limit", &connectionlimit.ConnectionLimit{
			StatPrefix: "inbound_connection_limit", MaxConnections: wrapperspb.UInt64(uint64(n)),
		}))
	}
	if isHTTP(b.protocol()) {
		chain.Filters = append(chain.Filters, b.requests())
	} else {
		chain.Filters = append(chain.Filters, filter("envoy.filters.network.tcp_proxy", &tcpproxy.TcpProxy{
			StatPrefix: publicListener, ClusterSpecifier: &tcpproxy.TcpProxy_Cluster{Cluster: localApp}, AccessLog: requestLogs(p.GetAccessLogs()),
		}))
	}
	l := &listenerv3.Listener{
		Name: ListenerName(publicListener, p.GetAddress(), p.GetPort()), Address: socket(p.GetAddress(), p.GetPort()),
		TrafficDirection: core.TrafficDirection_INBOUND, FilterChains: []*listenerv3.FilterChain{chain},
		AccessLog: listenerLogs(p.GetAccessLogs()), ConnectionBalanceConfig: balance(p.GetLocal().GetBalanceInboundConnections()),
	}
	extend(l, b.extensions.inbound)
	b.out = append(b.out, pack(l))
}

// requests judges each request, and passes it on with what the caller's certificate says.
func (b *publicBuilder) requests() *listenerv3.Filter {
	before := []*httpmanager.HttpFilter{httpIntentions(b.inbound)}
	forwards := b.protocol() != protocolGRPC && !b.proxy.GetSanitizeXForwardedClientCert()
	if forwards {
		before = append(before, clientMetadata())
	}
	m, problem := httpManager{
		stat: publicListener, protocol: b.protocol(), logs: requestLogs(b.proxy.GetAccessLogs()),
		tracing: b.config.text("envoy_listener_tracing_json"), maxHeadersKB: b.config.number("max_request_headers_kb"), before: before,
	}.build()
	b.state(problem)
	if forwards { // Else Envoy takes away what a caller says of itself.
		forwardCaller(m)
	}
	b.normalize(m)
	to := toCluster(localApp)
	to.Timeout = milliseconds(b.proxy.GetLocal().GetRequestTimeoutMs())
	to.IdleTimeout = b.config.milliseconds("local_idle_timeout_ms")
	m.RouteSpecifier = oneRoute(publicListener, publicListener, anyRequest(), to)
	return managerFilter(m)
}

// normalize has intentions see a request as the application will: paths in one spelling,
// unless that was switched off, and what else the mesh entry asks for.
func (b *publicBuilder) normalize(m *httpmanager.HttpConnectionManager) {
	n := b.proxy.GetRequestNormalization()
	m.NormalizePath = wrapperspb.Bool(!n.GetInsecureDisablePathNormalization())
	m.MergeSlashes = n.GetMergeSlashes()
	if action, ok := httpmanager.HttpConnectionManager_PathWithEscapedSlashesAction_value[n.GetPathWithEscapedSlashesAction()]; ok {
		m.PathWithEscapedSlashesAction = httpmanager.HttpConnectionManager_PathWithEscapedSlashesAction(action)
	}
	if action, ok := core.HttpProtocolOptions_HeadersWithUnderscoresAction_value[n.GetHeadersWithUnderscoresAction()]; ok && action != 0 {
		m.CommonHttpProtocolOptions = &core.HttpProtocolOptions{HeadersWithUnderscoresAction: core.HttpProtocolOptions_HeadersWithUnderscoresAction(action)}
	}
}

// forwardCaller adds the caller's certificate to those of the callers before it.
func forwardCaller(m *httpmanager.HttpConnectionManager) {
	m.ForwardClientCertDetails = httpmanager.HttpConnectionManager_APPEND_FORWARD
	m.SetCurrentClientCertDetails = &httpmanager.HttpConnectionManager_SetCurrentClientCertDetails{
		Subject: wrapperspb.Bool(true), Cert: true, Chain: true, Dns: true, Uri: true,
	}
}

// custom is a listener that somebody wrote, which gets our TLS and intentions.
func (b *publicBuilder) custom(text string) *listenerv3.Listener {
	l, err := readListener(text)
	if err == nil {
		err = b.guard(l)
	}
	if err != nil {
		b.state(invalidSetting("envoy_public_listener_json", err))
		return nil
	}
	return l
}

// guard puts intentions and TLS into every filter chain of a listener.
func (b *publicBuilder) guard(l *listenerv3.Listener) error {
	if l.GetDefaultFilterChain() != nil {
		return b.guardChain(l.GetDefaultFilterChain())
	}
	for _, chain := range l.GetFilterChains() {
		if err := b.guardChain(chain); err != nil {
			return err
		}
	}
	return nil
}

func (b *publicBuilder) guardChain(chain *listenerv3.FilterChain) error {
	chain.TransportSocket = publicTLS(b.protocol(), b.proxy.GetTlsIncoming())
	if !isHTTP(b.protocol()) {
		chain.Filters = append([]*listenerv3.Filter{networkIntentions(b.inbound)}, chain.GetFilters()...)
		return nil
	}
	for _, f := range chain.GetFilters() {
		m := &httpmanager.HttpConnectionManager{}
		if !f.GetTypedConfig().MessageIs(m) {
			continue
		}
		if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
			return err
		}
		m.HttpFilters = append([]*httpmanager.HttpFilter{httpIntentions(b.inbound)}, m.GetHttpFilters()...)
		f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed(m)}
		return nil
	}
	return fmt.Errorf("a filter chain has no http_connection_manager, and the protocol is %s: nothing would judge its requests", b.protocol())
}

// exposed are paths that are served without TLS, for health checks.
func (b *publicBuilder) exposed() {
	for _, path := range b.proxy.GetExpose().GetPaths() {
		if path.GetListenerPort() == 0 || path.GetListenerPort() > maxPort {
			b.state(invalidSetting("expose.paths of "+b.proxy.GetId(), fmt.Errorf("listener_port %d is none", path.GetListenerPort())))
			continue
		}
		name := unspecial(path.GetPath())
		cluster := b.exposedCluster(path)
		m, _ := httpManager{stat: fmt.Sprintf("exposed_path_filter_%s_%d", name, path.GetListenerPort()), protocol: path.GetProtocol(), logs: requestLogs(b.proxy.GetAccessLogs())}.build()
		m.RouteSpecifier = oneRoute(m.GetStatPrefix(), m.GetStatPrefix(),
			&routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: path.GetPath()}}, toCluster(cluster))
		l := &listenerv3.Listener{
			Name:    ListenerName("exposed_path_"+name, b.proxy.GetAddress(), path.GetListenerPort()),
			Address: socket(b.proxy.GetAddress(), path.GetListenerPort()), TrafficDirection: core.TrafficDirection_INBOUND,
			FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{managerFilter(m)}}},
			AccessLog:    listenerLogs(b.proxy.GetAccessLogs()),
		}
		extend(l, b.extensions.outbound)
		b.out = append(b.out, pack(l))
	}
}

// exposedCluster is where an exposed path leads: the application's port, or another.
func (b *publicBuilder) exposedCluster(path *isthmusv1.ExposePath) string {
	if path.GetLocalPathPort() == 0 || path.GetLocalPathPort() == b.proxy.GetLocalServicePort() {
		return localApp
	}
	name := fmt.Sprintf("exposed_cluster_%d", path.GetLocalPathPort())
	for _, r := range b.out {
		if r.Type == Cluster && r.Name == name {
			return name
		}
	}
	b.out = append(b.out, pack(application(name, socket(cmp.Or(b.proxy.GetLocalServiceAddress(), loopback), path.GetLocalPathPort()),
		&isthmusv1.Local{Protocol: path.GetProtocol(), ConnectTimeoutMs: b.proxy.GetLocal().GetConnectTimeoutMs()})))
	return name
}

// unspecial leaves letters and digits of a path (Consul makeExposedCheckListener).
func unspecial(path string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return -1
	}, path)
}

package resource

import (
	"errors"
	"fmt"
	"slices"
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
	if local != nil {
		b.out = append(b.out, local)
	}
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
	if text := b.config.text("envoy_public_listener_json"); text != "" {
		if l := b.custom(text); l != nil {
			extend(l, b.extensions.inbound)
			b.out = append(b.out, pack(l))
			return
		}
	}
	at, err := listening(p.GetAddress(), p.GetPort())
	if err != nil {
		b.state(leftOut("the address of proxy "+p.GetId(), err))
		return
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
		Name: ListenerName(publicListener, p.GetAddress(), p.GetPort()), Address: at,
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
		tracing: b.config.text("envoy_listener_tracing_json"), maxHeadersKB: b.config.maxHeadersKB(), before: before,
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

// errNoChain indicates a listener that passes nothing on.
var errNoChain = errors.New("it has no filter chain")

// guard puts intentions and TLS into every filter chain of a listener.
func (b *publicBuilder) guard(l *listenerv3.Listener) error {
	chains := slices.Clone(l.GetFilterChains())
	if last := l.GetDefaultFilterChain(); last != nil {
		chains = append(chains, last)
	}
	if len(chains) == 0 {
		return errNoChain
	}
	for _, chain := range chains {
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
		at, err := listening(b.proxy.GetAddress(), path.GetListenerPort())
		if err != nil {
			b.state(leftOut("expose.paths of "+b.proxy.GetId(), err))
			continue
		}
		name := unspecial(path.GetPath())
		cluster, err := b.exposedCluster(path)
		if err != nil {
			b.state(leftOut("expose.paths of "+b.proxy.GetId(), err))
			continue
		}
		m, _ := httpManager{stat: fmt.Sprintf("exposed_path_filter_%s_%d", name, path.GetListenerPort()), protocol: path.GetProtocol(), logs: requestLogs(b.proxy.GetAccessLogs())}.build()
		m.RouteSpecifier = oneRoute(m.GetStatPrefix(), m.GetStatPrefix(),
			&routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: path.GetPath()}}, toCluster(cluster))
		l := &listenerv3.Listener{
			Name:    ListenerName("exposed_path_"+name, b.proxy.GetAddress(), path.GetListenerPort()),
			Address: at, TrafficDirection: core.TrafficDirection_INBOUND,
			FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{managerFilter(m)}}},
			AccessLog:    listenerLogs(b.proxy.GetAccessLogs()),
		}
		extend(l, b.extensions.outbound)
		b.out = append(b.out, pack(l))
	}
}

// exposedCluster is where an exposed path leads: the application's port, or another.
func (b *publicBuilder) exposedCluster(path *isthmusv1.ExposePath) (string, error) {
	if path.GetLocalPathPort() == 0 || path.GetLocalPathPort() == b.proxy.GetLocalServicePort() {
		return localApp, nil
	}
	name := fmt.Sprintf("exposed_cluster_%d", path.GetLocalPathPort())
	if slices.ContainsFunc(b.out, func(r *Resource) bool { return r.Type == Cluster && r.Name == name }) {
		return name, nil
	}
	at, err := local(b.proxy, path.GetLocalPathPort())
	if err != nil {
		return "", err
	}
	b.out = append(b.out, pack(application(name, at, &isthmusv1.Local{Protocol: path.GetProtocol(), ConnectTimeoutMs: b.proxy.GetLocal().GetConnectTimeoutMs()})))
	return name, nil
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

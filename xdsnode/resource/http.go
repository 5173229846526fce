package resource

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	grpcbridge "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_http1_bridge/v3"
	grpcstats "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	headermetadata "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	httpmanager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// httpManager is what carries requests of a listener.
type httpManager struct {
	stat, protocol string
	logs           []*accesslogv3.AccessLog
	// tracing is somebody's own, as JSON; empty: none.
	tracing      string
	maxHeadersKB uint32
	// before is what stands before the router.
	before []*httpmanager.HttpFilter
}

// build makes the filter (Consul agent/xds/listeners.go, makeHTTPFilter), for routes that
// the caller sets.
func (m httpManager) build() (*httpmanager.HttpConnectionManager, *isthmusv1.Problem) {
	out := &httpmanager.HttpConnectionManager{
		StatPrefix: m.stat, AccessLog: m.logs,
		Tracing:             &httpmanager.HttpConnectionManager_Tracing{RandomSampling: &typev3.Percent{}},
		UpgradeConfigs:      []*httpmanager.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		MaxRequestHeadersKb: positive(m.maxHeadersKB),
	}
	if isHTTP2(m.protocol) {
		out.Http2ProtocolOptions = &core.Http2ProtocolOptions{}
	}
	if m.protocol == protocolGRPC {
		out.HttpFilters = append(out.HttpFilters,
			httpFilter("envoy.filters.http.grpc_stats", &grpcstats.FilterConfig{
				PerMethodStatSpecifier: &grpcstats.FilterConfig_StatsForAllMethods{StatsForAllMethods: wrapperspb.Bool(true)},
			}),
			httpFilter("envoy.filters.http.grpc_http1_bridge", &grpcbridge.Config{}))
	}
	out.HttpFilters = append(out.HttpFilters, m.before...)
	out.HttpFilters = append(out.HttpFilters, httpFilter(routerFilter, &router.Router{}))
	if m.tracing == "" {
		return out, nil
	}
	tracing, err := readTracing(m.tracing)
	if err != nil {
		return out, invalidSetting("envoy_listener_tracing_json", err)
	}
	out.Tracing = tracing
	return out, nil
}

func managerFilter(m *httpmanager.HttpConnectionManager) *listenerv3.Filter {
	return filter("envoy.filters.network.http_connection_manager", m)
}

// oneRoute leads all requests of a match to one cluster.
func oneRoute(name, host string, match *routev3.RouteMatch, action *routev3.RouteAction) *httpmanager.HttpConnectionManager_RouteConfig {
	return &httpmanager.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
		Name: name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name: host, Domains: []string{"*"},
			Routes: []*routev3.Route{{Match: match, Action: &routev3.Route_Route{Route: action}}},
		}},
	}}
}

func toCluster(name string) *routev3.RouteAction {
	return &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: name}}
}

// routesByName has the routes come by themselves.
func routesByName(name string, timeout *durationpb.Duration) *httpmanager.HttpConnectionManager_Rds {
	return &httpmanager.HttpConnectionManager_Rds{Rds: &httpmanager.Rds{ConfigSource: byADS(timeout), RouteConfigName: name}}
}

// The parts of a SPIFFE ID in a forwarded client certificate, as Consul's Envoys give
// them to filters and logs in metadata of the namespace consul.
const clientCertificateHeader = "x-forwarded-client-cert"

var clientCertificateParts = []struct{ key, group string }{
	{"trust-domain", `\1`}, {"partition", `\2`}, {"namespace", `\3`}, {"datacenter", `\4`}, {"service", `\5`},
}

// clientCertificatePattern takes a header with an ID apart: trust domain, partition if
// any, namespace, datacenter, service.
const clientCertificatePattern = `.*URI=spiffe://` + `([^/]+.[^/]+)` + `(?:/ap/([^/]+))?` + `/ns/([^/]+)` + `/dc/([^/]+)` + `/svc/([^/;,]+)` + `.*`

// clientMetadata gives the parts to whoever reads metadata.
func clientMetadata() *httpmanager.HttpFilter {
	config := &headermetadata.Config{}
	for _, part := range clientCertificateParts {
		config.RequestRules = append(config.RequestRules, &headermetadata.Config_Rule{
			Header: clientCertificateHeader,
			OnHeaderPresent: &headermetadata.Config_KeyValuePair{
				MetadataNamespace: "consul", Key: part.key,
				RegexValueRewrite: &matcherv3.RegexMatchAndSubstitute{
					Pattern: &matcherv3.RegexMatcher{Regex: clientCertificatePattern}, Substitution: part.group,
				},
			},
		})
	}
	return httpFilter("envoy.filters.http.header_to_metadata", config)
}

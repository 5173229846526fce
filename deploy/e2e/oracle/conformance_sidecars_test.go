package oracle_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// carried is a sidecar of dc1 that this machine can bind, and what bears on it.
type carried struct {
	name string
	// config is the proxy's opaque config, and mode its mesh gateway mode.
	config object
	mode   string
	// upstreams are the registration's, without addresses.
	upstreams []object
	// entries bear on it; SELF in their names stands for the service's own.
	entries     []written
	here, there []instance
	// noAddress: the registration has none. socket is where the application listens.
	noAddress bool
	socket    string
	conforming
}

// playAll compares sidecars; from is the first of the ports that they bind.
func (c *conformance) playAll(t *testing.T, part string, from int, sidecars []carried) {
	t.Helper()
	for i := range sidecars {
		s := &sidecars[i]
		port := from + 10*i
		service := fmt.Sprintf("%s-%d", part, i)
		proxy := object{"DestinationServiceName": service, "LocalServicePort": 8080, "Config": s.config}
		var upstreams []object
		for j, u := range s.upstreams {
			u = maps.Clone(u)
			if u["LocalBindSocketPath"] == nil {
				u["LocalBindAddress"], u["LocalBindPort"] = c.host.String(), port+1+j
			}
			upstreams = append(upstreams, u)
		}
		proxy["Upstreams"] = upstreams
		if s.mode != "" {
			proxy["MeshGateway"] = mode(s.mode)
		}
		for _, e := range s.entries {
			if e.name == self {
				e.name = service
			}
			c.entry(t, e.kind, e.name, e.fields)
		}
		for _, i := range s.there {
			i.agent, i.node = c.dc2, "dc2-node"
			i.register(t)
		}
		for _, i := range s.here {
			i.agent, i.node = c.dc1, "dc1-node"
			i.register(t)
		}
		s.proxy = instance{agent: c.dc1, id: service + "-proxy", fields: object{
			"Name": service + "-proxy", "Kind": "connect-proxy", "Address": c.host.String(), "Port": port, "Proxy": proxy,
		}}
		if s.noAddress {
			delete(s.proxy.fields, "Address")
		}
		if s.socket != "" {
			proxy["LocalServiceSocketPath"] = s.socket
			delete(proxy, "LocalServicePort")
		}
		s.proxy.register(t)
		s.listeners = 1 + len(s.upstreams)
	}
	for _, s := range sidecars {
		t.Run(s.name, func(t *testing.T) {
			c.agree(t, s.conforming)
			s.proxy.deregister(t)
		})
	}
}

// exactSource is a row that a case alone knows: resources do not tell which intentions
// they were made of.
const exactSource = "An exact source and any destination"

// self stands for the name of a sidecar's own service.
const self = "SELF"

// sidecars compares sidecars of dc1.
func (c *conformance) sidecars(t *testing.T) {
	for _, g := range c.theGateways() {
		g.register(t)
	}
	c.playAll(t, "tcp", 21000, c.overTCP())
	c.playAll(t, "http", 22000, c.sidecarsOverHTTP())
	c.playAll(t, "hatch", 23000, c.hatches())
	c.entry(t, "proxy-defaults", "global", object{"AccessLogs": object{"Enabled": true, "Type": "file", "Path": "/dev/null", "TextFormat": "%START_TIME%"}})
	send(t, c.dc1, http.MethodPut, "/v1/config", object{
		"Kind": "mesh", "TLS": object{
			"Incoming": object{"TLSMinVersion": "TLSv1_2", "TLSMaxVersion": "TLSv1_3", "CipherSuites": []string{"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}},
			"Outgoing": object{"TLSMinVersion": "TLSv1_3"},
		},
		"HTTP": object{"SanitizeXForwardedClientCert": true, "Incoming": object{"RequestNormalization": object{"MergeSlashes": true, "PathWithEscapedSlashesAction": "REJECT_REQUEST"}}},
	})
	c.playAll(t, "mesh", 24000, c.meshWide())
	c.entry(t, "proxy-defaults", "global", object{"AccessLogs": object{"Enabled": true, "JSONFormat": `{"p": "%PROTOCOL%"}`}})
	c.playAll(t, "logs", 24500, []carried{{name: "access logs in JSON", upstreams: []object{to("la-api")}}})
	c.entry(t, "proxy-defaults", "global", nil)
	send(t, c.dc1, http.MethodDelete, "/v1/config/mesh/mesh", nil)
	c.playAll(t, "place", 25000, c.places(t))
	c.entry(t, "service-intentions", "*", object{"Sources": []object{{"Name": "ex", "Action": "deny"}}})
	c.playAll(t, "exact", 28000, []carried{{
		name:    "an exact source and any destination",
		entries: []written{{"service-intentions", self, object{"Sources": []object{{"Name": "*", "Action": "allow"}}}}},
		conforming: conforming{
			meets: []string{exactSource},
			known: map[string]string{"filter_chains[any].filters[envoy.filters.network.rbac].typed_config.rules.policies": exactSource},
		},
	}})
	send(t, c.dc1, http.MethodDelete, "/v1/config/service-intentions/*", nil)
	c.gatewaysFail(t)
}

func (c *conformance) overTCP() []carried {
	return []carried{{
		name: "no upstreams",
	}, {
		name: "each mode", upstreams: []object{
			to("ta-api"), with(toDatacenter("tb-api", "dc2"), "MeshGateway", mode("none")),
			with(toDatacenter("tc-api", "dc2"), "MeshGateway", mode("local")), with(toDatacenter("td-api", "dc2"), "MeshGateway", mode("remote")),
		},
		here: one("ta-api", "11"), there: []instance{plain("tb-api", "12"), plain("tc-api", "13"), plain("td-api", "14")},
	}, {
		name: "no instances", upstreams: []object{to("te-api"), with(toDatacenter("te-api", "dc2"), "MeshGateway", mode("remote"))},
	}, {
		name: "health and weights", upstreams: []object{to("tf-api")}, here: []instance{
			plain("tf-api", "15").check("warning").with(object{"Weights": object{"Passing": 3, "Warning": 2}}),
			plain("tf-api", "16").check("critical").with(object{"Weights": object{"Passing": 3, "Warning": 2}}), plain("tf-api", "17"),
		},
	}, {
		name: "limits, timeouts and passive health checks",
		config: object{
			"local_connect_timeout_ms": 1500, "max_inbound_connections": 77, "balance_inbound_connections": "exact_balance",
		},
		upstreams: []object{with(to("tg-api"), "Config", object{
			"connect_timeout_ms": 2500, "balance_outbound_connections": "exact_balance",
			"limits":               object{"max_connections": 3, "max_pending_requests": 4, "max_concurrent_requests": 5},
			"passive_health_check": object{"interval": "21s", "max_failures": 6, "enforcing_consecutive_5xx": 99, "max_ejection_percent": 50, "base_ejection_time": "33s"},
		})},
		here: one("tg-api", "18"),
	}, {
		name: "failover to dc2", mode: "remote", upstreams: []object{to("th-api")}, here: one("th-api", "19"), there: one("th-api", "20"),
		entries: []written{{"service-resolver", "th-api", object{
			"ConnectTimeout": "4s", "Failover": object{"*": object{"Datacenters": []string{"dc2"}}},
		}}},
	}, {
		name: "a redirect to a subset of dc2", mode: "local", upstreams: []object{to("ti-api")},
		there: []instance{plain("ti-db", "21").with(object{"Meta": object{"version": "v1"}}), plain("ti-db", "22")},
		entries: []written{
			{"service-resolver", "ti-db", object{"Subsets": object{"v1": object{"Filter": "Service.Meta.version == v1"}}}},
			{"service-resolver", "ti-api", object{"Redirect": object{"Service": "ti-db", "ServiceSubset": "v1", "Datacenter": "dc2"}}},
		},
	}, {
		name: "two upstreams to one target", upstreams: []object{to("tj-api"), with(to("tj-db"), "MeshGateway", mode("local"))}, here: one("tj-db", "23"),
		entries: []written{{"service-resolver", "tj-api", object{"Redirect": object{"Service": "tj-db"}}}},
	}, {
		name: "intentions", conforming: conforming{meets: []string{compare.NamesOfCallers}}, entries: []written{{"service-intentions", self, object{"Sources": []object{
			{"Name": "ok", "Action": "allow"}, {"Name": "bad", "Action": "deny"}, {"Name": "*", "Action": "deny"},
		}}}},
	}}
}

func (c *conformance) sidecarsOverHTTP() []carried {
	routes := []object{{
		"Match":       object{"HTTP": object{"PathPrefix": "/admin", "Header": []object{{"Name": "x-debug", "Exact": "1"}}, "Methods": []string{"GET"}}},
		"Destination": object{"Service": "hc-admin", "PrefixRewrite": "/", "RequestTimeout": "7s", "NumRetries": 3, "RetryOnConnectFailure": true, "RetryOnStatusCodes": []int{503}},
	}, {
		"Match":       object{"HTTP": object{"PathExact": "/one", "QueryParam": []object{{"Name": "q", "Present": true}}}},
		"Destination": object{"Service": "hc-api", "ServiceSubset": "v1", "PrefixRewrite": "/", "RequestHeaders": object{"Add": object{"x-added": "a"}, "Remove": []string{"x-gone"}}},
	}}
	return []carried{{
		name: "http", config: object{"local_request_timeout_ms": 900, "local_idle_timeout_ms": 800, "max_request_headers_kb": 33},
		upstreams: []object{to("ha-api")}, here: one("ha-api", "31"), entries: overHTTP(self, "ha-api"),
	}, {
		name: "grpc and http2", upstreams: []object{to("hb-api"), toDatacenter("hb-db", "dc2")}, mode: "remote", here: one("hb-api", "32"), there: one("hb-db", "33"),
		entries: []written{
			{"service-defaults", self, object{"Protocol": "grpc"}}, {"service-defaults", "hb-api", object{"Protocol": "grpc"}},
			{"service-defaults", "hb-db", object{"Protocol": "http2"}},
		},
	}, {
		name: "a router, a splitter and failover to dc2", conforming: conforming{meets: []string{compare.RouteRewrite}}, mode: "remote", upstreams: []object{to("hc-api")},
		here:  []instance{plain("hc-api", "34").with(object{"Meta": object{"version": "v1"}}), plain("hc-admin", "35"), plain("hc-canary", "36")},
		there: one("hc-api", "37"),
		entries: append(overHTTP(self, "hc-api", "hc-admin", "hc-canary"),
			written{"service-resolver", "hc-api", object{
				"Subsets": object{"v1": object{"Filter": "Service.Meta.version == v1"}}, "Failover": object{"*": object{"Datacenters": []string{"dc2"}}},
				"RequestTimeout": "9s",
			}},
			written{"service-splitter", "hc-api", object{"Splits": []object{{"Weight": 90, "Service": "hc-api"}, {"Weight": 10, "Service": "hc-canary"}}}},
			written{"service-router", "hc-api", object{"Routes": routes}},
		),
	}, {
		name: "intentions with permissions", conforming: conforming{meets: []string{compare.NamesOfCallers}}, entries: append(overHTTP(self), written{"service-intentions", self, object{"Sources": []object{
			{"Name": "reader", "Permissions": []object{
				{"Action": "deny", "HTTP": object{"PathPrefix": "/secret"}},
				{"Action": "allow", "HTTP": object{"PathRegex": "/a.*", "Methods": []string{"GET"}, "Header": []object{{"Name": "x-h", "Prefix": "p", "Invert": true}}}},
			}},
			{"Name": "bad", "Action": "deny"},
		}}}),
	}, {
		name: "load balancers", upstreams: []object{to("hd-api"), to("he-api")}, here: []instance{plain("hd-api", "38"), plain("he-api", "39")},
		entries: append(overHTTP("hd-api", "he-api"),
			written{"service-resolver", "hd-api", object{"LoadBalancer": object{
				"Policy": "ring_hash", "RingHashConfig": object{"MinimumRingSize": 10, "MaximumRingSize": 100},
				"HashPolicies": []object{{"Field": "header", "FieldValue": "x-user", "Terminal": true}, {"Field": "cookie", "FieldValue": "c", "CookieConfig": object{"TTL": "12s", "Path": "/p"}}, {"SourceIP": true}},
			}}},
			written{"service-resolver", "he-api", object{"LoadBalancer": object{"Policy": "least_request", "LeastRequestConfig": object{"ChoiceCount": 4}}}},
		),
	}}
}

func (c *conformance) hatches() []carried {
	listener := fmt.Sprintf(`{"@type":"type.googleapis.com/envoy.config.listener.v3.Listener","name":"mine","address":{"socket_address":{"address":"%s","port_value":23999}},`+
		`"filter_chains":[{"filters":[{"name":"envoy.filters.network.tcp_proxy","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","stat_prefix":"mine","cluster":"local_app"}}]}]}`, c.host)
	cluster := func(name string) string {
		return `{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"` + name + `","type":"STATIC","connect_timeout":"3s","load_assignment":{"cluster_name":"` + name +
			`","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":9999}}}}]}]}}`
	}
	return []carried{{
		name:   "a listener and a cluster of one's own for callers",
		config: object{"envoy_public_listener_json": listener, "envoy_local_cluster_json": cluster("local_app")},
	}, {
		name: "a listener and a cluster of one's own for an upstream", upstreams: []object{
			with(to("ka-api"), "Config", object{"envoy_listener_json": strings.ReplaceAll(listener, "23999", "23998")}), with(to("kb-api"), "Config", object{"envoy_cluster_json": cluster("mine")}),
		},
		here: []instance{plain("ka-api", "41"), plain("kb-api", "42")},
	}, {
		name: "tracing", config: object{"protocol": "http", "envoy_listener_tracing_json": `{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing","client_sampling":{"value":11}}`},
		upstreams: []object{with(to("kc-api"), "Config", object{"protocol": "http"})}, here: one("kc-api", "43"),
	}, {
		name: "fetch timeout", config: object{"xds_fetch_timeout_ms": 4444}, upstreams: []object{to("kd-api")}, here: one("kd-api", "44"),
	}}
}

func (c *conformance) meshWide() []carried {
	return []carried{{
		name: "bounds of TLS, and access logs", upstreams: []object{to("ma-db")}, here: one("ma-db", "45"),
	}, {
		name: "http", upstreams: []object{to("mb-db")}, here: one("mb-db", "46"), entries: overHTTP(self, "mb-db"),
	}}
}

// places are sidecars that listen, or lead, where most do not.
func (c *conformance) places(t *testing.T) []carried {
	send(t, c.dc1, http.MethodPost, "/v1/query", object{"Name": "pq", "Service": object{"Service": "pa-api"}})
	return []carried{{
		name: "no address", noAddress: true, conforming: conforming{meets: []string{compare.CallersAddress}},
	}, {
		name: "an unknown datacenter", upstreams: []object{toDatacenter("pb-api", "dc9")},
		conforming: conforming{meets: []string{compare.UnknownDatacenter}, unloadable: true},
	}, {
		name: "an upstream at a socket", upstreams: []object{{"DestinationName": "pc-api", "LocalBindSocketPath": t.TempDir() + "/s", "LocalBindSocketMode": "0600"}},
		here: one("pc-api", "61"), conforming: conforming{unloadable: true},
	}, {
		name: "a prepared query", upstreams: []object{{"DestinationType": "prepared_query", "DestinationName": "pq"}}, here: one("pa-api", "62"),
	}, {
		name: "settings of entries", upstreams: []object{to("pd-api"), to("pe-api")}, here: []instance{plain("pd-api", "63"), plain("pe-api", "64")},
		entries: []written{
			{"service-defaults", "pe-api", object{"Protocol": "http", "ExternalSNI": "pe.example"}},
			{"service-defaults", self, object{
				"Protocol": "http", "LocalConnectTimeoutMs": 1100, "LocalRequestTimeoutMs": 1200, "MaxInboundConnections": 44, "BalanceInboundConnections": "exact_balance",
				"UpstreamConfig": object{
					"Defaults":  object{"ConnectTimeoutMs": 1300, "Limits": object{"MaxConnections": 55}},
					"Overrides": []object{{"Name": "pe-api", "PassiveHealthCheck": object{"MaxFailures": 9}, "BalanceOutboundConnections": "exact_balance"}},
				},
			}},
		},
	}, {
		name: "an application at a socket", socket: "/run/app.sock",
	}}
}

// with is an upstream with a field more.
func with(upstream object, field string, value any) object {
	out := maps.Clone(upstream)
	out[field] = value
	return out
}

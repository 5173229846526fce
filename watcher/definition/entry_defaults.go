package definition

import (
	"fmt"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// protocols are those that Consul and Envoy tell apart.
var protocols = []string{"grpc", "http", "http2", "tcp"}

// protocol reads a protocol. Consul takes any text and treats what it does not
// know as tcp, so an unknown one is a warning.
func (d *decoder) protocol(dst *string) func(cursor) {
	return func(c cursor) {
		d.lowered(dst)(c)
		if *dst == "" || slices.Contains(protocols, *dst) {
			return
		}
		fix := "use one of " + strings.Join(protocols, ", ")
		if near := suggest(*dst, protocols); near != "" {
			fix = fmt.Sprintf("did you mean %s?", near)
		}
		d.warn(c, fmt.Sprintf("protocol %q is not known and is treated as tcp", shorten(*dst)), fix)
	}
}

// proxyMode reads direct or transparent; transparent is not served.
func (d *decoder) proxyMode(dst *string) func(cursor) {
	return func(c cursor) {
		d.text(dst)(c)
		if *dst == "transparent" {
			d.warn(c, "transparent proxy mode is not supported", "define the upstreams of each proxy")
		}
	}
}

func (d *decoder) meshGateway(m *isthmusv1.MeshGateway) schema {
	return schema{"mode": d.text(&m.Mode)}
}

func (d *decoder) expose(e *isthmusv1.Expose) schema {
	return schema{
		"checks": d.flag(&e.Checks),
		"paths": list(d, &e.Paths, func(p *isthmusv1.ExposePath) schema {
			return schema{
				"listener_port": d.port(&p.ListenerPort), "path": d.text(&p.Path),
				"local_path_port": d.port(&p.LocalPathPort), "protocol": d.text(&p.Protocol),
				"parsed_from_check": accepted,
			}
		}),
	}
}

func (d *decoder) transparentProxy(t *isthmusv1.TransparentProxy) schema {
	return schema{"outbound_listener_port": d.port(&t.OutboundListenerPort), "dialed_directly": d.flag(&t.DialedDirectly)}
}

func (d *decoder) accessLogs(a *isthmusv1.AccessLogs) schema {
	return schema{
		"enabled": d.flag(&a.Enabled), "disable_listener_logs": d.flag(&a.DisableListenerLogs),
		"type": d.text(&a.Type), "path": d.text(&a.Path),
		"json_format": d.text(&a.JsonFormat), "text_format": d.text(&a.TextFormat),
	}
}

func (d *decoder) failoverPolicy(p *isthmusv1.FailoverPolicy) schema {
	return schema{"mode": d.text(&p.Mode), "regions": d.texts(&p.Regions)}
}

func (d *decoder) proxyDefaults(e *isthmusv1.ConfigEntry) schema {
	p := &isthmusv1.ProxyDefaults{}
	e.Entry = &isthmusv1.ConfigEntry_ProxyDefaults{ProxyDefaults: p}
	return schema{
		"config":                 d.opaqueObject(&p.ConfigJson),
		"mesh_gateway":           part(d, &p.MeshGateway, d.meshGateway),
		"mode":                   d.proxyMode(&p.Mode),
		"transparent_proxy":      part(d, &p.TransparentProxy, d.transparentProxy),
		"mutual_tls_mode":        d.text(&p.MutualTlsMode),
		"expose":                 part(d, &p.Expose, d.expose),
		"access_logs":            part(d, &p.AccessLogs, d.accessLogs),
		"envoy_extensions":       d.shaped(&p.EnvoyExtensionsJson, envoyExtensionsShape),
		"failover_policy":        part(d, &p.FailoverPolicy, d.failoverPolicy),
		"prioritize_by_locality": d.nested(schema{"mode": d.text(&p.PrioritizeByLocality)}),
	}
}

func (d *decoder) serviceDefaults(e *isthmusv1.ConfigEntry) schema {
	s := &isthmusv1.ServiceDefaults{}
	e.Entry = &isthmusv1.ConfigEntry_ServiceDefaults{ServiceDefaults: s}
	return schema{
		"protocol":          d.protocol(&s.Protocol),
		"mode":              d.proxyMode(&s.Mode),
		"transparent_proxy": part(d, &s.TransparentProxy, d.transparentProxy),
		"mutual_tls_mode":   d.text(&s.MutualTlsMode),
		"mesh_gateway":      part(d, &s.MeshGateway, d.meshGateway),
		"expose":            part(d, &s.Expose, d.expose),
		"external_sni":      d.text(&s.ExternalSni),
		"upstream_config": d.nested(schema{
			"overrides": list(d, &s.UpstreamOverrides, d.upstreamConfig),
			"defaults":  whole(d, &s.UpstreamDefaults, d.upstreamConfig),
		}),
		"destination":                 d.shaped(&s.DestinationJson, destinationShape),
		"max_inbound_connections":     d.number(&s.MaxInboundConnections),
		"local_connect_timeout_ms":    d.number(&s.LocalConnectTimeoutMs),
		"local_request_timeout_ms":    d.number(&s.LocalRequestTimeoutMs),
		"balance_inbound_connections": d.text(&s.BalanceInboundConnections),
		"rate_limits":                 d.shaped(&s.RateLimitsJson, rateLimitsShape),
		"envoy_extensions":            d.shaped(&s.EnvoyExtensionsJson, envoyExtensionsShape),
	}
}

func (d *decoder) upstreamConfig(u *isthmusv1.UpstreamConfig) schema {
	return schema{
		"name":                         d.text(&u.Name),
		"namespace":                    d.text(&u.Namespace),
		"partition":                    d.text(&u.Partition),
		"peer":                         d.peer(&u.Peer),
		"envoy_listener_json":          d.text(&u.EnvoyListenerJson),
		"envoy_cluster_json":           d.text(&u.EnvoyClusterJson),
		"protocol":                     d.protocol(&u.Protocol),
		"connect_timeout_ms":           d.number(&u.ConnectTimeoutMs),
		"limits":                       whole(d, &u.Limits, d.limits),
		"passive_health_check":         whole(d, &u.PassiveHealthCheck, d.passiveHealthCheck),
		"mesh_gateway":                 part(d, &u.MeshGateway, d.meshGateway),
		"balance_outbound_connections": d.text(&u.BalanceOutboundConnections),
	}
}

func (d *decoder) limits(l *isthmusv1.UpstreamLimits) schema {
	return schema{
		"max_connections":         d.optional(&l.MaxConnections),
		"max_pending_requests":    d.optional(&l.MaxPendingRequests),
		"max_concurrent_requests": d.optional(&l.MaxConcurrentRequests),
	}
}

func (d *decoder) passiveHealthCheck(p *isthmusv1.PassiveHealthCheck) schema {
	return schema{
		"interval":                  d.duration(&p.Interval),
		"max_failures":              d.number(&p.MaxFailures),
		"enforcing_consecutive_5xx": d.optional(&p.EnforcingConsecutive_5Xx),
		"max_ejection_percent":      d.optional(&p.MaxEjectionPercent),
		"base_ejection_time":        d.duration(&p.BaseEjectionTime),
	}
}

// peer reads the name of a cluster peer, which is kept and not served.
func (d *decoder) peer(dst *string) func(cursor) {
	return d.unsupportedName(dst, "cluster peering is not supported", "name a datacenter instead")
}

func (d *decoder) samenessGroup(dst *string) func(cursor) {
	return d.unsupportedName(dst, "sameness groups are not supported", "name the targets one by one")
}

func (d *decoder) unsupportedName(dst *string, problem, fix string) func(cursor) {
	return func(c cursor) {
		d.text(dst)(c)
		if *dst != "" {
			d.warn(c, problem, fix)
		}
	}
}

func (d *decoder) mesh(e *isthmusv1.ConfigEntry) schema {
	m := &isthmusv1.Mesh{}
	e.Entry = &isthmusv1.ConfigEntry_Mesh{Mesh: m}
	tls := func(t *isthmusv1.MeshTLS) schema {
		return schema{
			"tls_min_version": d.text(&t.TlsMinVersion), "tls_max_version": d.text(&t.TlsMaxVersion),
			"cipher_suites": d.texts(&t.CipherSuites),
		}
	}
	return schema{
		"transparent_proxy":                    d.nested(schema{"mesh_destinations_only": d.flag(&m.TransparentProxyMeshDestinationsOnly)}),
		"allow_enabling_permissive_mutual_tls": d.flag(&m.AllowEnablingPermissiveMutualTls),
		"tls": d.nested(schema{
			"incoming": part(d, &m.TlsIncoming, tls), "outgoing": part(d, &m.TlsOutgoing, tls),
		}),
		"http": d.nested(schema{
			"sanitize_x_forwarded_client_cert": d.flag(&m.SanitizeXForwardedClientCert),
			"incoming":                         d.nested(schema{"request_normalization": part(d, &m.RequestNormalization, d.requestNormalization)}),
		}),
		"peering":           d.nested(schema{"peer_through_mesh_gateways": d.flag(&m.PeerThroughMeshGateways)}),
		"validate_clusters": d.flag(&m.ValidateClusters),
	}
}

func (d *decoder) requestNormalization(n *isthmusv1.RequestNormalization) schema {
	return schema{
		"insecure_disable_path_normalization": d.flag(&n.InsecureDisablePathNormalization),
		"merge_slashes":                       d.flag(&n.MergeSlashes),
		"path_with_escaped_slashes_action":    d.text(&n.PathWithEscapedSlashesAction),
		"headers_with_underscores_action":     d.text(&n.HeadersWithUnderscoresAction),
	}
}

func (d *decoder) exportedServices(e *isthmusv1.ConfigEntry) schema {
	x := &isthmusv1.ExportedServices{}
	e.Entry = &isthmusv1.ConfigEntry_ExportedServices{ExportedServices: x}
	consumer := func(c *isthmusv1.ServiceConsumer) schema {
		return schema{
			"partition": d.text(&c.Partition), "peer": d.peer(&c.Peer), "peer_name": d.peer(&c.Peer),
			"sameness_group": d.samenessGroup(&c.SamenessGroup),
		}
	}
	return schema{"services": list(d, &x.Services, func(s *isthmusv1.ExportedService) schema {
		return schema{
			"name": d.text(&s.Name), "namespace": d.text(&s.Namespace),
			"consumers": list(d, &s.Consumers, consumer),
		}
	})}
}

package resolver

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// upstreamConfig is what the source's service-defaults and the upstream's own
// opaque config come to: defaults, then the override, then the upstream, field
// by field. Modes are not in it; they are decided per target. Where an agent has
// merged all this into the upstream's own config, that is all that counts, as it
// is for Consul's proxies: an entry acts when it is merged, not before.
func upstreamConfig(sd *isthmusv1.ServiceDefaults, s *source, up *isthmusv1.Upstream, own opaque) *isthmusv1.UpstreamConfig {
	out := &isthmusv1.UpstreamConfig{}
	if !s.merged {
		overlay(out, sd.GetUpstreamDefaults())
		overlay(out, findOverride(sd, s, up))
	}
	overlay(out, fromOpaque(own))
	if proto.Equal(out, &isthmusv1.UpstreamConfig{}) {
		return nil
	}
	return out
}

// overlay takes over every field that is set.
func overlay(into, over *isthmusv1.UpstreamConfig) {
	into.EnvoyListenerJson = cmp.Or(over.GetEnvoyListenerJson(), into.GetEnvoyListenerJson())
	into.EnvoyClusterJson = cmp.Or(over.GetEnvoyClusterJson(), into.GetEnvoyClusterJson())
	into.Protocol = cmp.Or(over.GetProtocol(), into.GetProtocol())
	into.ConnectTimeoutMs = cmp.Or(over.GetConnectTimeoutMs(), into.GetConnectTimeoutMs())
	into.BalanceOutboundConnections = cmp.Or(over.GetBalanceOutboundConnections(), into.GetBalanceOutboundConnections())
	if over.GetLimits() != nil {
		into.Limits = over.GetLimits()
	}
	if over.GetPassiveHealthCheck() != nil {
		into.PassiveHealthCheck = over.GetPassiveHealthCheck()
	}
}

// fromOpaque reads the keys of an upstream's config that have a meaning here.
// They are spelled in several ways: people write max_connections, and Consul's
// merge MaxConnections.
func fromOpaque(o opaque) *isthmusv1.UpstreamConfig {
	o = o.named("envoy_listener_json", "envoy_cluster_json", "protocol", "connect_timeout_ms",
		"balance_outbound_connections", "limits", "passive_health_check")
	timeout, _ := o.number("connect_timeout_ms")
	return &isthmusv1.UpstreamConfig{
		EnvoyListenerJson:          jsonText(o["envoy_listener_json"]),
		EnvoyClusterJson:           jsonText(o["envoy_cluster_json"]),
		Protocol:                   o.text("protocol"),
		ConnectTimeoutMs:           timeout,
		BalanceOutboundConnections: o.text("balance_outbound_connections"),
		Limits:                     limitsOf(o.object("limits")),
		PassiveHealthCheck:         passiveHealthCheckOf(o.object("passive_health_check")),
	}
}

// jsonText is a value that is JSON in text, or was written as an object.
func jsonText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}

func limitsOf(o opaque) *isthmusv1.UpstreamLimits {
	if len(o) == 0 {
		return nil
	}
	o = o.named("max_connections", "max_pending_requests", "max_concurrent_requests")
	return &isthmusv1.UpstreamLimits{
		MaxConnections:        optional(o, "max_connections"),
		MaxPendingRequests:    optional(o, "max_pending_requests"),
		MaxConcurrentRequests: optional(o, "max_concurrent_requests"),
	}
}

func passiveHealthCheckOf(o opaque) *isthmusv1.PassiveHealthCheck {
	if len(o) == 0 {
		return nil
	}
	o = o.named("interval", "max_failures", "enforcing_consecutive_5xx", "max_ejection_percent", "base_ejection_time")
	failures, _ := o.number("max_failures")
	return &isthmusv1.PassiveHealthCheck{
		Interval:                 durationOf(o["interval"]),
		MaxFailures:              failures,
		EnforcingConsecutive_5Xx: optional(o, "enforcing_consecutive_5xx"),
		MaxEjectionPercent:       optional(o, "max_ejection_percent"),
		BaseEjectionTime:         durationOf(o["base_ejection_time"]),
	}
}

func optional(o opaque, key string) *uint32 {
	n, ok := o.number(key)
	if !ok {
		return nil
	}
	return &n
}

// durationOf reads a duration as Consul writes it: text like 10s, or
// nanoseconds.
func durationOf(v any) *durationpb.Duration {
	switch v := v.(type) {
	case string:
		if d, err := time.ParseDuration(v); err == nil && d > 0 {
			return durationpb.New(d)
		}
	case float64:
		if v > 0 && v < float64(1<<62) {
			return durationpb.New(time.Duration(v))
		}
	}
	return nil
}

// upstreamProtocol is the protocol that the source chose for an upstream; empty
// when the target's own counts.
func upstreamProtocol(c *isthmusv1.UpstreamConfig) string { return strings.ToLower(c.GetProtocol()) }

// upstreamTimeout is the connect timeout that the source chose for an upstream.
func upstreamTimeout(c *isthmusv1.UpstreamConfig) *durationpb.Duration {
	if c.GetConnectTimeoutMs() == 0 {
		return nil
	}
	return durationpb.New(time.Duration(c.GetConnectTimeoutMs()) * time.Millisecond)
}

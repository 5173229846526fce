package consul

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func meshGateway(m api.MeshGatewayConfig) *isthmusv1.MeshGateway {
	return unlessEmpty(&isthmusv1.MeshGateway{Mode: string(m.Mode)})
}

func expose(e api.ExposeConfig) *isthmusv1.Expose {
	out := &isthmusv1.Expose{Checks: e.Checks}
	for _, p := range e.Paths {
		out.Paths = append(out.Paths, &isthmusv1.ExposePath{
			ListenerPort: number(p.ListenerPort), Path: p.Path, LocalPathPort: number(p.LocalPathPort), Protocol: p.Protocol,
		})
	}
	return unlessEmpty(out)
}

func transparentProxy(t *api.TransparentProxyConfig) *isthmusv1.TransparentProxy {
	if t == nil {
		return nil
	}
	return unlessEmpty(&isthmusv1.TransparentProxy{OutboundListenerPort: number(t.OutboundListenerPort), DialedDirectly: t.DialedDirectly})
}

func accessLogs(a *api.AccessLogsConfig) *isthmusv1.AccessLogs {
	if a == nil {
		return nil
	}
	return unlessEmpty(&isthmusv1.AccessLogs{
		Enabled: a.Enabled, DisableListenerLogs: a.DisableListenerLogs, Type: string(a.Type), Path: a.Path,
		JsonFormat: a.JSONFormat, TextFormat: a.TextFormat,
	})
}

func extensions(list []api.EnvoyExtension) []byte {
	if len(list) == 0 {
		return nil
	}
	return respelledJSON(list, "arguments")
}

func upstreamConfig(u *api.UpstreamConfig) *isthmusv1.UpstreamConfig {
	if u == nil {
		return nil
	}
	return &isthmusv1.UpstreamConfig{
		Name: u.Name, Namespace: plainName(u.Namespace), Partition: plainName(u.Partition), Peer: u.Peer,
		EnvoyListenerJson: u.EnvoyListenerJSON, EnvoyClusterJson: u.EnvoyClusterJSON, Protocol: strings.ToLower(u.Protocol),
		ConnectTimeoutMs: number(u.ConnectTimeoutMs), Limits: limits(u.Limits), PassiveHealthCheck: passiveHealthCheck(u.PassiveHealthCheck),
		MeshGateway: meshGateway(u.MeshGateway), BalanceOutboundConnections: u.BalanceOutboundConnections,
	}
}

func limits(l *api.UpstreamLimits) *isthmusv1.UpstreamLimits {
	if l == nil {
		return nil
	}
	optional := func(n *int) *uint32 {
		if n == nil {
			return nil
		}
		return new(number(*n))
	}
	return &isthmusv1.UpstreamLimits{
		MaxConnections: optional(l.MaxConnections), MaxPendingRequests: optional(l.MaxPendingRequests),
		MaxConcurrentRequests: optional(l.MaxConcurrentRequests),
	}
}

func passiveHealthCheck(p *api.PassiveHealthCheck) *isthmusv1.PassiveHealthCheck {
	if p == nil {
		return nil
	}
	out := &isthmusv1.PassiveHealthCheck{
		Interval: duration(p.Interval), MaxFailures: p.MaxFailures,
		EnforcingConsecutive_5Xx: p.EnforcingConsecutive5xx, MaxEjectionPercent: p.MaxEjectionPercent,
	}
	if p.BaseEjectionTime != nil {
		out.BaseEjectionTime = durationpb.New(*p.BaseEjectionTime)
	}
	return out
}

// duration leaves out what is 0.
func duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func headerModifiers(h *api.HTTPHeaderModifiers) *isthmusv1.HeaderModifiers {
	if h == nil {
		return nil
	}
	return unlessEmpty(&isthmusv1.HeaderModifiers{Add: headerPairs(h.Add), Set: headerPairs(h.Set), Remove: h.Remove})
}

func headerPairs(m map[string]string) []*isthmusv1.HeaderPair {
	var out []*isthmusv1.HeaderPair
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, &isthmusv1.HeaderPair{Name: name, Value: m[name]})
	}
	return out
}

// hundredths is a splitter's weight, which Consul keeps as a float of percent
// with two digits.
func hundredths(weight float32) uint32 {
	if weight <= 0 {
		return 0
	}
	return uint32(math.Round(float64(weight) * 100))
}

func failoverPolicy(mode string, regions []string) *isthmusv1.FailoverPolicy {
	return unlessEmpty(&isthmusv1.FailoverPolicy{Mode: mode, Regions: regions})
}

// sortedBy sorts messages by what makes them differ.
func sortedBy[M any](list []M, key func(M) string) []M {
	slices.SortFunc(list, func(a, b M) int { return cmp.Compare(key(a), key(b)) })
	return list
}

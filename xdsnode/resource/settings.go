package resource

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// CodeInvalidSetting says that a setting of a proxy cannot be read; it is as if it were
// not set.
const CodeInvalidSetting = "INVALID_SETTING"

// Outbound is what all upstreams of a proxy have in common. Those of proxies with equal
// ones come to the same resources, but for where they listen.
type Outbound struct {
	tls              *isthmusv1.MeshTLS
	accessLogs       *isthmusv1.AccessLogs
	tracing          string
	maxHeadersKB     uint32
	fetchTimeout     *durationpb.Duration
	validateClusters bool
	extensions       *extensions
}

// OutboundOf reads it. key is equal for what comes to the same.
func OutboundOf(p *isthmusv1.ProxyRoutes) (o *Outbound, key string) {
	c := configOf(p)
	o = &Outbound{
		tls: p.GetTlsOutgoing(), accessLogs: p.GetAccessLogs(), tracing: c.text("envoy_listener_tracing_json"),
		maxHeadersKB: c.maxHeadersKB(), fetchTimeout: c.milliseconds("xds_fetch_timeout_ms"),
		validateClusters: p.GetValidateClusters(), extensions: extensionsOf(p),
	}
	return o, strings.Join([]string{
		string(mustMarshal(o.tls)), string(mustMarshal(o.accessLogs)), o.tracing,
		strconv.FormatUint(uint64(o.maxHeadersKB), 10), string(mustMarshal(o.fetchTimeout)),
		strconv.FormatBool(o.validateClusters), extensionsKey(o.extensions),
	}, "\x00")
}

// mustMarshal marshals what came by the log or is made here.
func mustMarshal(m proto.Message) []byte {
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("resource: %T: %v", m, err))
	}
	return out
}

// config is the opaque config of a proxy: what Consul calls proxy.config, and below it
// that of proxy-defaults.
type config map[string]any

func configOf(p *isthmusv1.ProxyRoutes) config {
	out := config{}
	for _, text := range [][]byte{p.GetProxyDefaultsConfigJson(), p.GetConfigJson()} {
		var object map[string]any
		if len(text) == 0 || json.Unmarshal(text, &object) != nil {
			continue // The model holds canonical JSON objects only.
		}
		for key, value := range object {
			out[strings.ToLower(key)] = value
		}
	}
	return out
}

// text is a value that is text, or JSON that was written as an object.
func (c config) text(key string) string {
	switch v := c[key].(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any:
		text, err := json.Marshal(v)
		if err == nil {
			return string(text)
		}
	}
	return ""
}

// number is a value that is a number, or text that is one (Consul decodes weakly).
func (c config) number(key string) uint32 {
	switch v := c[key].(type) {
	case float64:
		if v > 0 && v < 1<<32 {
			return uint32(v)
		}
	case string:
		if n, err := strconv.ParseUint(v, 0, 32); err == nil {
			return uint32(n)
		}
	}
	return 0
}

// milliseconds is a number of them; nil where there is none.
func (c config) milliseconds(key string) *durationpb.Duration { return milliseconds(c.number(key)) }

func milliseconds(n uint32) *durationpb.Duration {
	if n == 0 {
		return nil
	}
	return durationpb.New(time.Duration(n) * time.Millisecond)
}

func invalidSetting(what string, err error) *isthmusv1.Problem {
	return &isthmusv1.Problem{
		Code: CodeInvalidSetting, Severity: isthmusv1.Severity_SEVERITY_ERROR,
		Text: fmt.Sprintf("%s cannot be read, and is as if it were not set: %v", what, err), Fix: "correct " + what,
	}
}

// isHTTP reports whether a protocol is one of requests; isHTTP2 whether it is of many at
// a time.
func isHTTP(protocol string) bool  { return protocol == "http" || isHTTP2(protocol) }
func isHTTP2(protocol string) bool { return protocol == "http2" || protocol == protocolGRPC }

const protocolGRPC = "grpc"

// byADS is the one stream that all comes by. timeout is how long a cluster or listener
// is waited for what belongs to it; nil is Envoy's 15 s.
func byADS(timeout *durationpb.Duration) *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion: core.ApiVersion_V3, InitialFetchTimeout: timeout,
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
}

// mostHeadersKB is the largest limit of headers that an Envoy takes.
const mostHeadersKB = 8192

// maxHeadersKB is the limit of a request's headers.
func (c config) maxHeadersKB() uint32 { return min(c.number("max_request_headers_kb"), mostHeadersKB) }

// leftOut says that there is no such address, and so nobody listens or connects there.
func leftOut(what string, err error) *isthmusv1.Problem {
	return &isthmusv1.Problem{
		Code: CodeInvalidSetting, Severity: isthmusv1.Severity_SEVERITY_ERROR,
		Text: fmt.Sprintf("%s is left out, since no Envoy would take it: %v", what, err), Fix: "correct " + what,
	}
}

// orDefault names what Consul calls default where nothing is said.
func orDefault(name string) string { return cmp.Or(name, "default") }

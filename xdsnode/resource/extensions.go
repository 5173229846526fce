package resource

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	lua "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	httpmanager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// CodeExtension says that an Envoy extension of a proxy is not applied. If it is a
// required one, none of the proxy's listeners is served.
const CodeExtension = "EXTENSION_NOT_APPLIED"

// Extensions that Consul has built in (Consul api/config_entry.go). Of these, that of
// Lambda is one of upstreams behind terminating gateways, and does nothing to the proxies
// of its own service.
const (
	extensionLua              = "builtin/lua"
	extensionLambda           = "builtin/aws/lambda"
	extensionPropertyOverride = "builtin/property-override"
)

// The listeners that an extension is for.
const (
	extensionInbound  = "inbound"
	extensionOutbound = "outbound"
)

// extensions are what the Envoy extensions of a sidecar come to (Consul agent/xds/delta.go
// and agent/envoyextensions).
type extensions struct {
	// inbound stands before the router of the public listener, outbound before that of all
	// other listeners. Consul counts listeners of exposed paths among these.
	inbound, outbound []*httpmanager.HttpFilter
	// closed: one that is required is not applied. Consul then ends the proxy's stream, so
	// that a new Envoy has nothing; here nothing listens, since nobody knows which listener
	// would be the one without what protects it.
	closed   bool
	problems []*isthmusv1.Problem
}

// extension is one as it is written.
type extension struct {
	Name          string         `json:"name"`
	Required      any            `json:"required"`
	Arguments     map[string]any `json:"arguments"`
	ConsulVersion string         `json:"consul_version"`
	EnvoyVersion  string         `json:"envoy_version"`
}

// required reports whether the proxy must not be without it; so it is unless that is
// plainly denied.
func (e *extension) required() bool {
	switch v := e.Required.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return !strings.EqualFold(v, "false") && v != ""
	}
	return true
}

// argument is one that is text. Names of arguments are read without case, as Consul does.
func (e *extension) argument(name string) (string, error) {
	for key, value := range e.Arguments {
		if !strings.EqualFold(key, name) {
			continue
		}
		text, ok := value.(string)
		if !ok {
			return "", fmt.Errorf("its argument %s is no text", name)
		}
		return text, nil
	}
	return "", nil
}

// elsewhere reports whether it is for proxies of another kind, and does nothing to this
// one.
func (e *extension) elsewhere() bool {
	kind, err := e.argument("ProxyType")
	switch {
	case err != nil:
		return false
	case e.Name == extensionLambda:
		return true
	case e.Name == extensionLua:
		return kind == "api-gateway"
	}
	return e.Name == extensionPropertyOverride && kind == "terminating-gateway"
}

// extensionsOf reads those of a proxy.
func extensionsOf(p *isthmusv1.ProxyRoutes) *extensions {
	out := &extensions{}
	if len(p.GetEnvoyExtensionsJson()) == 0 {
		return out
	}
	var all []*extension
	if err := json.Unmarshal(p.GetEnvoyExtensionsJson(), &all); err != nil {
		out.refuse(p, &extension{Name: "of every name", Required: true}, errors.New("envoy_extensions is no list of extensions"))
		return out
	}
	for _, e := range all {
		if e == nil {
			continue // As nothing.
		}
		if e.elsewhere() {
			continue
		}
		if err := out.apply(e); err != nil {
			out.refuse(p, e, err)
		}
	}
	if len(out.inbound) > 0 && !isHTTP(p.GetLocal().GetProtocol()) {
		out.problems = append(out.problems, &isthmusv1.Problem{
			Code: CodeExtension, Severity: isthmusv1.Severity_SEVERITY_WARNING,
			Text: fmt.Sprintf("inbound scripts of %s do nothing, as they do nothing in Consul: its protocol is %s", p.GetId(), p.GetLocal().GetProtocol()),
			Fix:  "give the service a protocol of requests, or take the extension away",
		})
	}
	return out
}

// apply takes one up, or says why that cannot be.
func (x *extensions) apply(e *extension) error {
	if e.Name != extensionLua {
		return errors.New("it is not supported")
	}
	if e.ConsulVersion != "" || e.EnvoyVersion != "" {
		return errors.New("consul_version and envoy_version are not evaluated")
	}
	var values [3]string
	for i, name := range []string{"ProxyType", "Listener", "Script"} {
		var err error
		if values[i], err = e.argument(name); err != nil {
			return err
		}
	}
	kind, listener, script := values[0], values[1], values[2]
	switch {
	case kind != "" && kind != isthmusv1.InstanceKindProxy:
		return fmt.Errorf("its argument ProxyType is %q", kind)
	case script == "":
		return errors.New("it has no Script")
	}
	f := httpFilter("envoy.filters.http.lua", &lua.Lua{
		DefaultSourceCode: &core.DataSource{Specifier: &core.DataSource_InlineString{InlineString: script}},
	})
	switch listener {
	case extensionInbound:
		x.inbound = append(x.inbound, f)
	case extensionOutbound:
		x.outbound = append(x.outbound, f)
	default:
		return fmt.Errorf("its argument Listener is %q, and should be inbound or outbound", listener)
	}
	return nil
}

// refuse states one that is not applied.
func (x *extensions) refuse(p *isthmusv1.ProxyRoutes, e *extension, because error) {
	problem := &isthmusv1.Problem{
		Code: CodeExtension, Severity: isthmusv1.Severity_SEVERITY_WARNING,
		Text: fmt.Sprintf("the Envoy extension %s of %s is not applied: %v", e.Name, p.GetId(), because),
		Fix:  "take it away, or let Consul serve this proxy",
	}
	if e.required() {
		x.closed = true
		problem.Severity = isthmusv1.Severity_SEVERITY_ERROR
		problem.Text += "; it is required, so none of the proxy's listeners is served"
	}
	x.problems = append(x.problems, problem)
}

// extend puts filters before the router of each HTTP filter of a listener, whoever wrote
// it. Others stay where they are, intentions among them.
func extend(l *listenerv3.Listener, filters []*httpmanager.HttpFilter) {
	if len(filters) == 0 {
		return
	}
	for _, chain := range append(l.GetFilterChains()[:len(l.GetFilterChains()):len(l.GetFilterChains())], l.GetDefaultFilterChain()) {
		for _, f := range chain.GetFilters() {
			m := &httpmanager.HttpConnectionManager{}
			if !f.GetTypedConfig().MessageIs(m) || f.GetTypedConfig().UnmarshalTo(m) != nil {
				continue
			}
			var all []*httpmanager.HttpFilter
			for _, h := range m.GetHttpFilters() {
				if h.GetName() == routerFilter {
					all = append(all, filters...)
				}
				all = append(all, h)
			}
			m.HttpFilters = all
			f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed(m)}
		}
	}
}

// routerFilter passes requests on; it is the last one.
const routerFilter = "envoy.filters.http.router"

// extensionsKey is equal for filters that come to the same.
func extensionsKey(x *extensions) string {
	key := fmt.Sprint(x.closed)
	for _, f := range x.outbound {
		key += "\x00" + string(mustMarshal(f))
	}
	return key
}

package gateway

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Registrar keeps the gateway in a catalog for as long as it can be used. Its
// methods may be called from several goroutines.
type Registrar interface {
	// Keep registers the gateway, and again whenever the registration is lost,
	// until ctx ends. Each time it calls registered with the node that the
	// registration is on, or nothing if that is not known. An error means that the
	// gateway cannot be registered as it is told.
	Keep(ctx context.Context, registered func(node string)) error
	// Withdraw takes the registration back if Keep made one; it is called after
	// Keep has returned.
	Withdraw(ctx context.Context) error
	// Trouble says why the gateway is not registered; empty when it is, and
	// before Keep.
	Trouble() string
}

// Problems of a gateway's registration and listeners, as it reports them.
const (
	// CodeNoRegistration: the routes do not have the registration now.
	CodeNoRegistration = "NO_REGISTRATION"
	// CodeBadListener: an address cannot be listened on.
	CodeBadListener = "BAD_LISTENER"
	// CodeNotRegistered: the gateway could not be registered.
	CodeNotRegistered = "NOT_REGISTERED"
)

func problem(code, text, fix string) *isthmusv1.Problem {
	return &isthmusv1.Problem{Code: code, Severity: isthmusv1.Severity_SEVERITY_ERROR, Text: text, Fix: fix}
}

// bindKeys are the keys of a registration that say where to listen, and
// honouredKeys the others that this gateway goes by.
var (
	bindKeys = []string{
		"envoy_gateway_bind_addresses", "envoy_gateway_bind_tagged_addresses", "envoy_gateway_no_default_bind",
		"envoy_mesh_gateway_bind_addresses", "envoy_mesh_gateway_bind_tagged_addresses", "envoy_mesh_gateway_no_default_bind",
	}
	honouredKeys = []string{
		"connect_timeout_ms", "envoy_dns_discovery_type", "envoy_gateway_remote_tcp_enable_keepalive",
		"envoy_gateway_remote_tcp_keepalive_interval", "envoy_gateway_remote_tcp_keepalive_probes",
		"envoy_gateway_remote_tcp_keepalive_time",
	}
	// otherKeys are about proxies of other kinds: in proxy-defaults they are not
	// meant for a gateway.
	otherKeys = []string{
		"balance_inbound_connections", "balance_outbound_connections", "bind_address", "bind_port", "envoy_cluster_json",
		"envoy_listener_json", "envoy_listener_tracing_json", "envoy_local_cluster_json", "envoy_public_listener_json",
		"limits", "local_connect_timeout_ms", "local_idle_timeout_ms", "local_request_timeout_ms",
		"max_inbound_connections", "max_request_headers_kb", "mesh_gateway", "passive_health_check", "protocol",
	}
)

// overridden says which settings of a registration the configuration outweighs.
type overridden struct{ binds, connectTimeout bool }

// notHonoured lists the settings of a registration that a gateway does not go by,
// sorted.
func notHonoured(p *isthmusv1.ProxyRoutes, flags overridden) []string {
	own, defaults := jsonKeys(p.GetConfigJson()), jsonKeys(p.GetProxyDefaultsConfigJson())
	all := maps.Clone(own)
	maps.Copy(all, defaults)
	var out []string
	for key := range all {
		switch {
		case slices.Contains(bindKeys, key):
			if flags.binds {
				out = append(out, key+" (--listen wins)")
			}
		case key == "connect_timeout_ms" && flags.connectTimeout:
			out = append(out, key+" (--connect-timeout wins)")
		case slices.Contains(honouredKeys, key):
		// An agent shows what proxy-defaults has as the gateway's own.
		case slices.Contains(otherKeys, key) && defaults[key]:
		case own[key]:
			out = append(out, key)
		default:
			out = append(out, key+" (proxy-defaults)")
		}
	}
	g := p.GetGateway()
	if g.GetDnsDiscoveryType() == "logical_dns" {
		out = append(out, "envoy_dns_discovery_type (strict_dns is what is done)")
	}
	if g.GetLimits().GetMaxPendingRequests() > 0 {
		out = append(out, "limits.max_pending_requests (service-defaults)")
	}
	if g.GetLimits().GetMaxConcurrentRequests() > 0 {
		out = append(out, "limits.max_concurrent_requests (service-defaults)")
	}
	if p.GetAccessLogs().GetEnabled() {
		out = append(out, "access_logs (--access-log does it)")
	}
	slices.Sort(out)
	return out
}

// jsonKeys are the keys of an object, in lower case.
func jsonKeys(text []byte) map[string]bool {
	var object map[string]json.RawMessage
	if len(text) > 0 && json.Unmarshal(text, &object) != nil {
		return map[string]bool{}
	}
	keys := make(map[string]bool, len(object))
	for key := range object {
		keys[strings.ToLower(key)] = true
	}
	return keys
}

// bindAddresses are where a registration has the gateway listen.
func bindAddresses(p *isthmusv1.ProxyRoutes) []string {
	var out []string
	for _, b := range p.GetGateway().GetBinds() {
		out = append(out, net.JoinHostPort(b.GetAddress(), strconv.FormatUint(uint64(b.GetPort()), 10)))
	}
	return out
}

// byRegistration reports whether the registration says where to listen.
func (g *Gateway) byRegistration() bool {
	return g.cfg.Proxy != "" && len(g.cfg.Listen) == 0 && g.cfg.Environment("LISTEN_FDS") == ""
}

// mayServe reports whether there is all that the serving needs to begin.
func (g *Gateway) mayServe() bool {
	whole, _ := g.feed.Whole()
	return whole && (!g.byRegistration() || len(g.wantedBinds()) > 0)
}

// wantedBinds are those of the registration, as the table has it.
func (g *Gateway) wantedBinds() []string {
	own := g.feed.Table().Own
	if own == nil {
		return nil
	}
	return bindAddresses(own.Proxy)
}

// whyNoBinds says why the serving does not begin although there is a table.
func (g *Gateway) whyNoBinds() string {
	own := g.feed.Table().Own
	switch {
	case own == nil:
		return ""
	case own.Proxy == nil:
		return own.Missing
	case len(bindAddresses(own.Proxy)) == 0:
		return "the registration of " + own.Name + " leaves it nowhere to listen"
	}
	return "binding its addresses"
}

// ownName is NODE/ID of the registration; empty when there is none.
func (g *Gateway) ownName() string {
	if own := g.feed.Table().Own; own != nil {
		return own.Name
	}
	return ""
}

// notHonoured lists the settings of the present registration that this gateway
// does not go by.
func (g *Gateway) notHonoured() []string {
	own := g.feed.Table().Own
	if own == nil || own.Proxy == nil {
		return nil
	}
	registered, listening := bindAddresses(own.Proxy), slices.Clone(g.Addresses())
	slices.Sort(registered)
	slices.Sort(listening)
	return notHonoured(own.Proxy, overridden{
		binds:          !g.byRegistration() && !slices.Equal(registered, listening),
		connectTimeout: g.cfg.Limits.ConnectTimeout > 0,
	})
}

// problems are those of the registration and of the listeners.
func (g *Gateway) problems() []*isthmusv1.Problem {
	var out []*isthmusv1.Problem
	if own := g.feed.Table().Own; own != nil {
		// While it registers itself, that is what the registrar says.
		if own.Missing != "" && (own.Proxy != nil || g.cfg.Registrar == nil) {
			text := own.Missing
			if own.Proxy != nil {
				text += "; it goes on by its last registration"
			}
			out = append(out, problem(CodeNoRegistration, text, "register it, or give another --proxy-id"))
		}
		out = append(out, own.Proxy.GetProblems()...)
	}
	out = append(out, g.listeners.failures()...)
	if g.cfg.Registrar != nil {
		if why := g.cfg.Registrar.Trouble(); why != "" {
			out = append(out, problem(CodeNotRegistered, why, ""))
		}
	}
	return out
}

// tellRegistration logs what is not as the registration says, when that changed.
func (g *Gateway) tellRegistration() {
	own := g.feed.Table().Own
	if own == nil {
		return
	}
	listed := g.notHonoured()
	text := strings.Join(listed, ", ")
	changed := text != g.toldNotHonoured
	switch {
	case changed && text != "":
		g.cfg.Logger.Warn("settings of the registration are not honoured", "proxy", own.Name, "settings", text)
	case changed:
		g.cfg.Logger.Info("all settings of the registration are honoured", "proxy", own.Name)
	}
	g.toldNotHonoured = text
	var texts []string
	for _, p := range g.problems() {
		texts = append(texts, p.GetText())
		if !slices.Contains(g.toldProblems, p.GetText()) {
			g.cfg.Logger.Warn("the gateway's registration", "problem", p.GetText(), "fix", p.GetFix())
		}
	}
	changed = changed || !slices.Equal(texts, g.toldProblems)
	g.toldProblems = texts
	if changed {
		g.tellStatus()
	}
}

// withdrawTimeout bounds what taking the registration back may keep the drain
// from beginning.
const withdrawTimeout = 5 * time.Second

// withdraw takes the registration back, so that nobody begins a connection that
// the drain would cut. A successor has the same registration.
func (g *Gateway) withdraw() {
	if g.cfg.Registrar == nil || g.handedOver.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), withdrawTimeout)
	defer cancel()
	if err := g.cfg.Registrar.Withdraw(ctx); err != nil {
		g.cfg.Logger.Error("the gateway stays registered", "err", err)
	}
}

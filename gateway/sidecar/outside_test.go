package sidecar

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway/relay"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestConfigIsChecked(t *testing.T) {
	_, err := New(Config{})
	for _, field := range []string{"Log", "Datacenter", "Proxy", "Identity"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

// TestRunEndsOnWhatCannotBeServed: an ID that is not unique, a gateway.
func TestRunEndsOnWhatCannotBeServed(t *testing.T) {
	s := newSite(t, nil)
	gateway := proxyAt("n1", "gw", "mesh-gateway")
	gateway.value.(*isthmusv1.ProxyRoutes).Kind = isthmusv1.InstanceKindMeshGateway
	s.put(proxyAt("n1", "web-proxy", "web"), proxyAt("n2", "web-proxy", "web"), gateway)
	for proxy, want := range map[string]error{"web-proxy": ErrAmbiguous, "gw": ErrNotSidecar} {
		r := s.start(proxy)
		err := <-r.done
		r.done <- err
		if !errors.Is(err, want) {
			t.Errorf("%s: %v; want %v", proxy, err, want)
		}
	}
}

func TestConnectionLimits(t *testing.T) {
	t.Run("of the sidecar", func(t *testing.T) {
		p := newPair(t, nil)
		_ = p.webRun.stop()
		one := p.start("web-proxy", func(c *Config) { c.MaxConnections = 1 }).ready()
		first := p.dial(p.socket)
		if err := say(first, "hello"); err != nil {
			t.Fatal(err)
		}
		if err := p.ask(p.socket, "hello"); err == nil {
			t.Error("a second connection was carried")
		}
		if r := one.record(); r.Reason != ReasonConnectionLimit {
			t.Errorf("%+v", r)
		}
		first.Close()
	})
	t.Run("of the service", func(t *testing.T) {
		p := newPair(t, func(p *pair) { p.api.proxy.Local = &isthmusv1.Local{MaxInboundConnections: 1} })
		first := p.dial(p.socket)
		if err := say(first, "hello"); err != nil {
			t.Fatal(err)
		}
		if err := p.caller(p.as(p.ca, "web")); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
			t.Errorf("a second connection met %v", err)
		}
		if r := p.apiRun.record(); r.Reason != ReasonConnectionLimit {
			t.Errorf("%+v", r)
		}
		first.Close()
	})
}

func TestMetrics(t *testing.T) {
	p := newPair(t, nil)
	_ = p.webRun.stop()
	registry := prometheus.NewPedanticRegistry()
	r := p.start("web-proxy", func(c *Config) { c.Registerer = registry }).ready()
	if err := p.ask(p.socket, "hello"); err != nil {
		t.Fatal(err)
	}
	r.record()
	want := map[string]float64{
		"isthmus_sidecar_connections_total{direction=outbound,reason=done,route=api}":            1,
		"isthmus_sidecar_connections_total{direction=outbound,reason=connect_failed,route=api}":  0,
		"isthmus_sidecar_connections_open{direction=outbound,route=api}":                         0,
		"isthmus_sidecar_bytes_total{direction=outbound,route=api,way=in}":                       5,
		"isthmus_sidecar_bytes_total{direction=outbound,route=api,way=out}":                      5,
		"isthmus_sidecar_connect_failures_total{direction=outbound,route=api}":                   0,
		"isthmus_sidecar_listeners{state=open}":                                                  2,
		"isthmus_sidecar_listeners{state=failed}":                                                0,
		"isthmus_sidecar_saved_state_age_seconds{}":                                              0,
		"isthmus_sidecar_trouble{with=identity}":                                                 0,
		"isthmus_sidecar_trouble{with=routes}":                                                   0,
		"isthmus_sidecar_routes_sequence{}":                                                      float64(r.Report().GetRoutes().GetSequence()),
		"isthmus_sidecar_leaf_expiry_timestamp_seconds{}":                                        float64(r.live.Current().NotAfter().Unix()),
		"isthmus_sidecar_connections_total{direction=inbound,reason=intention_denied,route=web}": 0,
	}
	got := gather(t, registry)
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s is %v (%v); want %v", name, v, ok, value)
		}
	}
	_ = r.stop()
	if left := gather(t, registry); len(left) != 0 {
		t.Errorf("metrics are left behind: %v", left)
	}
}

func gather(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := family.GetName() + "{" + strings.Join(labels, ",") + "}"
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

// lockedBuffer is what several sidecars log into.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestLogs: one line for each connection, with the way it went; and no key.
func TestLogs(t *testing.T) {
	p := newPair(t, nil)
	_ = p.webRun.stop()
	var access, all lockedBuffer
	r := p.start("web-proxy", func(c *Config) {
		c.AccessLog = slog.New(slog.NewJSONHandler(&access, nil))
		c.Logger = slog.New(slog.NewTextHandler(&all, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}).ready()
	if err := p.ask(p.socket, "hello"); err != nil {
		t.Fatal(err)
	}
	r.record()
	var line map[string]any
	if err := json.Unmarshal([]byte(access.String()), &line); err != nil {
		t.Fatalf("%v: %s", err, access.String())
	}
	for key, want := range map[string]any{
		"direction": "outbound", "route": "api", "path": "direct", "target": "api.here",
		"sni": "api.default.dc1.internal." + td, "endpoint": p.api.address(),
		"reason": "done", "bytes_in": 5.0, "bytes_out": 5.0, "attempts": 1.0, "basis": "CATALOG_dc1@1",
	} {
		if line[key] != want {
			t.Errorf("%s is %v; want %v", key, line[key], want)
		}
	}
	key, err := r.live.Current().KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	for secret := range strings.Lines(string(key)) {
		if strings.Contains(all.String()+access.String(), strings.TrimSpace(secret)) {
			t.Error("the key is in the log")
		}
	}
	if !strings.Contains(all.String(), "/svc/web") {
		t.Errorf("the identity is not in the log: %s", all.String())
	}
}

func TestReasons(t *testing.T) {
	all := Reasons()
	if len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Error("a reason stands twice")
	}
	joined := map[Reason]bool{ReasonDone: true, ReasonClientReset: true, ReasonEndpointReset: true, ReasonDrained: true}
	for _, reason := range all {
		if reason.Refused() == joined[reason] {
			t.Errorf("%s: refused %v", reason, reason.Refused())
		}
	}
	tests := []struct {
		result relay.Result
		want   Reason
	}{
		{relay.Result{}, ReasonDone},
		{relay.Result{Err: errTruncated, Broke: relay.Client}, ReasonClientReset},
		{relay.Result{Err: errTruncated, Broke: relay.Upstream}, ReasonEndpointReset},
		{relay.Result{Err: errDrained}, ReasonDrained},
	}
	for _, test := range tests {
		var r Record
		if r.end(test.result); r.Reason != test.want || (r.Detail == "") != (test.want == ReasonDone) {
			t.Errorf("%+v: %+v", test.result, r)
		}
	}
}

// TestTheMeshBoundsTLS: TLS.Incoming of the mesh entry holds for callers.
func TestTheMeshBoundsTLS(t *testing.T) {
	p := newPair(t, func(p *pair) { p.api.proxy.TlsIncoming = &isthmusv1.MeshTLS{TlsMinVersion: "TLSv1_3"} })
	old := p.as(p.ca, "web")
	old.MaxVersion = tls.VersionTLS12
	if err := p.caller(old); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
	if err := p.caller(p.as(p.ca, "web")); err != nil {
		t.Error(err)
	}
}

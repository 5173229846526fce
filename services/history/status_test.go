package history_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
)

// report publishes one report of dc1, as of now.
func (w *world) report(r *isthmusv1.Report) {
	w.t.Helper()
	r.Datacenter, r.Time = "dc1", timestamppb.Now()
	value, err := isthmusv1.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	record, err := isthmusv1.Marshal(&isthmusv1.Record{Envelope: &isthmusv1.Envelope{Time: r.GetTime()}, Value: value})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.log.Create(w.t.Context(), bus.StreamConfig{Name: "STATUS_dc1", MaxAge: time.Hour}); err != nil {
		w.t.Fatal(err)
	}
	message := bus.Message{Key: isthmusv1.ReportKey(r.GetRole(), r.GetName()), Record: record}
	if err := w.log.Publish(w.t.Context(), "STATUS_dc1", message); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) status() *history.Status {
	w.t.Helper()
	s, err := history.StatusAt(w.t.Context(), w.log, "dc1", time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestStatusBeforeAnyoneReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", with(dc1Files, "gateway-2.hcl",
			`service { id = "gw-2" name = "mesh-gateway" kind = "mesh-gateway" port = 8444 check { name = "c" status = "critical" tcp = "127.0.0.1:1" interval = "1s" } }`))
		w.resolve()
		s := w.status()
		if len(s.Gateways) != 2 || len(s.Proxies) != 1 {
			t.Fatalf("%+v", s)
		}
		g := s.Gateways[0]
		if g.Name != "dc1-1/gw-2" || g.Health != "unhealthy" || !g.Registered || g.LAN != "10.1.0.1:8444" || g.Age != nil || g.State != "" || g.Head == 0 {
			t.Errorf("%+v", g)
		}
		if s.Gateways[1].Health != "healthy" {
			t.Errorf("%+v", s.Gateways[1])
		}
		p := s.Proxies[0]
		if p.Proxy != "dc1-1/web-proxy" || p.Service != "web" || p.Connected || !p.Registered || p.Age != nil || p.Head != g.Head {
			t.Errorf("%+v", p)
		}
		data, _ := json.Marshal(s)
		if text := string(data); strings.Contains(text, `"proxies":null`) || !strings.Contains(text, `"age_seconds":null`) || !strings.Contains(text, `"listen":[]`) {
			t.Errorf("%s", text)
		}
	})
}

func TestStatusFoldsReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		w.resolve()
		head := w.status().Gateways[0].Head
		w.report(&isthmusv1.Report{Role: "gateway", Name: "edge", Full: true, Gateway: &isthmusv1.GatewayStatus{
			State: "serving", ListenAddresses: []string{"10.1.0.1:8443"}, ConnectionsTotal: 7, ConnectionsOpen: 2, BytesIn: 10, FromSavedTable: true,
			Routes:    &isthmusv1.Position{Stream: "ROUTES_dc1", Sequence: head - 1},
			Endpoints: []*isthmusv1.EndpointStatus{{Address: "192.0.2.2:443", Ejected: true}, {Address: "192.0.2.3:443"}},
		}})
		w.report(&isthmusv1.Report{Role: "xds", Name: "node-1", Full: true, Proxies: []*isthmusv1.ProxyStatus{
			{Proxy: "dc1-1/web-proxy", Kind: "connect-proxy", Connected: true, Routes: &isthmusv1.Position{Sequence: head}},
			{Proxy: "dc1-1/gone", Kind: "connect-proxy", Connected: true},
		}})
		time.Sleep(10 * time.Second)
		w.report(&isthmusv1.Report{Role: "xds", Name: "node-1", Proxies: []*isthmusv1.ProxyStatus{
			{Proxy: "dc1-1/web-proxy", Connected: false, LastNack: &isthmusv1.Nack{Resource: "listener", Detail: "bad port"}},
		}})
		w.report(&isthmusv1.Report{Role: "gateway", Name: "stranger", Gateway: &isthmusv1.GatewayStatus{State: "draining"}})
		time.Sleep(5 * time.Second)

		s := w.status()
		g := s.Gateways[0]
		if g.Name != "dc1-1/mesh-gateway" || g.State != "serving" || g.Total != 7 || g.Open != 2 || g.BytesIn != 10 || !g.SavedTable || g.Routes != head-1 || *g.Age != 15 {
			t.Errorf("registered gateway, found by its address: %+v", g)
		}
		if !slices.Equal(g.Ejected, []string{"192.0.2.2:443"}) {
			t.Errorf("ejected %v", g.Ejected)
		}
		if g = s.Gateways[1]; g.Name != "stranger" || g.Registered || g.Health != "" || g.State != "draining" || *g.Age != 5 {
			t.Errorf("gateway that is not registered: %+v", g)
		}
		if len(s.Gateways) != 2 || len(s.Proxies) != 2 {
			t.Fatalf("%+v", s)
		}
		if p := s.Proxies[0]; p.Proxy != "dc1-1/gone" || p.Registered || !p.Connected || *p.Age != 5 {
			t.Errorf("a proxy that is not registered keeps what the full report said: %+v", p)
		}
		if p := s.Proxies[1]; p.Connected || p.Reporter != "xds/node-1" || p.LastNack == nil || p.LastNack.Detail != "bad port" {
			t.Errorf("proxy: %+v", p)
		}

		t.Log("a full report takes back what it does not say; the newest reporter counts")
		w.report(&isthmusv1.Report{Role: "xds", Name: "node-1", Full: true})
		w.report(&isthmusv1.Report{Role: "xds", Name: "node-2", Full: true, Proxies: []*isthmusv1.ProxyStatus{
			{Proxy: "DC1-1/web-proxy", Connected: true, Routes: &isthmusv1.Position{Sequence: head}},
		}})
		s = w.status()
		if len(s.Proxies) != 1 || !s.Proxies[0].Connected || s.Proxies[0].Reporter != "xds/node-2" || s.Proxies[0].Routes != head || s.Proxies[0].LastNack != nil {
			t.Errorf("%+v", s.Proxies)
		}
	})
}

func TestStatusWithoutACatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		if _, err := history.StatusAt(t.Context(), w.log, "dc9", time.Now()); !errors.Is(err, bus.ErrNoStream) {
			t.Errorf("error %v", err)
		}
	})
}

// A gateway is known by the registration that it says to run by, whatever its
// own name; what it does not honour is shown.
func TestStatusOfARegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", with(dc1Files, "gateway-2.hcl",
			`service { id = "gw-2" name = "mesh-gateway" kind = "mesh-gateway" port = 8444 }`))
		w.resolve()
		w.report(&isthmusv1.Report{Role: "gateway", Name: "some-host", Full: true, Gateway: &isthmusv1.GatewayStatus{
			State: "serving", Proxy: "DC1-1/gw-2", NotHonoured: []string{"envoy_stats_tags"},
			Problems: []*isthmusv1.Problem{{Code: "BAD_LISTENER", Text: "taken", Fix: "free it"}},
		}})
		s := w.status()
		g := s.Gateways[0]
		if len(s.Gateways) != 2 || g.Name != "dc1-1/gw-2" || g.State != "serving" || !slices.Equal(g.NotHonoured, []string{"envoy_stats_tags"}) ||
			len(g.Problems) != 1 || g.Problems[0].Code != "BAD_LISTENER" || g.Problems[0].Problem != "taken" {
			t.Errorf("%+v", s.Gateways)
		}
		if data, _ := json.Marshal(s.Gateways[1]); !strings.Contains(string(data), `"not_honoured":[],"problems":[]`) {
			t.Errorf("%s", data)
		}
	})
}

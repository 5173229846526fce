package history_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
)

// routesState is the end of the routes of dc1, and what wrote them.
func (w *world) routesState() (uint64, string) {
	w.t.Helper()
	state, err := w.log.State(w.t.Context(), "ROUTES_dc1")
	if err != nil {
		w.t.Fatal(err)
	}
	return state.Last, state.Incarnation
}

func (w *world) proxy(name string) history.ProxyStatus {
	w.t.Helper()
	s := w.status()
	i := slices.IndexFunc(s.Proxies, func(p history.ProxyStatus) bool { return p.Proxy == name })
	if i < 0 {
		w.t.Fatalf("there is no %s among %+v", name, s.Proxies)
	}
	return s.Proxies[i]
}

// A proxy that is current is where its node is, without a word of it; one that is not is
// behind by so many messages, for so long.
func TestStatusOfCurrentProxies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		w.resolve()
		before, incarnation := w.routesState()
		basis := func(sequence uint64) *isthmusv1.Basis {
			return &isthmusv1.Basis{Positions: []*isthmusv1.Position{{Stream: "CATALOG_dc1", Incarnation: "c", Sequence: sequence}}}
		}
		at := func(sequence uint64) *isthmusv1.Position {
			return &isthmusv1.Position{Stream: "ROUTES_dc1", Incarnation: incarnation, Sequence: sequence}
		}
		w.report(&isthmusv1.Report{Role: "xds", Name: "node-1", Full: true, Routes: at(before), Basis: basis(3), Proxies: []*isthmusv1.ProxyStatus{
			{Proxy: "dc1-1/web-proxy", Connected: true, Current: true, Version: "v1"},
		}})
		p := w.proxy("dc1-1/web-proxy")
		if p.XDSNode != "node-1" || p.Version != "v1" || p.Routes != before || *p.Behind != (history.Behind{}) || p.BasisText() != "CATALOG_dc1@3" {
			t.Errorf("%+v", p)
		}

		w.write("dc1", with(dc1Files, "gateway-2.hcl", `service { id = "gw-2" name = "mesh-gateway" kind = "mesh-gateway" port = 8444 }`))
		w.resolve()
		after, _ := w.routesState()
		if after == before {
			t.Fatal("the routes have not changed")
		}
		time.Sleep(3 * time.Second)
		want := history.Behind{Events: after - before, Milliseconds: 3000}
		if p = w.proxy("dc1-1/web-proxy"); *p.Behind != want {
			t.Errorf("a node that is behind: %+v, want %+v", *p.Behind, want)
		}
		w.report(&isthmusv1.Report{Role: "xds", Name: "node-1", Routes: at(after), Basis: basis(5)})
		if p = w.proxy("dc1-1/web-proxy"); p.Routes != after || p.BasisText() != "CATALOG_dc1@5" || *p.Behind != (history.Behind{}) {
			t.Errorf("a node that has caught up takes its proxies along: %+v", p)
		}
		w.report(&isthmusv1.Report{Role: "xds", Name: "node-1", Routes: at(after), Basis: basis(5), Proxies: []*isthmusv1.ProxyStatus{{
			Proxy: "dc1-1/web-proxy", Connected: true, Routes: at(before), Basis: basis(3),
			LastNack: &isthmusv1.Nack{Resource: "Cluster api", Detail: "bad", Cause: at(after)},
		}}})
		if p = w.proxy("dc1-1/web-proxy"); p.Routes != before || *p.Behind != want || p.LastNack.Cause != after || p.LastNack.Over {
			t.Errorf("a proxy that has refused: %+v", p)
		}
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var row map[string]any
		if err := json.Unmarshal(data, &row); err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields("proxy kind xds_node version basis behind last_nack") {
			if _, there := row[field]; !there {
				t.Errorf("there is no %s in %s", field, slices.Collect(maps.Keys(row)))
			}
		}
		if behind, _ := row["behind"].(map[string]any); behind["events"] != float64(want.Events) || behind["ms"] != float64(3000) {
			t.Errorf("behind %v", row["behind"])
		}
	})
}

// A position in routes that were made anew says nothing of how far a proxy is.
func TestStatusOfOtherRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		w.resolve()
		w.report(&isthmusv1.Report{Role: "xds", Name: "node-1", Full: true, Proxies: []*isthmusv1.ProxyStatus{
			{Proxy: "dc1-1/web-proxy", Connected: true, Routes: &isthmusv1.Position{Incarnation: "another", Sequence: 1 << 40}},
		}})
		if p := w.proxy("dc1-1/web-proxy"); p.Behind != nil {
			t.Errorf("behind %+v", *p.Behind)
		}
	})
}

// Of several nodes that speak of a proxy the one counts that it is connected to, however
// often the others report; and of those a live one.
func TestStatusOfAProxyThatMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		w.resolve()
		say := func(node string, connected ...bool) {
			r := &isthmusv1.Report{Role: "xds", Name: node}
			for _, yes := range connected {
				r.Proxies = append(r.Proxies, &isthmusv1.ProxyStatus{Proxy: "dc1-1/web-proxy", Connected: yes})
			}
			w.report(r)
			time.Sleep(time.Second)
		}
		want := func(node string, connected bool) {
			t.Helper()
			if p := w.proxy("dc1-1/web-proxy"); p.XDSNode != node || p.Connected != connected {
				t.Errorf("at %s, connected %v; want %s, %v", p.XDSNode, p.Connected, node, connected)
			}
		}
		say("a", true)
		say("b", true)
		say("a", false)
		say("a") // It has other proxies to speak of.
		want("b", true)
		say("b", false)
		want("b", false)
		t.Log("b dies without a word, and is found out when it has missed several reports")
		say("a", true)
		say("b", true)
		want("b", true)
		time.Sleep(3 * time.Minute)
		say("a")
		want("a", true)
	})
}

// An Envoy that is a mesh gateway is among the proxies, and its state among the gateways;
// so is a Go gateway among the proxies, if it says by which registration it runs.
func TestStatusOfGatewaysThatAreProxies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", with(dc1Files, "gateway-2.hcl", `service { id = "gw-2" name = "mesh-gateway" kind = "mesh-gateway" port = 8444 }`))
		w.resolve()
		head, incarnation := w.routesState()
		routes := &isthmusv1.Position{Stream: "ROUTES_dc1", Incarnation: incarnation, Sequence: head}
		w.report(&isthmusv1.Report{Role: "xds", Name: "node-1", Full: true, Routes: routes, Proxies: []*isthmusv1.ProxyStatus{
			{Proxy: "dc1-1/gw-2", Kind: "mesh-gateway", Connected: true, Current: true},
		}})
		if p := w.proxy("dc1-1/gw-2"); p.Kind != "mesh-gateway" || p.XDSNode != "node-1" || !p.Registered || p.Routes != head {
			t.Errorf("%+v", p)
		}
		s := w.status()
		if len(s.Proxies) != 2 || len(s.Gateways) != 2 || s.Gateways[0].Name != "dc1-1/gw-2" || s.Gateways[0].State != "connected to xds/node-1" || s.Gateways[0].Routes != head {
			t.Errorf("%+v", s)
		}
		w.report(&isthmusv1.Report{Role: "xds", Name: "node-1", Routes: routes, Proxies: []*isthmusv1.ProxyStatus{{Proxy: "dc1-1/gw-2", Routes: routes}}})
		if g := w.status().Gateways[0]; g.State != history.EnvoyAway || g.Routes != head {
			t.Errorf("%+v", g)
		}
		w.report(&isthmusv1.Report{Role: "gateway", Name: "edge", Full: true, Gateway: &isthmusv1.GatewayStatus{
			State: "serving", Proxy: "dc1-1/mesh-gateway", Routes: routes,
		}})
		if p := w.proxy("dc1-1/mesh-gateway"); !p.Connected || p.Reporter != "gateway/edge" || p.XDSNode != "" || *p.Behind != (history.Behind{}) {
			t.Errorf("%+v", p)
		}
	})
}

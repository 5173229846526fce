package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

var testTime = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// viewOf is the view of web with one upstream, api, over the given targets.
func viewOf(targets []*isthmusv1.Target, sets ...keyed) *View {
	web := proxyAt("n1", "web-proxy", "web").value.(*isthmusv1.ProxyRoutes)
	web.Binds = []*isthmusv1.Bind{{Route: "api", Port: 9000}}
	v := &View{
		Proxy:   web,
		Routes:  map[string]*isthmusv1.Route{"api": resolverRoute("api", targets...)},
		Inbound: &isthmusv1.Inbound{Service: serviceRef("web"), TrustDomain: td},
		Sets:    map[isthmusv1.SetID]*isthmusv1.EndpointSet{},
	}
	for _, s := range sets {
		set := s.value.(*isthmusv1.EndpointSet)
		v.Sets[set.GetRef().ID()] = set
	}
	return v
}

func directTarget(datacenter string) *isthmusv1.Target {
	return &isthmusv1.Target{
		Id: "api." + datacenter, Datacenter: datacenter, Path: isthmusv1.Path_PATH_DIRECT,
		EndpointSets: []*isthmusv1.EndpointSetRef{setRef("api", datacenter, isthmusv1.Scope_SCOPE_WAN)},
	}
}

func gatewayTarget(datacenter string) *isthmusv1.Target {
	return &isthmusv1.Target{
		Id: "api." + datacenter, Datacenter: datacenter, Path: isthmusv1.Path_PATH_REMOTE_GATEWAY,
		EndpointSets: []*isthmusv1.EndpointSetRef{{Datacenter: datacenter, Scope: isthmusv1.Scope_SCOPE_WAN, MeshGateways: true}},
		Backend:      setRef("api", datacenter, isthmusv1.Scope_SCOPE_HEALTH),
	}
}

// order lists the endpoints that a connection would try, as target:host.
func order(u *upstream, perTarget int) string {
	var out []string
	for c := range u.choices(7, testTime, perTarget) {
		out = append(out, strings.TrimPrefix(c.target.GetId(), "api.")+":"+c.endpoint.Address.Addr().String())
	}
	return strings.Join(out, " ")
}

func TestChoicesFollowTheTargets(t *testing.T) {
	dc1, dc2, dc3 := directTarget("dc1"), directTarget("dc2"), gatewayTarget("dc3")
	direct := func(dc string, addresses ...string) keyed {
		return endpointSet(setRef("api", dc, isthmusv1.Scope_SCOPE_WAN), addresses...)
	}
	gateways := endpointSet(dc3.GetEndpointSets()[0], "10.3.0.1")
	backend := func(addresses ...string) keyed { return endpointSet(dc3.GetBackend(), addresses...) }
	tests := []struct {
		name string
		sets []keyed
		want string
	}{
		{"the first target first, then those that take over",
			[]keyed{direct("dc1", "10.1.0.1"), direct("dc2", "10.2.0.1"), gateways, backend("x")}, "dc1:10.1.0.1 dc2:10.2.0.1 dc3:10.3.0.1"},
		{"a target without a healthy endpoint is passed over",
			[]keyed{direct("dc1", "!10.1.0.1"), direct("dc2", "10.2.0.1"), gateways, backend("x")}, "dc2:10.2.0.1 dc3:10.3.0.1"},
		{"a target without any endpoint is passed over",
			[]keyed{direct("dc1"), gateways, backend("x")}, "dc3:10.3.0.1"},
		{"gateways without a live backend are passed over",
			[]keyed{direct("dc1"), direct("dc2", "10.2.0.1"), gateways, backend("!x")}, "dc2:10.2.0.1"},
		{"gateways without a backend are passed over",
			[]keyed{direct("dc1", "10.1.0.1"), gateways, backend()}, "dc1:10.1.0.1"},
		{"gateways whose backend is not known are passed over",
			[]keyed{gateways}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			st := newBuilder(newCounterTable(), nil).build(viewOf([]*isthmusv1.Target{dc1, dc2, dc3}, test.sets...))
			u := st.upstreams["api"]
			if got := order(u, 3); got != test.want {
				t.Errorf("got %q; want %q", got, test.want)
			}
			if test.want == "" && !strings.Contains(u.why(), "api.dc1: ") {
				t.Errorf("it says %q", u.why())
			}
		})
	}
}

func TestChoicesAreBoundedPerTarget(t *testing.T) {
	dc1, dc2 := directTarget("dc1"), directTarget("dc2")
	st := newBuilder(newCounterTable(), nil).build(viewOf([]*isthmusv1.Target{dc1, dc2},
		endpointSet(dc1.GetEndpointSets()[0], "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"),
		endpointSet(dc2.GetEndpointSets()[0], "10.2.0.1")))
	got := strings.Fields(order(st.upstreams["api"], 3))
	if len(got) != 4 || got[3] != "dc2:10.2.0.1" {
		t.Errorf("got %v", got)
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != 4 {
		t.Errorf("an endpoint is tried twice: %v", got)
	}
}

// An ejected endpoint is tried after every live one, those of the targets that take
// over too: it may be well again, and the connection would fail otherwise.
func TestEjectedEndpointsComeLast(t *testing.T) {
	dc1, dc2 := directTarget("dc1"), directTarget("dc2")
	u := newBuilder(newCounterTable(), nil).build(viewOf([]*isthmusv1.Target{dc1, dc2},
		endpointSet(dc1.GetEndpointSets()[0], "10.1.0.1", "10.1.0.2"),
		endpointSet(dc2.GetEndpointSets()[0], "10.2.0.1"))).upstreams["api"]
	for c := range u.choices(7, testTime, 3) {
		if c.endpoint.Address.Addr().String() == "10.1.0.1" {
			for range 3 {
				c.set.Failed(c.endpoint, testTime)
			}
		}
	}
	if got := order(u, 3); got != "dc1:10.1.0.2 dc2:10.2.0.1 dc1:10.1.0.1" {
		t.Errorf("got %q", got)
	}
	if got := order(u, 1); got != "dc1:10.1.0.2 dc2:10.2.0.1" {
		t.Errorf("one of each target: %q", got)
	}
}

// TestEjectionOutlivesAChange: what was learned of an endpoint stays when routes
// or other endpoints change, and holds for one target only.
func TestEjectionOutlivesAChange(t *testing.T) {
	dc1 := directTarget("dc1")
	set := dc1.GetEndpointSets()[0]
	b := newBuilder(newCounterTable(), nil)
	st := b.build(viewOf([]*isthmusv1.Target{dc1}, endpointSet(set, "10.0.0.1", "10.0.0.2")))
	before := order(st.upstreams["api"], 3)
	for c := range st.upstreams["api"].choices(7, testTime, 1) {
		for range 3 {
			c.set.Failed(c.endpoint, testTime)
		}
	}
	left := order(st.upstreams["api"], 3)
	if first, last := strings.Fields(before), strings.Fields(left); len(last) != 2 || last[1] != first[0] {
		t.Fatalf("after the ejection: %q; before it %q", left, before)
	}
	next := viewOf([]*isthmusv1.Target{dc1}, endpointSet(set, "10.0.0.1", "10.0.0.2", "!10.0.0.3"))
	next.Routes["api"].Config = &isthmusv1.UpstreamConfig{ConnectTimeoutMs: 7}
	if got := order(b.build(next).upstreams["api"], 3); got != left {
		t.Errorf("after a change: %q; want %q", got, left)
	}
	next.Routes["api"].Config = &isthmusv1.UpstreamConfig{PassiveHealthCheck: &isthmusv1.PassiveHealthCheck{MaxFailures: 9}}
	if got := order(b.build(next).upstreams["api"], 3); got != before {
		t.Errorf("under another rule of ejection: %q", got)
	}
}

func TestUpstreamRefuses(t *testing.T) {
	zero, one := uint32(0), uint32(1)
	limited := func(limit *uint32) func(*View) {
		return func(v *View) {
			v.Routes["api"].Config = &isthmusv1.UpstreamConfig{Limits: &isthmusv1.UpstreamLimits{MaxConnections: limit}}
		}
	}
	tests := []struct {
		name   string
		change func(*View)
		open   int64
		want   Reason
		says   string
	}{
		{"an ordinary one", func(*View) {}, 1, "", ""},
		{"below its limit", limited(&one), 1, "", ""},
		{"at its limit", limited(&one), 2, ReasonConnectionLimit, "1"},
		{"a limit of none", limited(&zero), 1, ReasonConnectionLimit, "0"},
		{"no such route", func(v *View) { delete(v.Routes, "api") }, 1, ReasonUnsupported, "no such route"},
		{"a router", func(v *View) {
			v.Routes["api"].Chain = &isthmusv1.Chain{Start: "r", Nodes: []*isthmusv1.ChainNode{{Name: "r", Node: &isthmusv1.ChainNode_Router{}}}}
		}, 1, ReasonUnsupported, "service-router"},
		{"TLS bounds that cannot be kept", func(v *View) {
			v.Proxy.TlsOutgoing = &isthmusv1.MeshTLS{TlsMaxVersion: "TLSv1_0"}
		}, 1, ReasonUnsupported, "TLSv1_0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dc1 := directTarget("dc1")
			v := viewOf([]*isthmusv1.Target{dc1}, endpointSet(dc1.GetEndpointSets()[0], "10.0.0.1"))
			test.change(v)
			st := newBuilder(newCounterTable(), nil).build(v)
			st.upstreams["api"].count.open.Store(test.open)
			reason, detail := st.upstreams["api"].refuses(st)
			if reason != test.want || !strings.Contains(detail, test.says) {
				t.Errorf("got %q, %q; want %q, %q", reason, detail, test.want, test.says)
			}
			if stated := len(st.problems) > 0; stated != (test.want == ReasonUnsupported) {
				t.Errorf("problems: %v", st.problems)
			}
		})
	}
	var gone *upstream
	if reason, _ := gone.refuses(&state{}); reason != ReasonUnsupported {
		t.Errorf("a route that went away: %q", reason)
	}
}

func TestConnectTimeoutIsTheTargets(t *testing.T) {
	dc1, dc2 := directTarget("dc1"), directTarget("dc2")
	dc2.ConnectTimeout = durationpb.New(700 * time.Millisecond)
	st := newBuilder(newCounterTable(), nil).build(viewOf([]*isthmusv1.Target{dc1, dc2}))
	got := fmt.Sprint(st.upstreams["api"].targets[0].timeout, st.upstreams["api"].targets[1].timeout)
	if got != "5s 700ms" {
		t.Errorf("got %s", got)
	}
}

// TestHostNamesAreLookedUp: at once when they are asked for, again every ten
// seconds, and a failure changes nothing.
func TestHostNamesAreLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		answer, fails, asked := netip.MustParseAddr("10.0.0.1"), false, 0
		hosts := newHostTable(func(_ context.Context, host string) ([]netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			if fails || host != "api.example" {
				return nil, errors.New("no such host")
			}
			return []netip.Addr{answer, answer}, nil
		})
		dc1 := directTarget("dc1")
		b := newBuilder(newCounterTable(), hosts.addresses)
		u := b.build(viewOf([]*isthmusv1.Target{dc1}, endpointSet(dc1.GetEndpointSets()[0], "api.example"))).upstreams["api"]
		if got := u.why(); !strings.Contains(got, "host name") {
			t.Fatalf("before the look-up: %q", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			hosts.run(ctx, b.refill)
		}()
		synctest.Wait()
		check := func(want string, times int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := order(u, 3); got != want || asked != times {
				t.Errorf("got %q after %d look-ups; want %q after %d", got, asked, want, times)
			}
		}
		check("", 0)
		hosts.want(b.hostNames())
		check("dc1:10.0.0.1", 1)
		hosts.want(b.hostNames())
		check("dc1:10.0.0.1", 1)
		then := func(change func()) {
			mu.Lock()
			defer mu.Unlock()
			change()
		}
		then(func() { answer = netip.MustParseAddr("10.0.0.2") })
		time.Sleep(lookupEvery)
		check("dc1:10.0.0.2", 2)
		then(func() { fails = true })
		time.Sleep(lookupEvery)
		check("dc1:10.0.0.2", 3)
		hosts.want(nil)
		time.Sleep(lookupEvery)
		check("dc1:10.0.0.2", 3)
		cancel()
		<-done
	})
}

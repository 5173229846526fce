package table_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// proxy is a registration on a node, with a connect timeout to tell it by.
func proxy(node, id, kind string, timeout time.Duration) isthmusv1.Change {
	return set(isthmusv1.ProxyKey("", node, "", id), &isthmusv1.ProxyRoutes{
		Node: node, Id: id, Kind: kind, Gateway: &isthmusv1.GatewaySettings{ConnectTimeout: durationpb.New(timeout)},
	})
}

const meshGateway = isthmusv1.InstanceKindMeshGateway

// TestOwnRegistration follows a registration by its names through changes. The
// last one is used while there is none.
func TestOwnRegistration(t *testing.T) {
	one, two := proxy("n1", "mg", meshGateway, 1), proxy("n2", "mg", meshGateway, 2)
	cases := []struct {
		name, follow string
		changes      []isthmusv1.Change
		// narrow is the node that becomes known last.
		narrow  string
		own     string
		timeout time.Duration
		missing string
	}{
		{name: "none", follow: "mg", missing: "no gateway mg is registered in the datacenter"},
		{name: "by ID", follow: "MG", changes: []isthmusv1.Change{one}, own: "n1/mg", timeout: 1},
		{name: "by node and ID", follow: "N2/mg", changes: []isthmusv1.Change{one, two}, own: "n2/mg", timeout: 2},
		{name: "an ID of two nodes", follow: "mg", changes: []isthmusv1.Change{two, one}, own: "n2/mg", timeout: 2, missing: "several gateways have the ID mg; name one as NODE/ID: n1/mg, n2/mg"},
		{name: "an ID of two nodes, of which one is meant", follow: "mg", changes: []isthmusv1.Change{one, two}, narrow: "N2", own: "n2/mg", timeout: 2},
		{name: "a sidecar", follow: "web", changes: []isthmusv1.Change{proxy("n1", "web", isthmusv1.InstanceKindProxy, 1)}, missing: "n1/web is a connect-proxy, not a mesh gateway"},
		{name: "changed", follow: "mg", changes: []isthmusv1.Change{one, proxy("n1", "mg", meshGateway, 3)}, own: "n1/mg", timeout: 3},
		{name: "gone", follow: "mg", changes: []isthmusv1.Change{one, gone(one.Key)}, own: "n1/mg", timeout: 1, missing: "no gateway mg is registered"},
		{name: "moved", follow: "mg", changes: []isthmusv1.Change{one, gone(one.Key), two}, own: "n2/mg", timeout: 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, s := table.NewBuilder(table.Ejection{}), new(stream)
			b.Follow(c.follow)
			b.Apply(s.transaction(true, name("api")))
			for _, change := range c.changes {
				b.Apply(s.transaction(false, change))
			}
			b.Narrow(c.narrow)
			check := func(what string, got *table.Table, missing string) {
				t.Helper()
				if got.Own.Name != c.own || got.Settings.ConnectTimeout != c.timeout || !strings.Contains(got.Own.Missing, missing) || (missing == "") != (got.Own.Missing == "") {
					t.Errorf("%s: %+v, %v", what, got.Own, got.Settings.ConnectTimeout)
				}
			}
			check("followed", b.Table(), c.missing)
			// What was saved makes the same table again, gone or not.
			if c.own != "" {
				var values []isthmusv1.Change
				for _, v := range b.Values() {
					values = append(values, set(v.Key, v.Value))
				}
				again := table.NewBuilder(table.Ejection{})
				again.Follow(c.follow)
				check("saved", again.Apply(s.transaction(true, values...)), "")
				again.Apply(s.transaction(true))
				check("saved, then gone", again.Table(), "no gateway")
			}
		})
	}
}

func TestNoRegistrationIsFollowedUnasked(t *testing.T) {
	b, s := table.NewBuilder(table.Ejection{}), new(stream)
	got := b.Apply(s.transaction(true, proxy("n1", "mg", meshGateway, 1)))
	if got.Own != nil || got.Settings != (table.Settings{}) || b.Narrow("n1") || len(b.Values()) != 0 {
		t.Errorf("%+v, %+v", got.Own, got.Settings)
	}
}

func TestSettingsOfARegistration(t *testing.T) {
	most := uint32(7)
	b, s := table.NewBuilder(table.Ejection{}), new(stream)
	b.Follow("mg")
	got := b.Apply(s.transaction(true, set(isthmusv1.ProxyKey("", "n1", "", "mg"), &isthmusv1.ProxyRoutes{
		Node: "n1", Id: "mg", Kind: meshGateway, Gateway: &isthmusv1.GatewaySettings{
			RemoteKeepalive: &isthmusv1.TCPKeepalive{TimeSeconds: 30, IntervalSeconds: 5, Probes: 3},
			Limits:          &isthmusv1.UpstreamLimits{MaxConnections: &most},
		},
	}))).Settings
	if *got.Keepalive != (table.Keepalive{Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}) || *got.MaxConnections != 7 || got.ConnectTimeout != 0 {
		t.Errorf("%+v", got)
	}
}

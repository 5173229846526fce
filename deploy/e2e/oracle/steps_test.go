package oracle_test

import "testing"

// step is a change of the gateways, and what it leads to.
type step struct {
	name   string
	change func(t *testing.T)
	// want is what the scenes come to: remote, local, none and failover.
	want [4]string
	// differs is the intended difference of the scenes that apply has, by their
	// place.
	differs string
	apply   map[int]func(view) view
	// at are the gateways of dc1 whose names are compared.
	at []instance
	// names is how the names differ on purpose, by the difference's name.
	names map[string]func(names) names
}

// What the scenes come to while gateways of both datacenters pass, while one of
// them has none that does, and while only dc1 has none.
var (
	served = [4]string{
		"ga-api.dc2 remote-gateway", "gb-api.dc2 local-gateway", "gc-api.dc2 direct",
		"gd-api.dc1 direct, else gd-api.dc2 remote-gateway",
	}
	cutOff = [4]string{
		"ga-api.dc2 nowhere", "gb-api.dc2 nowhere", "gc-api.dc2 direct", "gd-api.dc1 direct, else gd-api.dc2 nowhere",
	}
	cutOffHere = [4]string{
		"ga-api.dc2 remote-gateway", "gb-api.dc2 nowhere", "gc-api.dc2 direct",
		"gd-api.dc1 direct, else gd-api.dc2 remote-gateway",
	}
)

func (w *world) gatewaySteps() []step {
	all := w.theGateways()
	near, nearEdge, far, farEdge := all[0], all[1], all[2], all[3]
	both := []instance{near, nearEdge}
	// Sidecars of Consul do not look at the health of gateways, and in mode local
	// not at all at those of the other datacenter.
	failing := map[int]func(view) view{
		0: noPath(0, remoteGateway, "GATEWAYS_FAILING"), 1: noPath(0, localGateway, "GATEWAYS_FAILING"),
		3: noPath(1, remoteGateway, "GATEWAYS_FAILING"),
	}
	without := map[int]func(view) view{
		0: noPath(0, "", "NO_GATEWAY"), 1: noPath(0, localGateway, "NO_GATEWAY"), 3: noPath(1, "", "NO_GATEWAY"),
	}
	return []step{{
		name: "all pass", change: func(*testing.T) {}, want: served, at: both,
	}, {
		name: "one of dc2 warns", change: func(t *testing.T) { farEdge.check("warning").register(t) }, want: served, at: both,
	}, {
		name:   "one of dc2 is critical",
		change: func(t *testing.T) { farEdge.check("critical").register(t) }, want: served, at: both,
		differs: gatewayHealth,
		apply:   map[int]func(view) view{0: unhealthy("198.51.100.2"), 3: unhealthy("198.51.100.2")},
	}, {
		name:   "one of dc1 is critical too",
		change: func(t *testing.T) { nearEdge.check("critical").register(t) }, want: served, at: both,
		differs: gatewayHealth,
		apply: map[int]func(view) view{
			0: unhealthy("198.51.100.2"), 1: unhealthy("10.1.0.2"), 3: unhealthy("198.51.100.2"),
		},
	}, {
		name:   "all of dc2 are critical",
		change: func(t *testing.T) { far.deregister(t) }, want: cutOff, at: both,
		differs: gatewayHealth, apply: failing,
		names: map[string]func(names) names{gatewayHealth: w.failing},
	}, {
		name:   "none in dc2",
		change: func(t *testing.T) { farEdge.deregister(t) }, want: cutOff, at: both,
		differs: noGateway, apply: without,
		names: map[string]func(names) names{noGateway: w.withoutGateway},
	}, {
		name: "two in dc2 again, one of them with a hostname",
		change: func(t *testing.T) {
			far.register(t)
			gateway(w.dc2, "dc2-edge", "edge", "edge", "10.2.0.2", hostname).register(t)
			nearEdge.deregister(t)
		},
		want: served, at: both[:1],
		names: map[string]func(names) names{hostnameGateway: w.withAddress},
	}, {
		name: "none in dc1", change: func(t *testing.T) { near.deregister(t) }, want: cutOffHere,
		differs: noGateway,
		apply:   map[int]func(view) view{1: noPath(0, "", "NO_GATEWAY")},
	}}
}

// gatewaysOfAll changes the gateways step by step, and compares after each what
// sidecars are given, and what gateways lead on.
func (w *world) gatewaysOfAll(t *testing.T) {
	to2 := func(name, mode, service, number string) scene {
		return scene{name: name, upstream: toDatacenter(service, "dc2"), mode: mode, there: one(service, number)}
	}
	scenes := []scene{
		to2("remote", "remote", "ga-api", "71"), to2("local", "local", "gb-api", "72"), to2("none", "none", "gc-api", "73"), {
			name: "failover", upstream: to("gd-api"), mode: "remote", here: one("gd-api", "74"), there: one("gd-api", "75"),
			entries: []written{{"service-resolver", "gd-api", object{"Failover": object{"*": object{"Datacenters": []string{"dc2"}}}}}},
		},
	}
	for _, s := range w.gatewaySteps() {
		t.Run(s.name, func(t *testing.T) {
			s.change(t)
			for i := range scenes {
				scenes[i].want, scenes[i].apply, scenes[i].differs = s.want[i], s.apply[i], ""
				if scenes[i].apply != nil {
					scenes[i].differs = s.differs
				}
			}
			w.play(t, "gateway", scenes)
			for _, g := range s.at {
				t.Run("names of "+g.id, func(t *testing.T) { w.compareNames(t, g, s.names) })
			}
		})
	}
}

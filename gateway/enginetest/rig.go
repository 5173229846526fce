package enginetest

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// The names of the suite.
const (
	// Domain is the trust domain.
	Domain = "11111111-2222-3333-4444-555555555555.consul"
	// Service is an exact name with a TLS server behind it, Collector one with a
	// server that returns the bytes it was sent once they have ended.
	Service   = "api.default.dc1.internal." + Domain
	Collector = "collector.default.dc1.internal." + Domain
	// Suffix is a wildcard with the same TLS server.
	Suffix = ".dc2.internal." + Domain
	// Empty is a name without an endpoint, Dead one with one that refuses and
	// one that answers, Gone one whose only endpoint refuses.
	Empty = "empty.default.dc1.internal." + Domain
	Dead  = "dead.default.dc1.internal." + Domain
	Gone  = "gone.default.dc1.internal." + Domain
	// Plain is a name with an endpoint that does what the test does, Talker one
	// with an endpoint that has a conversation drawn from a seed.
	Plain  = "plain.default.dc1.internal." + Domain
	Talker = "talker.default.dc1.internal." + Domain
	// Probe is a name without a route.
	Probe = "probe.default.dc1.internal." + Domain
)

// Setup is what an engine is started with.
type Setup struct {
	// Names leads each server name, Wildcards each suffix (with its leading
	// dot), to endpoints of equal weight.
	Names, Wildcards map[string][]netip.AddrPort
	// HelloTimeout is the time for a hello.
	HelloTimeout time.Duration
}

// Rig is an engine under test.
type Rig struct {
	// Start starts an engine and returns where it listens. It ends the engine
	// with t.Cleanup.
	Start func(t *testing.T, setup Setup) netip.AddrPort
	// Seeds is how many seeded clients are sent. Zero: 40.
	Seeds int
	// Conversations is how many seeded conversations of each kind there are, all at
	// once. Zero: 100.
	Conversations int
	// Settled has conversations begin when both ends are joined: a client does not
	// end or break off before.
	Settled bool
	// Differs says what is seen instead in cases that differ on purpose.
	Differs map[string]string
	// Sometimes says what may be seen instead in cases that are a race.
	Sometimes map[string]string
}

// HelloTimeout is the time for a hello that the suite asks for where it is to pass.
const HelloTimeout = 300 * time.Millisecond

// Run runs the suite on an engine.
func Run(t *testing.T, rig Rig) {
	world := newWorld(t)
	setup := Setup{
		Names: map[string][]netip.AddrPort{
			Service:   {world.tls.address},
			Collector: {world.collector.address},
			Empty:     nil,
			Dead:      {refusing(t), world.tls.address},
			Gone:      {refusing(t)},
			Plain:     {world.plain.address},
			Talker:    {world.talker.address},
		},
		Wildcards: map[string][]netip.AddrPort{Suffix: {world.tls.address}},
	}
	c := &clients{world: world, conversationsAtOnce: cmp.Or(rig.Conversations, 100), settled: rig.Settled}
	// Those that wait for the end of the time for a hello are another engine's, so
	// that a busy machine does not end it for the others.
	setup.HelloTimeout = HelloTimeout
	c.hasty = rig.Start(t, setup)
	setup.HelloTimeout = patience
	c.address = rig.Start(t, setup)
	known := make(map[string]bool)
	run := func(name, want string, client func(*testing.T) string) {
		known[name] = true
		if other, ok := rig.Differs[name]; ok {
			if other == want {
				t.Errorf("%s is listed as different, but is not", name)
			}
			want = other
		}
		t.Run(name, func(t *testing.T) {
			if got := client(t); got != want && got != rig.Sometimes[name] {
				t.Errorf("seen: %s; want: %s", got, want)
			}
		})
	}
	for _, test := range c.cases() {
		run(test.name, test.want, test.client)
	}
	for seed := range cmp.Or(rig.Seeds, 40) {
		name, client := c.seeded(uint64(seed))
		run(name, seenTLS, client)
	}
	for _, name := range append(slices.Sorted(maps.Keys(rig.Differs)), slices.Sorted(maps.Keys(rig.Sometimes))...) {
		if !known[name] {
			t.Errorf("%s is listed as different, but is no case", name)
		}
	}
}

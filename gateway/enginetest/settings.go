package enginetest

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// own is how an idle connection is probed where nothing says otherwise; after a time
// of its own, so that many are not probed at once.
var own = keepalive{on: true, interval: 15, count: 6}

// settings are what an engine does with its sockets.
func (s *suite) settings() []engineTest {
	return []engineTest{
		{"both sockets of a connection are probed", s.keepalive},
		{"idle pairs hold no pipes", s.idlePipes},
		{"big connections are not paced within the datacenter", s.congestion},
	}
}

// Connections to other datacenters are probed as the registration says, all others
// as the engine likes.
func (s *suite) keepalive(t *testing.T) {
	near, far := newEndpoint(t), listenAt(t, "127.0.0.2")
	tab := Setup{Names: names(Service, near.address), Wildcards: names(Suffix, far.address)}.Table()
	tab.Settings.Keepalive = &table.Keepalive{Idle: 33 * time.Second, Interval: 7 * time.Second, Count: 4}
	r := s.start(t, engine.Config{}, tab)
	// By where the engine's socket is connected to.
	wants := make(map[netip.AddrPort]keepalive)
	for _, c := range []struct {
		name string
		to   *endpoint
		want keepalive
	}{
		{"api.default" + Suffix, far, keepalive{true, 33, 7, 4}},
		{Service, near, own},
	} {
		greeting := HelloFor(c.name)
		client := connect(t, r.address)
		client.write(greeting)
		c.to.greeted(t, greeting)
		wants[client.local()], wants[c.to.address] = own, c.want
	}
	for to, want := range wants {
		s.probed(t, to, want)
	}
}

// Of a connection that moves much, the side that is in the own datacenter has the
// congestion control that the engine was told of: the endpoint's, or the client's where
// the route leads to another datacenter. The other side is left as the system has it.
func (s *suite) congestion(t *testing.T) {
	system, other := congestions(t)
	near, far := newEndpoint(t), listenAt(t, "127.0.0.2")
	tab := Setup{Names: names(Service, near.address), Wildcards: names(Suffix, far.address)}.Table()
	r := s.start(t, engine.Config{CongestionControl: other}, tab)
	for _, c := range []struct {
		name                   string
		to                     *endpoint
		wantEndpoint, wantHere string
	}{
		{Service, near, other, system},
		{"api.default" + Suffix, far, system, other},
	} {
		greeting := HelloFor(c.name)
		client := connect(t, r.address)
		client.write(greeting)
		c.to.greeted(t, greeting)
		client.fill(newPattern(1), 64<<20)
		if got := congestionTo(t, c.to.address); got != c.wantEndpoint {
			t.Errorf("%s: the endpoint's side has %s; want %s", c.name, got, c.wantEndpoint)
		}
		if got := congestionTo(t, client.local()); got != c.wantHere {
			t.Errorf("%s: the client's side has %s; want %s", c.name, got, c.wantHere)
		}
	}
}

// probed checks how the engine's connection to an address is probed, or will be.
func (s *suite) probed(t *testing.T, to netip.AddrPort, want keepalive) {
	t.Helper()
	got := func() keepalive {
		k := keepaliveTo(t, to)
		if want == own && 30 <= k.idle && k.idle <= 60 {
			k.idle = 0
		}
		return k
	}
	if slices.Contains(s.options, LateKeepalive) {
		// An idle connection has nothing that could be waited for.
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		late := time.NewTimer(patience)
		defer late.Stop()
		for got() != want {
			select {
			case <-ticker.C:
			case <-late.C:
				t.Fatalf("the connection to %s is probed so: %+v; want %+v", to, got(), want)
			}
		}
	}
	if got() != want {
		t.Errorf("the connection to %s is probed so: %+v; want %+v", to, got(), want)
	}
}

// A pair that has moved a big stream and is idle again holds no pipe: what is pooled
// does not grow with the pairs.
func (s *suite) idlePipes(t *testing.T) {
	to := newEndpoint(t)
	r := s.start(t, engine.Config{}, tableTo(to.address))
	before := pipes(t)
	const pairs = 30
	for seed := range uint64(pairs) {
		client, far := r.join(to)
		wrote := make(chan error, 1)
		const size = 2 << 20
		go func() { wrote <- newPattern(seed).sendTo(client, size) }()
		p := newPattern(seed)
		for left := size; left > 0; {
			b := make([]byte, min(left, chunk))
			n, err := far.Read(b)
			if err == nil {
				err = p.check(b[:n])
			}
			if err != nil {
				t.Fatal(err)
			}
			left -= n
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		client.say("idle now")
		far.hear("idle now")
	}
	if grown := pipes(t) - before; grown > pairs/2 {
		t.Errorf("%d idle pairs hold %d ends of pipes", pairs, grown)
	}
}

// keepalive is how a connection is probed, in seconds.
type keepalive struct {
	on                    bool
	idle, interval, count int
}

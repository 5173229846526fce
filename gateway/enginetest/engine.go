package enginetest

import (
	"cmp"
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Engine is what the suite needs of an engine; gateway.Engine states what it does.
type Engine interface {
	Serve(listener *engine.Listener) error
	Drain(ctx context.Context) (cut uint64)
	Stats() table.EngineStats
}

// Option is how an engine differs from others by its nature.
type Option int

// LateKeepalive means that a connection is probed only when it has been open for some
// time.
const LateKeepalive Option = 1

// suite is what the tests of [RunEngine] have in common.
type suite struct {
	newEngine func(engine.Config) (Engine, error)
	options   []Option
}

// RunEngine runs all that is asked of our own engines: [Run] and [RunTools], and
// beyond that what they state of themselves (records, counters), limits, drain, and
// what they do with endpoints and tables. Every engine that it starts is drained, and
// then everything must add up: each connection accepted has one record, the bytes of
// the records are those of all counters, and no goroutine or descriptor is left.
//
// It counts descriptors of the process, so nothing else may run at the same time.
func RunEngine(t *testing.T, newEngine func(engine.Config) (Engine, error), options ...Option) {
	s := &suite{newEngine, options}
	rig := Rig{Start: func(t *testing.T, setup Setup) netip.AddrPort {
		return s.start(t, engine.Config{HelloTimeout: setup.HelloTimeout}, setup.Table()).address
	}}
	t.Run("conformance", func(t *testing.T) {
		leavesNothing(t)
		Run(t, rig)
	})
	t.Run("tools", func(t *testing.T) { RunTools(t, rig) })
	for _, group := range [][]engineTest{
		s.records(), s.conversations(), s.refusals(), s.limits(), s.places(), s.endpoints(), s.timeouts(), s.breaks(), s.proxies(),
		s.drains(), s.serving(), s.swaps(), s.settings(), s.hostiles(),
	} {
		for _, test := range group {
			t.Run(test.name, func(t *testing.T) {
				leavesNothing(t)
				test.run(t)
			})
		}
	}
}

// engineTest is one test of an engine.
type engineTest struct {
	name string
	run  func(t *testing.T)
}

// running is an engine that listens on loopback until the test ends.
type running struct {
	Engine
	*ledger
	t        *testing.T
	listener *engine.Listener
	address  netip.AddrPort
}

// newListener is a listener on a free port of loopback.
func newListener(t *testing.T, ip string) *engine.Listener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := engine.Adopt(l)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// start starts an engine with one listener. All is audited at the end: against the
// counters of a table, if one is given, which is then the engine's.
func (s *suite) start(t *testing.T, config engine.Config, tab *table.Table) *running {
	t.Helper()
	r := &running{t: t, ledger: newLedger(), listener: newListener(t, "127.0.0.1")}
	config.Record = r.add
	// A busy machine is not to end what the test does not want to end.
	config.HelloTimeout = cmp.Or(config.HelloTimeout, patience)
	if tab == nil || tab.Settings.ConnectTimeout == 0 {
		config.ConnectTimeout = cmp.Or(config.ConnectTimeout, patience)
	}
	if tab != nil {
		config.Table = fixed(tab)
	}
	e, err := s.newEngine(config)
	if err != nil {
		t.Fatal(err)
	}
	r.Engine, r.address = e, r.listener.AddrPort()
	r.serve(r.listener)
	t.Cleanup(func() {
		e.Drain(over())
		r.audit(t, e.Stats(), tab)
	})
	return r
}

// serve serves a listener until the drain.
func (r *running) serve(listener *engine.Listener) {
	served := make(chan error, 1)
	go func() { served <- r.Serve(listener) }()
	r.t.Cleanup(func() {
		r.Drain(over())
		if err := <-served; err != nil {
			r.t.Errorf("Serve: %v", err)
		}
	})
}

// over is a context that has ended.
func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func fixed(t *table.Table) func() *table.Table { return func() *table.Table { return t } }

// tableTo is a table in which Service leads to the addresses.
func tableTo(addresses ...netip.AddrPort) *table.Table {
	return Setup{Names: map[string][]netip.AddrPort{Service: addresses}}.Table()
}

// first always draws the first endpoint of a set.
func first() uint64 { return 0 }

// join is a connection through the engine to an endpoint, after the hello.
func (r *running) join(to *endpoint) (client, far *end) {
	r.t.Helper()
	hello := HelloFor(Service)
	client = connect(r.t, r.address)
	client.write(hello)
	return client, to.greeted(r.t, hello)
}

// once has a connection to an endpoint that ends in order, and returns its record.
func (r *running) once(to *endpoint) *table.Record {
	r.t.Helper()
	client, far := r.join(to)
	client.finish()
	far.hearEnd()
	far.finish()
	client.hearEnd()
	return r.of(r.t, client)
}

// ask sends a hello for Service.
func (r *running) ask() *end {
	r.t.Helper()
	client := connect(r.t, r.address)
	client.write(HelloFor(Service))
	return client
}

// turns bounds how often until asks.
const turns = 10_000

// until has connections refused, one after another, until something is so: an
// engine that goes on with those has gone on with the one before them.
func (r *running) until(what string, so func() bool) {
	r.t.Helper()
	for range turns {
		if so() {
			return
		}
		probe := connect(r.t, r.address)
		probe.write(HelloFor(Probe))
		probe.closes("alert 112, closed")
		probe.breakOff()
		r.of(r.t, probe)
	}
	r.t.Fatalf("after %d connections it is not so that %s", turns, what)
}

// leavesNothing checks at the end of a test that no goroutine and no descriptor is
// left. It comes first, so that it is checked last.
func leavesNothing(t *testing.T) {
	before, running := descriptors(t), goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, running)
		after := descriptors(t)
		for _, kind := range slices.Sorted(maps.Keys(after)) {
			if after[kind] > before[kind] {
				t.Errorf("%d descriptors of kind %s; before the test they were %d", after[kind], kind, before[kind])
			}
		}
	})
}

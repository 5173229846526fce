package oracle_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/resolver"
	"github.com/isthmus-mesh/isthmus/watcher"
	consulsource "github.com/isthmus-mesh/isthmus/watcher/consul"
)

// patience is what only a failure waits for.
const patience = time.Minute

// world is two federated datacenters as both sides see them.
type world struct {
	dc1, dc2    *devagent.Agent
	trustDomain string
	log         bus.Log
	// fresh reads a datacenter from Consul, apart from what follows it.
	fresh map[string]*consulsource.Source
	// catalogs and routes are the logs' states.
	catalogs map[string]*state
	routes   *state
	// met are the intended differences that cases have met.
	met sync.Map
}

// newWorld starts two datacenters, and follows both into the routes of dc1.
func newWorld(t *testing.T, template devagent.Config) *world {
	t.Helper()
	template.LogLevel = "warn"
	agents := agenttest.StartFederation(t, template, "dc1", "dc2")
	w := &world{
		dc1: agents[0], dc2: agents[1], log: memlog.New(memlog.Options{}).Connect("oracle"),
		fresh: map[string]*consulsource.Source{}, catalogs: map[string]*state{},
	}
	var err error
	if w.trustDomain, err = w.dc1.TrustDomain(t.Context()); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	for _, agent := range agents {
		w.watch(t, agent, logger)
		stream := isthmusv1.StreamName(isthmusv1.ClassCatalog, agent.Datacenter)
		w.catalogs[agent.Datacenter] = follow(t, w.log, stream)
	}
	w.resolve(t, logger)
	w.routes = follow(t, w.log, isthmusv1.StreamName(isthmusv1.ClassRoutes, "dc1"))
	return w
}

// part runs a part until the test ends.
func part(t *testing.T, name string, run func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s ended: %v", name, err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
}

// watch keeps the catalog of an agent's datacenter, as `isthmus watcher` does.
func (w *world) watch(t *testing.T, agent *devagent.Agent, logger *slog.Logger) {
	t.Helper()
	source := func() *consulsource.Source {
		client, err := consul.Open(consul.Options{Address: agent.HTTP, Environment: func(string) string { return "" }})
		if err != nil {
			t.Fatal(err)
		}
		source, err := consulsource.New(consulsource.Options{
			Client: client, Datacenter: agent.Datacenter, Logger: logger,
			ListInterval: 20 * time.Millisecond, PollInterval: 250 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		return source
	}
	w.fresh[agent.Datacenter] = source()
	kept, err := watcher.New(watcher.Config{
		Datacenter: agent.Datacenter, Source: source(), Writer: bus.WriterConfig{Log: w.log, Owner: "watcher"}, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	part(t, "the watcher of "+agent.Datacenter, kept.Run)
}

// resolve keeps the routes of dc1, as `isthmus resolver` does.
func (w *world) resolve(t *testing.T, logger *slog.Logger) {
	t.Helper()
	writer, err := bus.NewWriter(bus.WriterConfig{
		Log: w.log, Stream: isthmusv1.StreamName(isthmusv1.ClassRoutes, "dc1"), Owner: "resolver",
		RulesVersion: resolver.RulesVersion, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	machine := resolver.New("dc1")
	emitter := bus.NewEmitter(bus.EmitterConfig{Writer: writer, All: machine.All, Ready: func() ([]bus.Put, bool) {
		update := machine.Ready()
		if update == nil {
			return nil, false
		}
		var puts []bus.Put
		for _, c := range update.Changes {
			puts = append(puts, bus.Put{Key: c.Key, Value: c.Value})
		}
		return puts, true
	}})
	drive := &bus.Drive{
		Log: w.log, Streams: []string{isthmusv1.StreamName(isthmusv1.ClassCatalog, "dc1")}, Discover: isthmusv1.ClassCatalog,
		Machine:       bus.MachineFunc(func(tx *isthmusv1.Transaction) { history.Feed(machine, tx) }),
		Emit:          emitter.Emit,
		Wake:          emitter.Wake(),
		Logger:        logger,
		DiscoverEvery: 20 * time.Millisecond,
	}
	part(t, "the resolver's writer", writer.Run)
	part(t, "the resolver's emitter", emitter.Run)
	part(t, "the resolver", drive.Run)
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/gateway/engine"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// State is what a gateway is doing, as reports and metrics name it.
type State string

// The states.
const (
	// StateStarting: there is no whole table yet, and nothing is accepted.
	StateStarting State = "starting"
	// StateServing: the routes stream was caught up with.
	StateServing State = "serving"
	// StateSaved: served by the table of the state directory, as the routes
	// stream was not caught up with yet.
	StateSaved State = "serving saved table"
	// StateDraining: nothing is accepted any more.
	StateDraining State = "draining"
)

// Gateway is the service. It is made by [New] and run once.
type Gateway struct {
	cfg    Config
	feed   *Feed
	engine Engine
	log    *accessLog
	drive  *bus.Drive
	report *bus.Reporter

	// made is when it was made; its counters count from then on. adminAt is where
	// its admin server is; nil: where the configuration says.
	made    time.Time
	adminAt atomic.Pointer[string]
	// accepting, draining and handedOver are set once each.
	accepting, draining, handedOver atomic.Bool
	mu                              sync.Mutex // guards the one that follows
	told                            *isthmusv1.GatewayStatus
	listeners                       listenerSet

	// toldNotHonoured and toldProblems are what was logged last; tend's own.
	toldNotHonoured string
	toldProblems    []string

	// whole is closed when there is a table, and all else that the serving needs.
	whole chan struct{}
	// newBinds gets a token when the registration may say other addresses.
	newBinds chan struct{}
	// newHosts gets a token when host names may be needed that were not before.
	newHosts chan struct{}
}

// New makes a gateway. The error joins all that is wrong with the configuration.
func New(cfg Config) (*Gateway, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg:      cfg,
		made:     time.Now(),
		feed:     NewFeed(cfg.Ejection),
		log:      newAccessLog(cfg),
		whole:    make(chan struct{}),
		newHosts: make(chan struct{}, 1),
		newBinds: make(chan struct{}, 1),
	}
	if cfg.Proxy != "" {
		g.feed.Follow(cfg.Proxy)
	}
	limits := cfg.Limits
	limits.Table, limits.Logger = g.feed.Table, cfg.Logger
	if g.log.wanted() {
		limits.Record = g.log.add
	}
	if limits.CongestionControl, err = engine.CongestionControl(cfg.CongestionControl); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if g.engine, err = cfg.NewEngine(limits); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g.report, err = bus.NewReporter(bus.ReporterConfig{
		Log: cfg.Log, Datacenter: cfg.Datacenter, Role: "gateway", Name: cfg.Name, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g.drive = &bus.Drive{
		Log:     cfg.Log,
		Streams: []string{isthmusv1.StreamName(isthmusv1.ClassRoutes, cfg.Datacenter)},
		Machine: g.feed,
		Logger:  cfg.Logger,
		// The registerer gets the drive's own metrics too.
		Registerer: cfg.Registerer,
	}
	return g, nil
}

// Run serves until ctx ends or a successor has taken over, drains, and returns
// nil or [ErrHandedOver]; any other error is what went wrong. It calls started
// once its addresses are bound, or at once if its registration says them. When it
// returns, every goroutine, listener and connection of the gateway is gone.
func (g *Gateway) Run(ctx context.Context, started func()) error {
	g.loadSaved()
	var predecessor *handover
	if !g.byRegistration() {
		listeners, running, err := g.gather(ctx)
		if err != nil {
			return err
		}
		g.listeners.set(listeners, nil)
		predecessor = running
	}
	unregister, err := g.register()
	if err != nil {
		closeAll(g.listeners.all(), predecessor)
		return err
	}
	defer unregister()
	// Records and tables are taken until the last connection has ended.
	background, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	var workers sync.WaitGroup
	failed := make(chan error, 1)
	workers.Go(func() { g.log.run(background) })
	workers.Go(func() { g.resolveHosts(background) })
	workers.Go(func() { g.tend(background) })
	workers.Go(func() { _ = g.report.Run(background) })
	workers.Go(func() {
		if err := g.drive.Run(background); background.Err() == nil {
			fail(failed, fmt.Errorf("gateway: %w", err))
		}
	})
	if started != nil {
		started()
	}
	err = g.serve(ctx, predecessor, failed, &workers)
	stop(errStopped)
	workers.Wait()
	return err
}

// errStopped is the cause with which the workers end.
var errStopped = errors.New("the gateway has stopped")

// fail reports a failure, of which the first ends the gateway.
func fail(failed chan<- error, err error) {
	select {
	case failed <- err:
	default:
	}
}

// serve accepts once there is a table, takes over, waits for the end, and
// drains.
func (g *Gateway) serve(ctx context.Context, predecessor *handover, failed chan error, workers *sync.WaitGroup) error {
	select {
	case <-g.whole:
	case err := <-failed:
		closeAll(g.listeners.all(), predecessor)
		return err
	case <-ctx.Done():
		closeAll(g.listeners.all(), predecessor)
		return nil
	}
	if g.byRegistration() {
		var err error
		if predecessor, err = g.gatherRegistered(ctx); err != nil || ctx.Err() != nil {
			closeAll(g.listeners.all(), predecessor)
			return err
		}
	}
	// Without a predecessor, a successor may come from the first connection on;
	// with one, the socket's path stays its own until it has handed over.
	var taken <-chan struct{}
	var stopOffer func()
	if predecessor == nil {
		taken, stopOffer = g.offer(ctx)
	}
	accept := func(l namedListener) { workers.Go(func() { g.accept(l, failed) }) }
	for _, l := range g.listeners.all() {
		accept(l)
	}
	g.accepting.Store(true)
	g.tellStatus()
	g.cfg.Logger.Info("gateway serves", "state", string(g.State()), "addresses", g.Addresses())
	if predecessor != nil {
		if err := predecessor.ready(ctx); err != nil {
			// It is gone: the listeners are here all the same.
			g.cfg.Logger.Warn("the predecessor did not confirm", "err", err)
		}
		taken, stopOffer = g.offer(ctx)
		predecessor.close()
	}
	keepers := g.keep(ctx, accept, predecessor == nil, failed)
	err := g.waitForEnd(ctx, taken, failed)
	stopOffer()
	keepers()
	g.drain()
	return err
}

// keep keeps the listeners and the registration, until the returned function is
// called. Where traffic depends on this process already, since it has taken over,
// a registration that cannot be made ends nothing.
func (g *Gateway) keep(ctx context.Context, accept func(namedListener), alone bool, failed chan<- error) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var keepers sync.WaitGroup
	if g.byRegistration() {
		keepers.Go(func() { g.followBinds(ctx, accept) })
	}
	if g.cfg.Registrar != nil {
		keepers.Go(func() {
			err := g.cfg.Registrar.Keep(ctx, g.feed.Narrow)
			switch {
			case err == nil || ctx.Err() != nil:
			case alone:
				fail(failed, fmt.Errorf("gateway: %w", err))
			default:
				g.cfg.Logger.Error("the gateway is not registered", "err", err)
			}
		})
	}
	return func() {
		cancel()
		keepers.Wait()
	}
}

// waitForEnd waits for one of three things: the context's end, a successor, a
// failure.
func (g *Gateway) waitForEnd(ctx context.Context, taken <-chan struct{}, failed <-chan error) error {
	select {
	case <-ctx.Done():
		return nil
	case <-taken:
		g.handedOver.Store(true)
		if g.cfg.OnHandedOver != nil {
			g.cfg.OnHandedOver()
		}
		return ErrHandedOver
	case err := <-failed:
		return err
	}
}

// drain lets connections end.
func (g *Gateway) drain() {
	g.draining.Store(true)
	g.tellStatus()
	g.withdraw()
	g.cfg.Logger.Info("gateway drains", "open", g.engine.Stats().Open, "deadline", g.cfg.DrainTimeout)
	deadline, cancel := context.WithTimeout(context.Background(), g.cfg.DrainTimeout)
	defer cancel()
	if cut := g.engine.Drain(deadline); cut > 0 {
		g.cfg.Logger.Warn("the drain ended before all connections did", "cut", cut)
	}
}

// Addresses returns where the gateway listens; nothing before it does.
func (g *Gateway) Addresses() []string {
	var out []string
	for _, l := range g.listeners.all() {
		out = append(out, l.Addr().String())
	}
	return out
}

// Feed returns the feed, for whoever wants to see the table.
func (g *Gateway) Feed() *Feed { return g.feed }

// Engine returns the engine, for its counters.
func (g *Gateway) Engine() Engine { return g.engine }

// State returns what the gateway is doing.
func (g *Gateway) State() State {
	if g.draining.Load() {
		return StateDraining
	}
	if !g.accepting.Load() {
		return StateStarting
	}
	if _, savedAt := g.feed.Whole(); !savedAt.IsZero() {
		return StateSaved
	}
	return StateServing
}

// Waiting says in a sentence why the gateway is not ready; nothing when it is. A
// gateway that serves by its saved table is ready: [Gateway.State] and
// [Gateway.SavedAge] say so.
func (g *Gateway) Waiting() string {
	switch g.State() {
	case StateServing, StateSaved:
		return ""
	case StateDraining:
		return "draining"
	}
	if err := g.drive.Ready(); err != nil {
		return err.Error()
	}
	if why := g.whyNoBinds(); g.byRegistration() && why != "" {
		return why
	}
	return "binding its addresses"
}

// SavedAge is how old the table is if it came from the state directory, and 0
// otherwise.
func (g *Gateway) SavedAge(now time.Time) time.Duration {
	_, savedAt := g.feed.Whole()
	if savedAt.IsZero() {
		return 0
	}
	return max(now.Sub(savedAt), time.Nanosecond)
}

package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// Sidecar serves one proxy. See [New].
type Sidecar struct {
	cfg   Config
	log   *slog.Logger
	live  *identity.Live
	drive *bus.Drive

	// machine is used by one goroutine: Run's, then the drive's.
	machine *Machine
	// state is nil until there is something to serve.
	state atomic.Pointer[state]
	// saved is when the state that is served was saved; nil once it is the bus's.
	saved atomic.Pointer[time.Time]
	// building guards the builder.
	building sync.Mutex
	builder  *builder
	counters *counterTable
	hosts    *hostTable

	// changed wakes whoever brings the listeners in line; names carries whose
	// identity is needed.
	changed chan struct{}
	names   chan identity.Name

	listeners listenerSet
	open      atomic.Int64
	conns     sync.WaitGroup

	ready     chan struct{}
	readyOnce sync.Once
	mu        sync.Mutex
	// trouble is why there is no newer view; nil when there is.
	trouble error
}

// New makes a sidecar; [Sidecar.Run] runs it.
func New(config Config) (*Sidecar, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	s := &Sidecar{
		cfg:      config.withDefaults(),
		live:     identity.NewLive(config.Clock),
		machine:  NewMachine(config.Proxy),
		counters: newCounterTable(),
		changed:  make(chan struct{}, 1),
		names:    make(chan identity.Name, 1),
		ready:    make(chan struct{}),
	}
	s.log = s.cfg.Logger
	s.hosts = newHostTable(s.cfg.LookupHost)
	s.builder = newBuilder(s.counters, s.hosts.addresses)
	s.drive = &bus.Drive{
		Log:     s.cfg.Log,
		Streams: []string{isthmusv1.StreamName(isthmusv1.ClassRoutes, s.cfg.Datacenter)},
		Machine: s.machine,
		Emit:    s.emit,
		Logger:  s.log,
	}
	return s, nil
}

// Run serves until ctx ends; then it closes its listeners, lets connections go
// on for the drain timeout, breaks those that are left, and returns ctx's cause.
// Other errors are of the start: [ErrAmbiguous], [ErrNotSidecar], metrics that
// cannot be registered.
func (s *Sidecar) Run(ctx context.Context) error {
	if s.cfg.Registerer != nil {
		c := collector{s}
		if err := s.cfg.Registerer.Register(c); err != nil {
			return fmt.Errorf("sidecar: metrics: %w", err)
		}
		defer s.cfg.Registerer.Unregister(c)
	}
	if err := s.restore(); err != nil {
		s.log.WarnContext(ctx, "saved state was not used", "err", err)
	}
	work, stop := context.WithCancelCause(ctx)
	conns, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	var group sync.WaitGroup
	group.Go(func() { stop(s.drive.Run(work)) })
	group.Go(func() { s.followIdentity(work) })
	group.Go(func() { s.hosts.run(work, s.hostsChanged) })
	group.Go(func() { s.keepListeners(work, conns) })
	<-work.Done()
	group.Wait()
	s.listeners.closeAll()
	s.drain(cut)
	return context.Cause(work)
}

// drain waits for the connections, and breaks those that take too long.
func (s *Sidecar) drain(cut context.CancelCauseFunc) {
	timer := time.AfterFunc(s.cfg.DrainTimeout, func() { cut(errDrained) })
	defer timer.Stop()
	s.conns.Wait()
}

// emit takes over what the machine has become.
func (s *Sidecar) emit(ctx context.Context, _ *isthmusv1.Basis) error {
	current := s.state.Load()
	if !s.machine.Stale() {
		if current != nil {
			s.state.Store(current.at(s.machine.Position()))
			s.report()
		}
		return nil
	}
	view, err := s.machine.View()
	s.setTrouble(err)
	switch {
	case err == nil:
		s.saved.Store(nil)
		s.serve(view)
		s.save(ctx)
	case current == nil && !errors.Is(err, ErrNoProxy):
		return err
	case current == nil:
		s.log.WarnContext(ctx, "the routes hold nothing to serve yet", "err", err)
	default:
		s.log.WarnContext(ctx, "the routes hold nothing to serve; what was served stays", "err", err)
	}
	return nil
}

// serve makes the view the one that connections are served by.
func (s *Sidecar) serve(view *View) {
	s.building.Lock()
	next := s.builder.build(view)
	s.hosts.want(s.builder.hostNames())
	s.building.Unlock()
	s.sayProblems(s.state.Load(), next)
	s.state.Store(next)
	name := identity.Name{Service: view.Proxy.GetService(), Datacenter: s.cfg.Datacenter}
	select {
	case <-s.names:
	default:
	}
	s.names <- name
	s.wake()
	s.report()
}

func (s *Sidecar) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Sidecar) hostsChanged() {
	s.building.Lock()
	defer s.building.Unlock()
	s.builder.refill()
}

// followIdentity follows the identity of the service that the proxy stands for.
// When that becomes another service, the identity before is not used any more.
func (s *Sidecar) followIdentity(ctx context.Context) {
	var current string
	var following sync.WaitGroup
	stop := context.CancelFunc(func() {})
	defer func() {
		stop()
		following.Wait()
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case name := <-s.names:
			if name.String() == current {
				continue
			}
			stop()
			following.Wait()
			if current != "" {
				s.live.Forget()
			}
			current = name.String()
			one, cancel := context.WithCancel(ctx)
			stop = cancel
			following.Go(func() { s.followOne(one, name) })
		}
	}
}

func (s *Sidecar) followOne(ctx context.Context, name identity.Name) {
	err := s.cfg.Identity.Follow(ctx, name, s.takeIdentity)
	if ctx.Err() == nil {
		s.takeIdentity(nil, fmt.Errorf("the source of identities ended: %w", err))
	}
}

func (s *Sidecar) takeIdentity(i *identity.Identity, err error) {
	s.live.Take(i, err)
	switch st := s.state.Load(); {
	case err != nil && s.live.Current() == nil:
		s.log.Warn("no identity yet", "err", err)
	case err != nil:
		s.log.Warn("no newer identity; the last one stays", "err", err)
	case st != nil && st.view.Proxy.GetSpiffeId() != i.URI().String():
		s.log.Warn("the identity is not the one that peers expect; is it of the same trust domain?",
			"identity", i, "expected", st.view.Proxy.GetSpiffeId())
	default:
		s.log.Debug("identity", "identity", i)
	}
	s.wake()
	s.report()
}

// Ready is closed when the sidecar serves for the first time: its routes are
// whole, it has a leaf, and all its listeners are open.
func (s *Sidecar) Ready() <-chan struct{} { return s.ready }

// Waiting says in a sentence what the sidecar waits for; empty once it serves.
func (s *Sidecar) Waiting() string {
	select {
	case <-s.ready:
		return ""
	default:
	}
	st := s.state.Load()
	if st == nil {
		if err := s.getTrouble(); err != nil {
			return err.Error()
		}
		if err := s.drive.Ready(); err != nil {
			return err.Error()
		}
		return "the routes have not been read"
	}
	if s.live.Current() == nil {
		return fmt.Sprintf("no identity for %s: %v", st.view.Proxy.GetService().Qualified(), s.live.Trouble())
	}
	if failed := s.listeners.failures(); len(failed) > 0 {
		return failed[0].GetText()
	}
	return "its listeners are not open yet"
}

func (s *Sidecar) setTrouble(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = err
}

func (s *Sidecar) getTrouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

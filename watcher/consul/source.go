package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/watcher"
)

// Intervals, unless Options say otherwise.
const (
	// DefaultListInterval is the shortest time between two answers of a list that
	// costs Consul the whole catalog.
	DefaultListInterval = time.Second
	// DefaultPollInterval is how often is asked what cannot block.
	DefaultPollInterval = 10 * time.Second
	// DefaultWait is how long a query blocks: short enough to notice within it that
	// an agent has gone without a word.
	DefaultWait = 2 * time.Minute
)

// plainLimit is how many nodes are followed one by one where each query takes a
// connection of its own: an agent takes 200 from one address.
const plainLimit = 120

// Options say which datacenter to follow, and through which agent.
type Options struct {
	Client *consul.Client
	// Datacenter must be the agent's own. Empty: whichever it is.
	Datacenter string
	// ListInterval, PollInterval and Wait: 0 is their default.
	ListInterval, PollInterval, Wait time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Source is a Consul datacenter as a [watcher.Source].
type Source struct {
	client     *consul.Client
	datacenter string
	list, poll time.Duration
	wait       time.Duration
	log        *slog.Logger

	// refresh asks for the list of nodes out of turn.
	refresh chan struct{}

	mu   sync.Mutex // guards what follows
	sink watcher.Sink
	// facts is what the agent said of itself last; nil: nothing yet.
	facts *consul.Self
	// selfDenied: the agent may not be asked now.
	selfDenied bool
	// accessControl is on, as far as is known.
	accessControl bool
	// nodes are those that are followed; known is false until the list was read.
	nodes map[string]*follower
	known bool
	// veiled is why the list of nodes may not be whole.
	veiled string
	// queries are the prepared queries that the upstreams of each node name.
	queries map[string][]string
	// heads are the highest indexes that were seen, by table.
	heads map[string]uint64
	// asking ends when every query is to be asked anew.
	asking        context.Context
	endGeneration context.CancelFunc
	// restarted is when that happened last.
	restarted time.Time
	// hidden is why scopes are not shown whole; failing why they cannot be read.
	hidden  map[string]string
	failing map[string]error
}

var _ watcher.Source = (*Source)(nil)

// ErrOtherDatacenter says that the agent belongs to another datacenter than the one to
// be followed: no waiting heals that.
var ErrOtherDatacenter = errors.New("the agent belongs to another datacenter")

// New returns a source that asks nothing until [Source.Run].
func New(o Options) (*Source, error) {
	if o.Client == nil {
		return nil, errors.New("a Consul datacenter as a source needs a client")
	}
	asking, end := context.WithCancel(context.Background())
	return &Source{
		heads: map[string]uint64{}, asking: asking, endGeneration: end,
		client: o.Client, datacenter: o.Datacenter,
		list: cmp.Or(o.ListInterval, DefaultListInterval), poll: cmp.Or(o.PollInterval, DefaultPollInterval),
		wait: cmp.Or(o.Wait, DefaultWait), log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)).With("consul", o.Client.URL()),
		refresh: make(chan struct{}, 1), nodes: map[string]*follower{}, queries: map[string][]string{},
		hidden: map[string]string{}, failing: map[string]error{},
	}, nil
}

// Run follows the datacenter until the context ends, and returns its cause.
// Possible error: [ErrOtherDatacenter].
func (s *Source) Run(ctx context.Context, sink watcher.Sink) error {
	s.mu.Lock()
	s.sink = sink
	s.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel(nil)
	// Whether access control is on decides what a missing row means, so it is
	// known before anything else is read.
	if err := s.learnFacts(ctx); err != nil {
		return err
	}
	for _, kind := range consul.EntryKinds() {
		group.Go(func() { s.follow(ctx, s.entriesQuery(kind)) })
	}
	group.Go(func() { s.follow(ctx, s.rootsQuery()) })
	group.Go(func() { s.pollOften(ctx, cancel) })
	group.Go(func() { s.followNodes(ctx, &group) })
	<-ctx.Done()
	return context.Cause(ctx)
}

// learnFacts asks the agent about itself until it answers, or refuses.
func (s *Source) learnFacts(ctx context.Context) error {
	pause := newBackoff()
	for {
		err := s.readSelf(ctx)
		if err == nil || errors.Is(err, ErrOtherDatacenter) {
			return err
		}
		s.failed(ctx, scopeFacts, err)
		if !pause.wait(ctx, err) {
			return context.Cause(ctx)
		}
	}
}

// tellScopes says which scopes there are. With mu held.
func (s *Source) tellScopes() {
	if s.sink == nil || !s.known {
		return
	}
	names := []string{scopeFacts, scopeNodes, scopeQueries, scopeRoots}
	for _, kind := range consul.EntryKinds() {
		names = append(names, scopeConfig+kind)
	}
	for name := range s.nodes {
		names = append(names, scopeNode+name)
	}
	slices.Sort(names)
	s.sink.Scopes(names)
}

// present hands over a scope, and takes note of what it hides.
func (s *Source) present(state watcher.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(state)
	s.seen(state)
	s.sink.Present(state)
}

// note keeps why a scope is not shown whole, and says it when that changes. With
// mu held.
func (s *Source) note(state watcher.State) {
	if s.hidden[state.Scope] == state.Partial {
		return
	}
	if state.Partial == "" {
		delete(s.hidden, state.Scope)
		s.log.Info("all of the scope is shown again", "scope", state.Scope)
		return
	}
	s.hidden[state.Scope] = state.Partial
	s.log.Warn("a part of the scope may not be shown: what is missing keeps its last good value", "scope", state.Scope, "why", state.Partial)
}

// failed takes note that a scope cannot be read now. What access control denies is
// not among that: the agent is there.
func (s *Source) failed(ctx context.Context, scope string, err error) {
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.failing)
	s.failing[scope] = err
	if before == 0 {
		s.sink.Live(err)
	}
}

// succeeded takes note that a scope was read.
func (s *Source) succeeded(scope string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, was := s.failing[scope]
	delete(s.failing, scope)
	if len(s.failing) == 0 && s.known {
		s.sink.Live(nil)
		return
	}
	if was {
		s.log.Debug("the scope is read again", "scope", scope)
	}
}

// Trouble is one thing that a source cannot see.
type Trouble struct {
	// Scope and why it is not shown whole, or not at all.
	Scope, Why string
}

// Hidden is what is not shown whole, by scope.
func (s *Source) Hidden() []Trouble {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Trouble
	for _, scope := range slices.Sorted(maps.Keys(s.hidden)) {
		out = append(out, Trouble{Scope: scope, Why: s.hidden[scope]})
	}
	return out
}

// centralConfig reports whether agents merge config entries into what they
// register.
func (s *Source) centralConfig() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.facts == nil || s.facts.CentralConfig
}

// accessControlled reports whether access control is on.
func (s *Source) accessControlled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accessControl
}

// denied is the reason of a state that access control keeps from being read.
func denied(err error) string { return fmt.Sprintf("access denied: %s", err) }

package consul

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/watcher"
)

// follower is what follows one node. Where nodes are read all at once, it follows
// nothing.
type follower struct {
	ctx  context.Context // nil: it is not followed by itself
	stop context.CancelFunc
}

// readAtOnce is how many queries read the whole catalog side by side.
const readAtOnce = 16

// readNodes lists the nodes, as the scope that says whether all are known.
func (s *Source) readNodes(ctx context.Context, q consul.Query) ([]string, watcher.State, error) {
	names, answer, err := s.client.Nodes(ctx, q)
	state := watcher.State{Scope: scopeNodes, Index: answer.Index, Covers: s.coversUnlisted}
	if err != nil {
		state, err = refused(state, err)
		return nil, state, err
	}
	state.Partial = answer.Partial(s.accessControlled())
	return names, state, nil
}

// coversUnlisted reports of a key whether it belongs to a node that is not known,
// which a list with rows missing may have hidden.
func (s *Source) coversUnlisted(key isthmusv1.Key) bool {
	node := onNode(key)
	if node == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.nodes {
		if strings.EqualFold(name, node) {
			return false
		}
	}
	return true
}

// followNodes follows the list of nodes, and each node that is on it.
func (s *Source) followNodes(ctx context.Context, group *sync.WaitGroup) {
	var (
		index uint64
		said  string
		first = true
	)
	pause, generation := newBackoff(), s.generation()
	for ctx.Err() == nil {
		if generation.Err() != nil {
			generation, index = s.generation(), 0
		}
		began := time.Now()
		names, state, err := s.listNodes(ctx, consul.Query{Index: index, Wait: jitter(s.waitFor(said)), Consistency: consul.Stale})
		if generation.Err() != nil {
			continue
		}
		if err != nil {
			index = 0
			s.failed(ctx, scopeNodes, err)
			pause.wait(ctx, err)
			continue
		}
		s.setNodes(ctx, group, names, state.Partial)
		s.succeeded(scopeNodes)
		if first || state.Partial != said {
			s.present(state)
			first, said = false, state.Partial
		}
		if state.Index == 0 {
			pause.wait(ctx, errNoIndex)
			continue
		}
		pause.reset()
		if state.Index <= index {
			index = 0
		} else {
			index = max(state.Index, 1)
		}
		if !sleep(ctx, s.list-time.Since(began)) {
			return
		}
	}
}

// listNodes waits until the list of nodes may have changed, or somebody has met a
// node that is not there.
func (s *Source) listNodes(ctx context.Context, q consul.Query) ([]string, watcher.State, error) {
	s.mu.Lock()
	bulk := s.bulk()
	s.mu.Unlock()
	if bulk {
		return s.readAll(ctx, q)
	}
	ask, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer func() { <-done }()
	woken := false
	go func() {
		defer close(done)
		select {
		case <-s.refresh:
			woken = true
			cancel()
		case <-ask.Done():
		}
	}()
	names, state, err := s.readNodes(ask, q)
	cancel()
	<-done
	if err != nil && woken && ctx.Err() == nil {
		return s.readNodes(ctx, consul.Query{Consistency: consul.Stale})
	}
	return names, state, err
}

// askForNodes wakes the list of nodes.
func (s *Source) askForNodes() {
	select {
	case s.refresh <- struct{}{}:
	default:
	}
}

// bulk reports whether nodes are read all at once: there are more of them than an
// agent takes connections, and each blocking query would need one. With mu held.
func (s *Source) bulk() bool {
	return !s.client.Multiplexed() && len(s.nodes) > plainLimit
}

// readAll reads every node with one query, and hands each over as its scope. Its
// answers cost Consul the whole catalog; whoever calls it keeps to the interval of
// lists.
func (s *Source) readAll(ctx context.Context, q consul.Query) ([]string, watcher.State, error) {
	nodes, answer, err := s.client.AllNodes(ctx, q, s.centralConfig())
	list := watcher.State{Scope: scopeNodes, Index: answer.Index, Covers: s.coversUnlisted}
	if err != nil {
		list, err = refused(list, err)
		return nil, list, err
	}
	list.Partial = answer.Partial(s.accessControlled())
	names := make([]string, 0, len(nodes))
	for _, node := range nodes {
		state := s.nodeState(node)
		state.Index, state.Partial, state.After = answer.Index, list.Partial, q.Index
		s.present(state)
		names = append(names, node.Node.GetName())
	}
	slices.Sort(names)
	return names, list, nil
}

// setNodes begins to follow the nodes that are new, and ends with those that are
// gone. Where the list may not be whole, none is.
func (s *Source) setNodes(ctx context.Context, group *sync.WaitGroup, names []string, veiled string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := !s.known || s.veiled != veiled
	s.known, s.veiled = true, veiled
	listed := make(map[string]bool, len(names))
	for _, name := range names {
		listed[name] = true
		if s.nodes[name] == nil {
			s.nodes[name] = &follower{stop: func() {}}
			changed = true
		}
	}
	for name, f := range s.nodes {
		if !listed[name] && veiled == "" {
			f.stop()
			s.forget(name)
			changed = true
		}
	}
	bulk := s.bulk()
	if bulk && changed {
		s.log.Warn("there are more nodes than connections that Consul takes: they are read all at once, later and at a higher cost",
			"nodes", len(s.nodes), "fix", "give the HTTPS address of the agent")
	}
	for name, f := range s.nodes {
		if bulk && f.ctx != nil {
			f.stop()
			f.ctx = nil
		}
		if !bulk && f.ctx == nil {
			f.ctx, f.stop = context.WithCancel(ctx)
			followed := f.ctx
			group.Go(func() { s.follow(followed, s.nodeQuery(name)) })
		}
	}
	if changed {
		s.tellScopes()
	}
}

// forget drops what is known of a node. With mu held.
func (s *Source) forget(name string) {
	delete(s.nodes, name)
	delete(s.queries, name)
	delete(s.hidden, scopeNode+name)
	delete(s.failing, scopeNode+name)
}

// ReadAll implements [watcher.Source].
func (s *Source) ReadAll(ctx context.Context) ([]watcher.State, error) {
	// What the agent says of itself decides how everything else is to be taken.
	first, err := s.readScopes(ctx, []string{scopeFacts})
	if err != nil {
		return nil, err
	}
	names, list, err := s.readNodes(ctx, consul.Query{Consistency: consul.Consistent})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.note(list)
	s.mu.Unlock()
	if list.Partial != "" {
		names = slices.Concat(names, s.followed())
		slices.Sort(names)
		names = slices.Compact(names)
	}
	scopes := []string{scopeRoots}
	for _, kind := range consul.EntryKinds() {
		scopes = append(scopes, scopeConfig+kind)
	}
	for _, name := range names {
		scopes = append(scopes, scopeNode+name)
	}
	states, err := s.readScopes(ctx, scopes)
	if err != nil {
		return nil, err
	}
	// Which prepared queries there are is said by the upstreams of the nodes.
	last, err := s.readScopes(ctx, []string{scopeQueries})
	if err != nil {
		return nil, err
	}
	return slices.Concat(first, []watcher.State{list}, states, last), nil
}

// readScopes reads scopes consistently, several side by side.
func (s *Source) readScopes(ctx context.Context, scopes []string) ([]watcher.State, error) {
	states := make([]watcher.State, len(scopes))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readAtOnce)
	for i, scope := range scopes {
		group.Go(func() (err error) {
			states[i], err = s.Read(ctx, scope)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return states, nil
}

// followed are the nodes that are followed.
func (s *Source) followed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.nodes {
		names = append(names, name)
	}
	return names
}

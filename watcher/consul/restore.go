package consul

import (
	"context"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/watcher"
)

// A restore takes Consul's indexes back, and queries that wait beyond an index of the
// time before then wait in vain: they return neither at the restore nor at
// later changes, until their wait is over. So the indexes that do not block are
// watched, and when one goes back every query is asked anew; as they are when one ends
// early and without progress, which those do that Consul had waiting when it replaced
// its state.

// table is which of Consul's tables gives a scope its index: it is one for all
// nodes, and one for all config entries (agent/consul/state, maxIndexTxn). Empty:
// none that is watched.
func table(scope string) string {
	switch {
	case strings.HasPrefix(scope, scopeNode):
		return scopeNode
	case strings.HasPrefix(scope, scopeConfig):
		return scopeConfig
	}
	return ""
}

// seen takes note of a state's index. With mu held.
func (s *Source) seen(state watcher.State) {
	if t := table(state.Scope); t != "" && len(state.Values) > 0 {
		s.heads[t] = max(s.heads[t], state.Index)
	}
}

// head is the highest index seen so far of the table that gives a scope its own.
func (s *Source) head(scope string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heads[table(scope)]
}

// wentBack reports whether a consistent reading has a lower index than the head
// from before it began: Consul was restored. It is reported once. What was seen
// while the reading was on its way may well be newer.
func (s *Source) wentBack(state watcher.State, before uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(state.Values) == 0 || state.Index >= before || s.heads[table(state.Scope)] < before {
		return false
	}
	clear(s.heads)
	return true
}

// generation ends when every query is to be asked anew.
func (s *Source) generation() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asking
}

// abandoned takes note that a query of a generation ended early without progress. It
// is a sign and no proof: what keeps coming, as from something between here and
// Consul, has everything asked anew no more often than what is polled.
func (s *Source) abandoned(generation context.Context) {
	s.mu.Lock()
	again := generation.Err() == nil && time.Since(s.restarted) >= s.poll
	s.mu.Unlock()
	if again {
		s.log.Warn("Consul let go of a query before its time, as it does at a restore: everything is asked anew")
		s.restart()
	}
}

// restart has every query asked anew.
func (s *Source) restart() {
	s.mu.Lock()
	s.restarted = time.Now()
	end := s.endGeneration
	s.asking, s.endGeneration = context.WithCancel(context.Background())
	s.mu.Unlock()
	end()
	s.askForNodes()
}

// during asks for one thing unless, or until, the generation ends.
func during[T any](ctx, generation context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(generation, cancel)()
	return ask(ctx)
}

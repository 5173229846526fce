package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/watcher"
)

// readSelf asks the agent about itself. What it refuses is taken at its safest:
// access control is on, and the default intention policy is deny. Possible error:
// [ErrOtherDatacenter].
func (s *Source) readSelf(ctx context.Context) error {
	self, err := s.client.Self(ctx)
	if errors.Is(err, consul.ErrDenied) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.accessControl, s.selfDenied = true, true
		if s.facts != nil { // What it said of anything else stays.
			last := *s.facts
			last.DefaultIntentionPolicy = "deny"
			s.facts = &last
		}
		return nil
	}
	if err != nil {
		return err
	}
	if s.datacenter != "" && !strings.EqualFold(s.datacenter, self.Datacenter) {
		return fmt.Errorf("agent at %s is of datacenter %q, not %q: %w", s.client.URL(), self.Datacenter, s.datacenter, ErrOtherDatacenter)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.facts != nil && s.facts.CentralConfig != self.CentralConfig {
		s.log.Warn("the agent's central service config was switched; restart the watcher to take it into account", "on", self.CentralConfig)
		self.CentralConfig = s.facts.CentralConfig
	}
	s.accessControl, s.selfDenied, s.facts = self.ACLsEnabled, false, &self
	return nil
}

// factsState reads what holds for the whole datacenter.
func (s *Source) factsState(ctx context.Context) (watcher.State, error) {
	state := watcher.State{Scope: scopeFacts}
	if err := s.readSelf(ctx); err != nil {
		return state, err
	}
	known, err := s.client.Datacenters(ctx)
	if err != nil {
		return state, err
	}
	facts := &isthmusv1.MeshFacts{Datacenter: s.datacenter, DefaultIntentionPolicy: "deny", CentralConfig: true}
	for _, name := range known {
		facts.KnownDatacenters = append(facts.KnownDatacenters, strings.ToLower(name))
	}
	slices.Sort(facts.KnownDatacenters)
	roots, _, err := s.client.Roots(ctx, consul.Query{})
	switch {
	case err == nil:
		facts.TrustDomain = roots.GetTrustDomain()
	case !errors.Is(err, consul.ErrConnectDisabled):
		return state, err
	}
	s.mu.Lock()
	if s.selfDenied {
		state.Partial = "the agent may not be asked about itself (agent:read): deny is assumed where no intention says otherwise"
	}
	if self := s.facts; self != nil {
		facts.Datacenter = self.Datacenter
		facts.DefaultIntentionPolicy, facts.CentralConfig = self.DefaultIntentionPolicy, self.CentralConfig
		facts.PrimaryDatacenter = strings.ToLower(self.PrimaryDatacenter)
	}
	s.mu.Unlock()
	facts.Datacenter = strings.ToLower(facts.Datacenter)
	state.Values = []watcher.Value{{Key: isthmusv1.MeshFactsKey(), Value: facts, Source: &isthmusv1.Source{Query: scopeFacts}}}
	return state, nil
}

// nameQueries takes note of the prepared queries that a node's upstreams name.
func (s *Source) nameQueries(node string, names []string) {
	slices.Sort(names)
	names = slices.Compact(names)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(names) == 0 {
		delete(s.queries, node)
		return
	}
	s.queries[node] = names
}

// queriesState executes the prepared queries that upstreams name. One that is not
// there has no results; one that cannot be executed keeps its last ones, and stops
// no other.
func (s *Source) queriesState(ctx context.Context) (watcher.State, error) {
	state := watcher.State{Scope: scopeQueries}
	var failed []string
	for _, name := range s.namedQueries() {
		result, err := s.client.PreparedQuery(ctx, name)
		switch {
		case errors.Is(err, consul.ErrNotFound):
			continue
		case ctx.Err() != nil:
			return state, context.Cause(ctx)
		case err != nil:
			failed = append(failed, strings.ToLower(name))
			state.Partial = "a prepared query cannot be executed: " + err.Error()
			continue
		}
		state.Values = append(state.Values, watcher.Value{
			Key: isthmusv1.PreparedQueryKey(name), Value: result, Source: &isthmusv1.Source{Query: scopeQueries},
		})
	}
	veiled := s.upstreamsVeiled()
	if veiled {
		state.Partial = cmp.Or(state.Partial, "upstreams that name prepared queries may not be shown")
	}
	state.Covers = func(key isthmusv1.Key) bool {
		return key.Kind == isthmusv1.KindPreparedQuery && (veiled || slices.Contains(failed, key.Parts()[0]))
	}
	return state, nil
}

// upstreamsVeiled reports whether a node, or what is registered on it, may not be
// shown whole.
func (s *Source) upstreamsVeiled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for scope := range s.hidden {
		if scope == scopeNodes || strings.HasPrefix(scope, scopeNode) {
			return true
		}
	}
	return false
}

func (s *Source) namedQueries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, named := range s.queries {
		names = append(names, named...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// pollOften asks for what cannot block; and for service-defaults, whose stored
// entries Consul's own merge changes without any index to tell of it (reference
// 1.1, the sticky mode); and for exported-services, a list that looks unchanged to
// who may no longer see it, and waits on; and for one node, whose index tells of a
// restore.
func (s *Source) pollOften(ctx context.Context, end context.CancelCauseFunc) {
	for ctx.Err() == nil {
		scopes := []string{scopeFacts, scopeQueries, scopeConfig + isthmusv1.EntryServiceDefaults, scopeConfig + isthmusv1.EntryExportedServices}
		if nodes := s.followed(); len(nodes) > 0 {
			scopes = append(scopes, scopeNode+slices.Min(nodes))
		}
		for _, scope := range scopes {
			before := s.head(scope)
			state, err := s.Read(ctx, scope)
			switch {
			case errors.Is(err, ErrOtherDatacenter):
				end(err)
				return
			case err != nil:
				s.failed(ctx, scope, err)
			case s.wentBack(state, before):
				s.log.Warn("the indexes of Consul have gone back: everything is asked anew", "scope", scope, "index", state.Index)
				s.restart()
			default:
				s.succeeded(scope)
				s.present(state)
			}
		}
		sleep(ctx, jitter(s.poll))
	}
}

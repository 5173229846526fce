package consul

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/watcher"
)

// Names of scopes, and beginnings of names.
const (
	scopeNode    = "node/"
	scopeNodes   = "nodes"
	scopeConfig  = "config/"
	scopeRoots   = "roots"
	scopeFacts   = "facts"
	scopeQueries = "prepared-queries"
)

// query is one blocking query and what its answer comes to.
type query struct {
	scope string
	// consistency of the blocking query; a reading for a write is always
	// consistent.
	consistency consul.Consistency
	// alone: fetch is that one blocking query, and so never shorter than its wait
	// unless there is progress.
	alone bool
	// fetch asks once. A refusal is a state that is partial, not an error.
	fetch func(ctx context.Context, q consul.Query) (watcher.State, error)
}

// entriesQuery reads all config entries of a kind.
func (s *Source) entriesQuery(kind string) query {
	scope := scopeConfig + kind
	covers := func(key isthmusv1.Key) bool { return key.Kind == isthmusv1.KindConfig && key.Parts()[0] == kind }
	return query{scope: scope, consistency: consul.Stale, alone: true, fetch: func(ctx context.Context, q consul.Query) (watcher.State, error) {
		entries, answer, err := s.client.ConfigEntries(ctx, kind, q)
		state := watcher.State{Scope: scope, Index: answer.Index, Covers: covers}
		if err != nil {
			return refused(state, err)
		}
		state.Partial = answer.Partial(s.accessControlled() && !readByAll(kind))
		if kind == isthmusv1.EntryExportedServices && len(entries) == 0 && s.accessControlled() && state.Partial == "" {
			// Without the right this list is empty and does not say that it was filtered;
			// the entry itself is refused.
			if err := s.client.MayReadExportedServices(ctx); errors.Is(err, consul.ErrDenied) {
				state.Partial = denied(err)
			} else if err != nil {
				return watcher.State{}, err
			}
		}
		for _, e := range entries {
			state.Values = append(state.Values, watcher.Value{
				Key: isthmusv1.ConfigKey(kind, e.GetPartition(), e.GetNamespace(), e.GetName()), Value: e,
			})
		}
		return state, nil
	}}
}

// readByAll reports of a kind of config entries whether it is shown to everybody,
// with a token and without (Consul: acl for proxy-defaults and mesh is "none").
func readByAll(kind string) bool {
	return kind == isthmusv1.EntryProxyDefaults || kind == isthmusv1.EntryMesh
}

// rootsQuery reads the roots, which everybody may.
func (s *Source) rootsQuery() query {
	covers := func(key isthmusv1.Key) bool { return key == isthmusv1.RootsKey() }
	return query{scope: scopeRoots, consistency: consul.Stale, alone: true, fetch: func(ctx context.Context, q consul.Query) (watcher.State, error) {
		roots, answer, err := s.client.Roots(ctx, q)
		state := watcher.State{Scope: scopeRoots, Index: answer.Index, Covers: covers}
		switch {
		case errors.Is(err, consul.ErrConnectDisabled):
			// Nothing to trust is stated; what was trusted stays.
			state.Partial = err.Error()
			return state, nil
		case err != nil:
			return refused(state, err)
		}
		state.Values = []watcher.Value{{Key: isthmusv1.RootsKey(), Value: roots}}
		return state, nil
	}}
}

// nodeQuery reads a node and what is registered on it.
func (s *Source) nodeQuery(name string) query {
	scope, memory := scopeNode+name, &consul.NodeMemory{}
	read := func(ctx context.Context, q consul.Query) (watcher.State, error) {
		node, answer, err := s.client.NodeAgain(ctx, name, q, memory, s.centralConfig())
		if err != nil {
			state := watcher.State{Scope: scope, Covers: coversNode(name)}
			if errors.Is(err, consul.ErrNotFound) {
				return s.absent(ctx, name, state)
			}
			return refused(state, err)
		}
		state := s.nodeState(node)
		state.Index, state.Partial = answer.Index, answer.Partial(s.accessControlled())
		return state, nil
	}
	return query{scope: scope, fetch: func(ctx context.Context, q consul.Query) (watcher.State, error) {
		state, err := read(ctx, q)
		if err == nil || ctx.Err() != nil || errors.Is(err, consul.ErrTooMany) {
			return state, err
		}
		q.Index = 0
		if state, err = read(ctx, q); err == nil || ctx.Err() != nil {
			return state, err
		}
		return s.unreadable(ctx, watcher.State{Scope: scope, Covers: coversNode(name)}, err)
	}}
}

// unreadable decides what it means that a node cannot be read: where the agent
// answers otherwise, it is this one node that Consul cannot show, like one whose
// name no path can hold; that must not keep back all the others.
func (s *Source) unreadable(ctx context.Context, state watcher.State, err error) (watcher.State, error) {
	if _, _, listed := s.client.Nodes(ctx, consul.Query{Consistency: consul.Consistent}); listed != nil {
		return state, err
	}
	state.Partial = "Consul does not show the node: " + err.Error()
	return state, nil
}

// absent decides what a 404 for a node means: that it is gone only when a list of
// nodes from which nothing was kept says so too.
func (s *Source) absent(ctx context.Context, name string, state watcher.State) (watcher.State, error) {
	names, answer, err := s.client.Nodes(ctx, consul.Query{Consistency: consul.Consistent})
	if err != nil {
		return refused(state, err)
	}
	state.Index = answer.Index
	switch veiled := answer.Partial(s.accessControlled()); {
	case veiled != "":
		state.Partial = "the node is not shown, and " + veiled
	case slices.Contains(names, name):
		state.Partial = "the node is listed but not shown"
	}
	return state, nil
}

// nodeState is a node's content as a scope.
func (s *Source) nodeState(node *consul.NodeState) watcher.State {
	name := node.Node.GetName()
	state := watcher.State{Scope: scopeNode + name, Covers: coversNode(name), Values: []watcher.Value{{
		Key: isthmusv1.NodeKey(node.Node.GetPartition(), name), Value: node.Node,
	}}}
	var queries []string
	for _, i := range node.Instances {
		state.Values = append(state.Values, watcher.Value{
			Key: isthmusv1.InstanceKey(i.GetPartition(), name, i.GetNamespace(), i.GetId()), Value: i,
		})
		for _, u := range i.GetProxy().GetUpstreams() {
			if u.GetDestinationType() == isthmusv1.DestinationPreparedQuery {
				queries = append(queries, u.GetDestinationName())
			}
		}
	}
	s.nameQueries(name, queries)
	return state
}

// coversNode reports of a key whether it is a node's, or stands on it.
func coversNode(name string) func(isthmusv1.Key) bool {
	name = strings.ToLower(name)
	return func(key isthmusv1.Key) bool { return onNode(key) == name }
}

// onNode is the name of the node that a key belongs to, in lower case as in keys;
// empty: to none.
func onNode(key isthmusv1.Key) string {
	if key.Kind != isthmusv1.KindNode && key.Kind != isthmusv1.KindInstance {
		return ""
	}
	name := key.Parts()[0]
	// A partition of Consul Enterprise stands before the name.
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	return name
}

// refused turns what access control denies into a state that keeps the last good
// values; another error stays one.
func refused(state watcher.State, err error) (watcher.State, error) {
	if errors.Is(err, consul.ErrDenied) {
		state.Partial = denied(err)
		return state, nil
	}
	return watcher.State{}, err
}

// Read implements [watcher.Source].
func (s *Source) Read(ctx context.Context, scope string) (watcher.State, error) {
	consistent := consul.Query{Consistency: consul.Consistent}
	kind, isConfig := strings.CutPrefix(scope, scopeConfig)
	node, isNode := strings.CutPrefix(scope, scopeNode)
	var (
		state watcher.State
		err   error
	)
	switch {
	case scope == scopeFacts:
		state, err = s.factsState(ctx)
	case scope == scopeQueries:
		state, err = s.queriesState(ctx)
	case scope == scopeNodes:
		_, state, err = s.readNodes(ctx, consistent)
	case scope == scopeRoots:
		state, err = s.rootsQuery().fetch(ctx, consistent)
	case isConfig:
		state, err = s.entriesQuery(kind).fetch(ctx, consistent)
	case isNode:
		state, err = s.nodeQuery(node).fetch(ctx, consistent)
	default:
		return watcher.State{}, fmt.Errorf("a Consul datacenter has no scope %q", scope)
	}
	if err != nil {
		return watcher.State{}, fmt.Errorf("reading %s: %w", scope, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(state)
	return state, nil
}

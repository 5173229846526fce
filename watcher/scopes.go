package watcher

import (
	"maps"
	"slices"
	"sync"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// inbox keeps what a source said until the loop takes it: the last word on
// each scope counts, so what piles up while a write runs becomes one batch.
type inbox struct {
	kick chan struct{}

	mu    sync.Mutex
	names []string // nil: not said anew
	// states holds the newest content of each scope, or nil when it is to be read.
	states map[string]*State
}

func newInbox() inbox {
	return inbox{kick: make(chan struct{}, 1), states: map[string]*State{}}
}

func (i *inbox) scopes(names []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.names = append([]string{}, names...)
	i.wake()
}

func (i *inbox) present(state State) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.states[state.Scope] = &state
	i.wake()
}

func (i *inbox) changed(scope string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.states[scope] = nil
	i.wake()
}

func (i *inbox) wake() {
	select {
	case i.kick <- struct{}{}:
	default:
	}
}

// take moves everything into the scopes.
func (i *inbox) take(s *scopes) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.names != nil {
		s.told = i.names
		s.name(i.names)
		i.names = nil
	}
	for name, state := range i.states {
		if state == nil || s.returned(name) {
			s.toRead[name] = true
			continue
		}
		s.put(*state)
	}
	clear(i.states)
}

// scopes is what is known of a source, and what of it was not written yet.
type scopes struct {
	// named: the source has said which scopes there are.
	named  bool
	states map[string]*content
	// told are the names that the source itself said last. A reading of all may know
	// better for a while.
	told []string
	// partial holds the scopes whose content is.
	partial map[string]bool
	// unveiled: a scope that was partial is whole again, so the log may hold keys
	// that no scope at hand has held.
	unveiled bool
	// toRead holds the scopes whose content the source only says to have changed.
	toRead map[string]bool
	// dirty holds the scopes whose content may not be in the log, with the keys
	// that they held when they were clean.
	dirty map[string]map[isthmusv1.Key]Value
}

// content is a scope's state by key; state.Scope is empty while it is unknown.
type content struct {
	state  State
	values map[isthmusv1.Key]Value
}

func newScopes() scopes {
	return scopes{states: map[string]*content{}, partial: map[string]bool{}, toRead: map[string]bool{}, dirty: map[string]map[isthmusv1.Key]Value{}}
}

// name sets which scopes there are; what is not named is empty from now on.
func (s *scopes) name(names []string) {
	s.named = true
	named := make(map[string]bool, len(names))
	for _, name := range names {
		named[name] = true
	}
	for name, c := range s.states {
		if !named[name] {
			s.soil(name, c)
			delete(s.states, name)
			delete(s.partial, name)
			delete(s.toRead, name)
		}
	}
	for _, name := range names {
		if s.states[name] == nil {
			s.states[name] = &content{}
		}
	}
}

// returned reports of a scope that was gone when all was read whether the source never
// saw it go. What it presents of it may be from before or from after: only a reading
// says which.
func (s *scopes) returned(name string) bool {
	return s.named && s.states[name] == nil && slices.Contains(s.told, name)
}

// put sets a scope's content. A scope that was not named is named later, or gone.
func (s *scopes) put(state State) {
	delete(s.toRead, state.Scope)
	c := s.states[state.Scope]
	if c == nil {
		if s.named {
			return
		}
		c = &content{}
		s.states[state.Scope] = c
	}
	s.soil(state.Scope, c)
	values := make(map[isthmusv1.Key]Value, len(state.Values))
	if state.Partial != "" {
		// What is missing is not gone.
		maps.Copy(values, c.values)
		s.partial[state.Scope] = true
	} else if s.partial[state.Scope] {
		s.unveiled = true
		delete(s.partial, state.Scope)
	}
	for _, v := range state.Values {
		values[v.Key] = v
	}
	c.state, c.values = state, values
}

// confirm sets what a reading showed of a scope. One that is named no more but
// still has values was missing in a list that was older than the reading.
func (s *scopes) confirm(state State) {
	if s.states[state.Scope] == nil && len(state.Values) > 0 {
		s.states[state.Scope] = &content{}
	}
	s.put(state)
}

// soil marks a scope as not written, remembering what it held when it was.
func (s *scopes) soil(name string, c *content) {
	if _, ok := s.dirty[name]; !ok {
		s.dirty[name] = c.values
	}
}

// clean says that the log is equal to every scope's content.
func (s *scopes) clean() {
	clear(s.dirty)
	s.unveiled = false
}

// veiled reports whether a key that stands in no scope may be one that the source
// did not show.
func (s *scopes) veiled(key isthmusv1.Key) bool {
	for name := range s.partial {
		if covers := s.states[name].state.Covers; covers != nil && covers(key) {
			return true
		}
	}
	return false
}

// count returns the number of scopes, and of those whose content is unknown.
func (s *scopes) count() (known, missing int) {
	for _, c := range s.states {
		if c.values == nil {
			missing++
		}
	}
	return len(s.states), missing
}

// whole reports whether every scope's content is known.
func (s *scopes) whole() bool {
	_, missing := s.count()
	return s.named && missing == 0
}

// unread returns the scopes that are to be read, sorted.
func (s *scopes) unread() []string {
	return slices.Sorted(maps.Keys(s.toRead))
}

// holds reports whether any scope but the one has the key.
func (s *scopes) holds(key isthmusv1.Key, but string) bool {
	for name, c := range s.states {
		if _, ok := c.values[key]; ok && name != but {
			return true
		}
	}
	return false
}

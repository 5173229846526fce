package role

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Health is what a role says of its readiness. The zero Health is alive and,
// until a table runs, waits for that. It may be used from any goroutine; a nil
// Health takes what it is told and keeps nothing.
type Health struct {
	mu    sync.Mutex
	rows  []healthRow
	ended bool
}

type healthRow struct {
	component Component
	started   bool
}

// State is what one component says.
type State struct {
	// Component is its name.
	Component string
	// Waiting is what it waits for, in a sentence; empty when it is ready.
	Waiting string
}

func (h *Health) watch(order []Component) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = false
	h.rows = make([]healthRow, len(order))
	for i, component := range order {
		h.rows[i].component = component
	}
}

func (h *Health) started(name string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.rows, func(r healthRow) bool { return r.component.Name == name })
	h.rows[i].started = true
}

func (h *Health) stopping() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
}

// States returns what every component says, in the order of their start.
func (h *Health) States() []State {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	rows, ended := slices.Clone(h.rows), h.ended
	h.mu.Unlock()

	states := make([]State, len(rows))
	for i, row := range rows {
		states[i].Component = row.component.Name
		switch {
		case ended:
			states[i].Waiting = "it is stopping"
		case !row.started:
			states[i].Waiting = "it has not started"
		case row.component.Waiting != nil:
			states[i].Waiting = row.component.Waiting()
		}
	}
	return states
}

// Ready reports whether every component is ready.
func (h *Health) Ready() bool {
	states := h.States()
	return len(states) > 0 && !slices.ContainsFunc(states, func(s State) bool { return s.Waiting != "" })
}

// Text says for people whether the role is ready: one line, then one for each
// component that is not, or with verbose for every one.
func (h *Health) Text(verbose bool) string {
	states := h.States()
	var b strings.Builder
	ready := len(states) > 0
	for _, s := range states {
		switch {
		case s.Waiting != "":
			ready = false
			fmt.Fprintf(&b, "× %s: %s\n", s.Component, s.Waiting)
		case verbose:
			fmt.Fprintf(&b, "√ %s\n", s.Component)
		}
	}
	switch {
	case ready:
		return "ready\n" + b.String()
	case len(states) == 0:
		return "not ready\n× nothing has started\n"
	default:
		return "not ready\n" + b.String()
	}
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// retryListen is how soon an address is tried again that could not be bound.
const retryListen = time.Second

// listenerSet is the listeners that are open.
type listenerSet struct {
	mu     sync.Mutex
	open   []namedListener
	failed []*isthmusv1.Problem
}

// all are the open ones.
func (s *listenerSet) all() []namedListener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.open)
}

func (s *listenerSet) failures() []*isthmusv1.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.failed)
}

func (s *listenerSet) set(open []namedListener, failed []*isthmusv1.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.failed = slices.Clone(open), failed
}

// has reports whether the listener is one of the open ones.
func (s *listenerSet) has(l *engine.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.open, func(o namedListener) bool { return o.Listener == l })
}

// move makes the open listeners those of the wanted addresses: what is new is
// opened, then what is no longer wanted is closed. That ends no connection. An
// address that is new may need one that is closed (0.0.0.0 and another of one
// port), so it is tried again then. It returns what was opened.
func (s *listenerSet) move(ctx context.Context, wanted []string) (opened []namedListener) {
	before := s.all()
	var kept, unwanted []namedListener
	missing := slices.Clone(wanted)
	for _, l := range before {
		if i := slices.IndexFunc(missing, func(w string) bool { return w == l.name || sameAddress(w, l.Listener) }); i >= 0 {
			missing = slices.Delete(missing, i, i+1)
			kept = append(kept, l)
		} else {
			unwanted = append(unwanted, l)
		}
	}
	opened, missing, _ = bindAll(ctx, missing)
	// Whoever serves them must find them gone from the set when they close.
	s.set(slices.Concat(kept, opened), nil)
	closeAll(unwanted, nil)
	late, _, failed := bindAll(ctx, missing)
	opened = append(opened, late...)
	s.set(slices.Concat(kept, opened), failed)
	return opened
}

// bindAll opens what can be. The addresses are those of a registration, where
// 0.0.0.0 is IPv4 and nothing else.
func bindAll(ctx context.Context, addresses []string) (opened []namedListener, missing []string, failed []*isthmusv1.Problem) {
	for _, address := range addresses {
		network := "tcp"
		if strings.HasPrefix(address, "0.0.0.0:") {
			network = "tcp4"
		}
		l, err := bind(ctx, network, address)
		if err != nil {
			missing = append(missing, address)
			failed = append(failed, problem(CodeBadListener, fmt.Sprintf("there is no listening at %s: %v", address, err), "free it, or register another"))
			continue
		}
		opened = append(opened, namedListener{address, l})
	}
	return opened, missing, failed
}

// accept serves a listener until the drain, or until it is no longer wanted.
func (g *Gateway) accept(l namedListener, failed chan<- error) {
	err := g.engine.Serve(l.Listener)
	if err == nil || errors.Is(err, net.ErrClosed) && !g.listeners.has(l.Listener) {
		return
	}
	fail(failed, fmt.Errorf("gateway: %s: %w", l.name, err))
}

// followBinds keeps the listeners as the registration says, until ctx ends.
func (g *Gateway) followBinds(ctx context.Context, serve func(namedListener)) {
	for {
		var retry <-chan time.Time
		if len(g.listeners.failures()) > 0 {
			retry = time.After(retryListen)
		}
		select {
		case <-g.newBinds:
		case <-retry:
		case <-ctx.Done():
			return
		}
		// Last good stays: no registration is no reason to stop.
		wanted := g.wantedBinds()
		if len(wanted) == 0 {
			continue
		}
		before := g.Addresses()
		for _, l := range g.listeners.move(ctx, wanted) {
			serve(l)
		}
		if now := g.Addresses(); !slices.Equal(before, now) {
			g.cfg.Logger.Info("the listeners are as the registration has them now", "before", before, "now", now)
			g.tellStatus()
		}
	}
}

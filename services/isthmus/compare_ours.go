package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/client"
	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// served is what one side serves to a proxy at a moment.
type served struct {
	set   compare.Set
	facts compare.Facts
	// whole: nothing is missing.
	whole bool
}

// side is one of the two that a proxy is compared by.
type side interface {
	// look is what is served now, and a channel that is closed when it is another.
	look() (served, <-chan struct{}, error)
}

// machineSide is the machine of an xds node, over routes that are followed, or were
// made of files.
type machineSide struct {
	mu      sync.Mutex
	machine *xdsnode.Machine
	changed chan struct{}
}

// openMachine reads the routes of a datacenter, and goes on following them until ctx
// ends, if somebody keeps them; done waits for that.
func openMachine(ctx context.Context, s *source, datacenter string) (m *machineSide, done func(), err error) {
	m = &machineSide{machine: xdsnode.NewMachine(), changed: make(chan struct{})}
	if !s.kept {
		moment, err := history.Head(ctx, s.log, datacenter, s.datacenters...)
		if err != nil {
			return nil, nil, err
		}
		t := &isthmusv1.Transaction{Stream: isthmusv1.StreamName(isthmusv1.ClassRoutes, datacenter), Reset: true}
		for key, value := range moment.Machine.All() {
			t.Changes = append(t.Changes, isthmusv1.Change{Key: key, Value: value})
		}
		m.apply(t)
		return m, func() {}, m.emit(ctx, nil)
	}
	stream := isthmusv1.StreamName(isthmusv1.ClassRoutes, datacenter)
	if _, err := s.log.State(ctx, stream); err != nil {
		return nil, nil, hint{fmt.Errorf("%s: %w", stream, err), "start a resolver for the datacenter"}
	}
	whole, first := context.WithCancelCause(ctx)
	drive := &bus.Drive{Log: s.log, Streams: []string{stream}, Machine: bus.MachineFunc(m.apply), Emit: func(ctx context.Context, basis *isthmusv1.Basis) error {
		first(errWhole)
		return m.emit(ctx, basis)
	}}
	follow, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		first(drive.Run(follow))
	}()
	done = func() {
		stop()
		<-ended
	}
	<-whole.Done()
	if err := context.Cause(whole); !errors.Is(err, errWhole) {
		done()
		return nil, nil, errors.Join(err, drive.Ready())
	}
	return m, done, nil
}

// errWhole ends the wait for the routes.
var errWhole = errors.New("the routes are read")

func (m *machineSide) apply(t *isthmusv1.Transaction) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.machine.Apply(t)
}

func (m *machineSide) emit(context.Context, *isthmusv1.Basis) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.machine.Ready()
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

// find names a proxy in full.
func (m *machineSide) find(node, id string) (*isthmusv1.ProxyRoutes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.machine.Find(node, id)
	if err != nil {
		return nil, err
	}
	return p.Routes, nil
}

// proxyOf is a proxy of a machine as a side.
type proxyOf struct {
	*machineSide
	node, id string
}

func (p proxyOf) look() (served, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found, err := p.machine.Find(p.node, p.id)
	if err != nil {
		return served{}, p.changed, err
	}
	set := compare.Set{}
	for _, t := range xdsnode.Types() {
		all := map[string]*anypb.Any{}
		for _, name := range found.Names(t) {
			all[name] = found.Resource(t, name).Body
		}
		set[string(t)] = all
	}
	return served{set: set, facts: compare.FactsOf(p.machine.RouteSet(found)), whole: true}, p.changed, nil
}

// clientSide is what a control plane serves, by its own protocol.
type clientSide struct{ *client.Client }

// openClient asks a control plane until ctx ends; done waits for that.
func openClient(ctx context.Context, config client.Config) (c clientSide, done func()) {
	c = clientSide{client.New(config)}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(ctx) // Whoever looks is told.
	}()
	return c, func() {
		stop()
		<-ended
	}
}

func (c clientSide) look() (served, <-chan struct{}, error) {
	snapshot, changed := c.Changed()
	return served{set: compare.Set(snapshot.Bodies), whole: snapshot.Complete() && len(snapshot.Listeners) > 0}, changed, c.Ended()
}

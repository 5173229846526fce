package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/resolver"
	"github.com/isthmus-mesh/isthmus/services/role"
)

// resolverPart keeps ROUTES_<dc> equal to what the catalogs resolve to. Several
// may run for one datacenter: one writes, the others hold the same state.
func resolverPart(p parts, datacenter string, replicas int) (role.Component, error) {
	p = p.in("resolver", datacenter, "")
	writer, err := bus.NewWriter(bus.WriterConfig{
		Log:          p.log,
		Stream:       isthmusv1.StreamName(isthmusv1.ClassRoutes, datacenter),
		Owner:        p.owner,
		RulesVersion: resolver.RulesVersion,
		Replicas:     replicas,
		Logger:       p.logger,
	})
	if err != nil {
		return role.Component{}, err
	}
	e := &routeEmitter{machine: resolver.New(datacenter), writer: writer, logger: p.logger, wake: make(chan struct{}, 1)}
	drive := &bus.Drive{
		Log:        p.log,
		Streams:    []string{isthmusv1.StreamName(isthmusv1.ClassCatalog, datacenter)},
		Discover:   isthmusv1.ClassCatalog,
		Machine:    bus.MachineFunc(func(t *isthmusv1.Transaction) { history.Feed(e.machine, t) }),
		Emit:       e.emit,
		Wake:       e.wake,
		Logger:     p.logger,
		Registerer: p.registerer,
	}
	return role.Component{
		Name:    "resolver " + datacenter,
		Waiting: waiting(drive.Ready),
		Run: func(ctx context.Context, started func()) error {
			started()
			return together(ctx, writer.Run, drive.Run, func(ctx context.Context) error {
				return e.wakeAt(ctx, writer.Notify())
			})
		},
	}, nil
}

// routeEmitter writes what the machine says has changed. While another process
// writes, and after a write that failed, it lets go of what changed: what it
// writes next is the whole difference between the log and the machine.
type routeEmitter struct {
	machine *resolver.Machine
	writer  *bus.Writer
	logger  *slog.Logger
	// turn is the turn of office that the log was compared in; zero: compare it.
	turn bus.Turn
	wake chan struct{}
	// failed: the last write has to be tried again.
	failed atomic.Bool
}

// retryRoutes is the wait before a write that failed is tried again.
const retryRoutes = time.Second

// wakeAt makes the drive go round when the writer's turn has come or gone, and
// after a write that failed.
func (e *routeEmitter) wakeAt(ctx context.Context, notify <-chan struct{}) error {
	retry := time.NewTicker(retryRoutes)
	defer retry.Stop()
	for {
		select {
		case <-notify:
		case <-retry.C:
			if !e.failed.Load() {
				continue
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

func (e *routeEmitter) emit(ctx context.Context, basis *isthmusv1.Basis) error {
	update := e.machine.Ready()
	turn := e.writer.Turn()
	if update == nil || turn == (bus.Turn{}) {
		e.turn = bus.Turn{}
		return nil
	}
	d, err := e.difference(update, basis, turn)
	if err == nil {
		_, err = e.writer.Write(ctx, d)
	}
	e.failed.Store(err != nil)
	if err == nil {
		e.turn = turn
		return nil
	}
	e.turn = bus.Turn{}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, bus.ErrNotActive):
		// The writer says when it is active again.
	case errors.Is(err, bus.ErrStaleView):
		e.logger.Debug("waiting for newer catalogs", "err", err)
	default:
		e.logger.Error("routes were not written; what was published stays", "err", err)
	}
	return nil
}

// difference is the change alone, or in a new turn everything that the log does
// not have.
func (e *routeEmitter) difference(update *resolver.Update, basis *isthmusv1.Basis, turn bus.Turn) (bus.Difference, error) {
	d := bus.Difference{Basis: basis, Turn: turn}
	if e.turn == turn {
		for _, c := range update.Changes {
			if c.Value == nil {
				d.Deletes = append(d.Deletes, c.Key)
			} else {
				d.Puts = append(d.Puts, bus.Put{Key: c.Key, Value: c.Value})
			}
		}
		return d, nil
	}
	snapshot, err := e.writer.Snapshot()
	if err != nil {
		return d, err
	}
	live := make(map[isthmusv1.Key]bool)
	for key, value := range e.machine.All() {
		live[key] = true
		d.Puts = append(d.Puts, bus.Put{Key: key, Value: value})
	}
	for key := range snapshot.Values {
		if !live[key] && key.Kind != isthmusv1.KindWriter && key.Kind != isthmusv1.KindBasis {
			d.Deletes = append(d.Deletes, key)
		}
	}
	return d, nil
}

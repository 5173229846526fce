package main

import (
	"context"
	"errors"

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
	machine := resolver.New(datacenter)
	emitter := bus.NewEmitter(bus.EmitterConfig{
		Writer: writer,
		Ready:  func() ([]bus.Put, bool) { return changed(machine) },
		All:    machine.All,
		Failed: func(err error) {
			if errors.Is(err, bus.ErrStaleView) {
				p.logger.Debug("waiting for newer catalogs", "err", err)
				return
			}
			p.logger.Error("routes were not written; what was published stays", "err", err)
		},
	})
	drive := &bus.Drive{
		Log:        p.log,
		Streams:    []string{isthmusv1.StreamName(isthmusv1.ClassCatalog, datacenter)},
		Discover:   isthmusv1.ClassCatalog,
		Machine:    bus.MachineFunc(func(t *isthmusv1.Transaction) { history.Feed(machine, t) }),
		Emit:       emitter.Emit,
		Wake:       emitter.Wake(),
		Logger:     p.logger,
		Registerer: p.registerer,
	}
	return p.aware(role.Component{
		Name:    "resolver " + datacenter,
		Waiting: waiting(drive.Ready),
		Run: func(ctx context.Context, started func()) error {
			started()
			return together(ctx, writer.Run, drive.Run, emitter.Run)
		},
	}), nil
}

// changed takes what a machine changed since it was last asked.
func changed(machine *resolver.Machine) ([]bus.Put, bool) {
	update := machine.Ready()
	if update == nil {
		return nil, false
	}
	puts := make([]bus.Put, len(update.Changes))
	for i, c := range update.Changes {
		puts[i] = bus.Put{Key: c.Key, Value: c.Value}
	}
	return puts, true
}

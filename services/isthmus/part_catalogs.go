package main

import (
	"context"
	"errors"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/role"
)

// errCatalogsFilled ends the wait for the first fill.
var errCatalogsFilled = errors.New("every catalog is filled")

// catalogsPart has started once the catalog of every datacenter is whole in the
// log. What stands after it in the table sees all of them at once: where one
// process holds all datacenters, the first routes are not those of a world in
// which the other datacenters are still missing.
func catalogsPart(p parts, datacenters []string) role.Component {
	p.logger = p.logger.With("role", "catalogs")
	return role.Component{
		Name: "catalogs",
		Run: func(ctx context.Context, started func()) error {
			var streams []string
			for _, dc := range datacenters {
				streams = append(streams, isthmusv1.StreamName(isthmusv1.ClassCatalog, dc))
			}
			drive := &bus.Drive{
				Log: p.log, Streams: streams, Logger: p.logger,
				Machine: bus.MachineFunc(func(*isthmusv1.Transaction) {}),
				Emit:    func(context.Context, *isthmusv1.Basis) error { return errCatalogsFilled },
			}
			if err := drive.Run(ctx); !errors.Is(err, errCatalogsFilled) {
				return err
			}
			started()
			<-ctx.Done()
			return context.Cause(ctx)
		},
	}
}

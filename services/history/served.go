package history

import (
	"context"
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// Served is the machine of the xds nodes of a datacenter, as it is with the routes that
// are in the log. Possible errors: [bus.ErrNoStream] when nobody has written routes, and
// the context's cause, with what was still waited for.
func Served(ctx context.Context, log bus.Log, datacenter string) (*xdsnode.Machine, error) {
	stream := isthmusv1.StreamName(isthmusv1.ClassRoutes, datacenter)
	if _, err := log.State(ctx, stream); err != nil {
		return nil, fmt.Errorf("%s: %w", stream, err)
	}
	machine := xdsnode.NewMachine()
	drive := bus.Drive{
		Log: log, Streams: []string{stream}, Machine: machine,
		Emit: func(context.Context, *isthmusv1.Basis) error { return errSettled },
	}
	if err := drive.Run(ctx); !errors.Is(err, errSettled) {
		return nil, errors.Join(err, drive.Ready())
	}
	machine.Ready()
	return machine, nil
}

// ServedAt is the machine of the xds nodes as it is with the routes that the catalogs
// come to at a moment.
func ServedAt(datacenter string, moment *Moment) *xdsnode.Machine {
	moment.Machine.Ready()
	t := &isthmusv1.Transaction{
		Stream: isthmusv1.StreamName(isthmusv1.ClassRoutes, datacenter), Reset: true, End: &isthmusv1.TransactionEnd{Basis: moment.Basis},
	}
	for key, value := range moment.Machine.All() {
		t.Changes = append(t.Changes, isthmusv1.Change{Key: key, Value: value})
	}
	machine := xdsnode.NewMachine()
	machine.Apply(t)
	machine.Ready()
	return machine
}

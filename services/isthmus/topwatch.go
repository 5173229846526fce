package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/top"
)

// topWatch reads the gateways of a source, as their reports say that there are.
type topWatch struct {
	source  *source
	names   []string
	reports *gatewayReports
	tallies *tallyReader

	stop    context.CancelFunc
	follows sync.WaitGroup
}

// openTop follows the reports of the source, and wants the named gateways to be
// among them before opening ends. Close it.
func openTop(ctx, opening context.Context, s *source, names []string) (*topWatch, error) {
	switch _, err := history.Streams(opening, s.log, isthmusv1.ClassStatus); {
	case errors.Is(err, bus.ErrNoStream):
		return nil, checkNames(nil, s.datacenters, names) // Nobody has ever reported.
	case err != nil:
		return nil, err
	}
	following, stop := context.WithCancel(ctx)
	w := &topWatch{source: s, names: names, reports: newGatewayReports(), tallies: newTallyReader(), stop: stop}
	w.follows.Go(func() { _ = w.reports.follow(following, s.log) }) // It ends with its context alone.
	select {
	case <-w.reports.settled:
	case <-opening.Done():
		w.close()
		return nil, fmt.Errorf("the reports of gateways: %w", context.Cause(opening))
	}
	if err := checkNames(w.reports.in(s.datacenters), s.datacenters, names); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *topWatch) close() {
	w.stop()
	w.follows.Wait()
	w.tallies.close()
}

// read reads every gateway, and says what is wrong with reading them.
func (w *topWatch) read(ctx context.Context, now time.Time) (readings []top.Reading, trouble string) {
	readings = w.tallies.read(ctx, choose(w.reports.in(w.source.datacenters), w.names), now)
	if connection, ok := w.source.log.(*bus.JetStream); ok && !connection.Connected() {
		trouble = bus.ErrDisconnected.Error() + ": gateways that start or move meanwhile are not seen"
	}
	return readings, trouble
}

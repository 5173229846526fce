package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
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

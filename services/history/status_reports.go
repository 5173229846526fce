package history

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// report is the newest that one reporter said.
type report struct {
	name    string
	role    string
	age     float64
	gateway *isthmusv1.GatewayStatus
	// routes and basis are how far an xds node is, and with it the proxies that are
	// current.
	routes  *isthmusv1.Position
	basis   *isthmusv1.Basis
	proxies map[string]word
	used    bool
}

// word is what a reporter said of a proxy, and when.
type word struct {
	*isthmusv1.ProxyStatus
	at time.Time
}

// where is how far a proxy is that a report speaks of.
func (r *report) where(p word) (*isthmusv1.Position, *isthmusv1.Basis) {
	if p.GetCurrent() {
		return r.routes, r.basis
	}
	return p.GetRoutes(), p.GetBasis()
}

// readReports folds the reports of a datacenter: a full one replaces what its
// reporter said before, another one adds to it.
func readReports(ctx context.Context, log bus.Log, datacenter string, now time.Time) ([]*report, error) {
	stream := isthmusv1.StreamName(isthmusv1.ClassStatus, datacenter)
	byKey := make(map[isthmusv1.Key]*report)
	for m, err := range messages(ctx, log, stream) {
		if errors.Is(err, bus.ErrNoStream) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		change, _, err := read(stream, m)
		if err != nil {
			return nil, err
		}
		told, ok := change.Value.(*isthmusv1.Report)
		if !ok {
			continue
		}
		r := byKey[change.Key]
		if r == nil {
			r = &report{role: told.GetRole(), name: told.GetName()}
			byKey[change.Key] = r
		}
		r.fold(told, now)
	}
	reports := make([]*report, 0, len(byKey))
	for _, r := range byKey {
		reports = append(reports, r)
	}
	slices.SortFunc(reports, func(a, b *report) int { return cmp.Or(cmp.Compare(a.role, b.role), cmp.Compare(a.name, b.name)) })
	return reports, nil
}

func (r *report) fold(told *isthmusv1.Report, now time.Time) {
	if r.proxies == nil || told.GetFull() {
		r.proxies, r.gateway = make(map[string]word), nil
	}
	r.age = max(now.Sub(told.GetTime().AsTime()).Seconds(), 0)
	r.gateway = cmp.Or(told.GetGateway(), r.gateway)
	if told.GetRoutes() != nil {
		r.routes, r.basis = told.GetRoutes(), told.GetBasis()
	}
	for _, p := range told.GetProxies() {
		r.proxies[strings.ToLower(p.GetProxy())] = word{p, told.GetTime().AsTime()}
	}
}

// speaker is the report that counts for a proxy, of all that speak of it: one by which it
// is connected, then the one that has said something of it last. Whoever a proxy has left
// may go on to report.
func speaker(reports []*report, proxy string) (*report, word) {
	var (
		best *report
		last word
	)
	for _, r := range reports {
		p, ok := r.proxies[strings.ToLower(proxy)]
		if !ok {
			continue
		}
		switch {
		case best == nil:
		case p.GetConnected() != last.GetConnected():
			if last.GetConnected() {
				continue
			}
		case r.age > staleReport && best.age <= staleReport:
			continue
		case (r.age > staleReport) == (best.age > staleReport) && p.at.Before(last.at):
			continue
		}
		best, last = r, p
	}
	return best, last
}

// staleReport is how old a report is, in seconds, whose reporter has missed several.
const staleReport = 150

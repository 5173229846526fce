package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// gatewayReports are the newest reports of gateways, by the status streams. One
// goroutine applies; any may read.
type gatewayReports struct {
	// settled is closed when all streams that there are were read.
	settled chan struct{}

	mu      sync.Mutex
	streams map[string]map[isthmusv1.Key]*isthmusv1.Report
}

func newGatewayReports() *gatewayReports {
	return &gatewayReports{settled: make(chan struct{}), streams: make(map[string]map[isthmusv1.Key]*isthmusv1.Report)}
}

// follow keeps the reports up to date until ctx ends.
func (r *gatewayReports) follow(ctx context.Context, log bus.Log) error {
	settle := sync.OnceFunc(func() { close(r.settled) })
	drive := bus.Drive{
		Log: log, Discover: isthmusv1.ClassStatus, Machine: r,
		Emit: func(context.Context, *isthmusv1.Basis) error {
			settle()
			return nil
		},
	}
	return drive.Run(ctx)
}

// Apply implements bus.Machine.
func (r *gatewayReports) Apply(t *isthmusv1.Transaction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.Reset || r.streams[t.Stream] == nil {
		r.streams[t.Stream] = make(map[isthmusv1.Key]*isthmusv1.Report)
	}
	reports := r.streams[t.Stream]
	for _, c := range t.Changes {
		report, ok := c.Value.(*isthmusv1.Report)
		switch {
		case c.Tombstone:
			delete(reports, c.Key)
		case ok && report.GetGateway() != nil:
			reports[c.Key] = report
		case ok && report.GetFull():
			delete(reports, c.Key)
		}
	}
}

// in returns the newest report of each gateway of the datacenters, in the order of
// their names.
func (r *gatewayReports) in(datacenters []string) []*isthmusv1.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*isthmusv1.Report
	for stream, reports := range r.streams {
		_, datacenter, _ := isthmusv1.ParseStreamName(stream)
		if !slices.Contains(datacenters, datacenter) {
			continue
		}
		for _, report := range reports {
			out = append(out, report)
		}
	}
	slices.SortFunc(out, func(a, b *isthmusv1.Report) int {
		return cmp.Or(cmp.Compare(a.GetDatacenter(), b.GetDatacenter()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return out
}

// isNamed reports whether a name that a user gives is the gateway's: that of its
// reports, NODE/ID of its registration as "isthmus gateways" shows it, or an address
// that it listens on. A gateway may report under its node's name, or its ID alone.
func isNamed(report *isthmusv1.Report, name string) bool {
	for _, own := range append([]string{report.GetName(), report.GetGateway().GetProxy()}, report.GetGateway().GetListenAddresses()...) {
		if strings.EqualFold(own, name) {
			return true
		}
	}
	if report.GetGateway().GetProxy() != "" {
		return false
	}
	node, id, ok := strings.Cut(name, "/")
	return ok && (strings.EqualFold(node, report.GetName()) || strings.EqualFold(id, report.GetName()))
}

// choose keeps the gateways that are named; without names it keeps all.
func choose(reports []*isthmusv1.Report, names []string) []*isthmusv1.Report {
	if len(names) == 0 {
		return reports
	}
	return slices.DeleteFunc(reports, func(r *isthmusv1.Report) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return isNamed(r, name) })
	})
}

// errNoGateway says that no gateway has reported yet.
var errNoGateway = errors.New("no gateway reports")

// checkNames wants each name to be that of a gateway, and a gateway to be there.
func checkNames(reports []*isthmusv1.Report, datacenters, names []string) error {
	known := make([]string, len(reports))
	for i, r := range reports {
		known[i] = r.GetName()
	}
	if len(known) == 0 {
		return hint{fmt.Errorf("%s: %w", strings.Join(datacenters, ", "), errNoGateway), `start one with "isthmus gateway", and see "isthmus gateways"; Envoys count in their own admin servers`}
	}
	for _, name := range names {
		if !slices.ContainsFunc(reports, func(r *isthmusv1.Report) bool { return isNamed(r, name) }) {
			return hint{fmt.Errorf("no gateway reports as %q", name), "name one of " + strings.Join(known, ", ")}
		}
	}
	return nil
}

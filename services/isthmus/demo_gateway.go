package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
)

// nextGateway stops a gateway while requests run: the other carries on.
func (d *demoRun) nextGateway(ctx context.Context) []fact {
	f := fact{Name: "the next gateway carries on"}
	targets, err := d.targets()
	stopped, rest := d.gatewaysIn("dc2")
	if err != nil || stopped == nil || len(rest) == 0 {
		f.Sentence, f.Saw = "one gateway stops", fmt.Sprintf("dc2 has no two gateways: %v", errors.Join(err))
		return []fact{f}
	}
	// Kept connections would only hold up the gateway's drain.
	d.load = startLoadOverNew(ctx, targets)
	waiting, cancel := context.WithTimeout(ctx, d.wait())
	defer cancel()
	d.passes(waiting, stopped, demoSettles)
	left, err := d.withdraw(waiting, stopped)
	began := time.Now()
	stopped.stop.stop()
	took := time.Since(began)
	mark := d.world.records.mark()
	carried := 0
	for _, g := range rest {
		carried += d.passes(waiting, g, 3*demoSettles)
	}
	after := d.world.records.since(mark, through(stopped, began.Add(took)))
	d.load.end()
	failed := d.load.failed.Load()
	f.Holds = err == nil && failed == 0 && carried >= 3*demoSettles && len(after) == 0
	how := "stopped"
	if d.world.dataplane.sidecars() {
		how = "left the catalog"
		if d.world.agents != nil {
			how = "was told to fail in Consul"
		}
		how += fmt.Sprintf(", which the Envoys of dc1 had taken in after %s, and stopped", left.Round(100*time.Microsecond))
	}
	f.Sentence = fmt.Sprintf("gateway  %s %s: %s carried on with %d connections, 0 of %d requests failed",
		stopped.name, how, rest[0].name, carried, d.load.succeeded.Load())
	f.Drawing = []string{fmt.Sprintf("web ══▶ %s ╳  %s ══▶ api", stopped.name, rest[0].name)}
	f.Saw = fmt.Sprintf("%d connections over other gateways, %d over the stopped one; %d requests failed, the first with: %v",
		carried, len(after), failed, d.load.firstFailure())
	if err != nil {
		f.Saw = fmt.Sprintf("%s was not left: %v; %s", stopped.name, err, f.Saw)
	}
	f.Values = []measured{
		{"stopped", stopped.name}, {"carried", carried}, {"requests", d.load.succeeded.Load()},
		{"failed", failed}, {"drain_milliseconds", took.Milliseconds()},
	}
	return []fact{f}
}

// withdraw takes a gateway from the catalog, and waits until the Envoys of dc1 have taken
// that in: an Envoy sidecar tries one gateway for a connection, as Consul's do, so a
// gateway is to be left before it stops. Go sidecars try the next one by themselves, and
// are told nothing.
func (d *demoRun) withdraw(ctx context.Context, g *worldGateway) (time.Duration, error) {
	if !d.world.dataplane.sidecars() {
		return 0, nil
	}
	stream := isthmusv1.StreamName(isthmusv1.ClassCatalog, g.datacenter)
	before, err := d.world.logs[0].State(ctx, stream)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := d.unregister(ctx, g); err != nil {
		return 0, err
	}
	err = d.awaitEnvoys(ctx, "dc1", stream, before.Last)
	return time.Since(began), err
}

// unregister takes the gateway's file from the catalog, or has its check fail in Consul.
func (d *demoRun) unregister(ctx context.Context, g *worldGateway) error {
	if d.world.agents == nil {
		path := filepath.Join(d.world.catalog, g.datacenter, filepath.FromSlash(g.file))
		return os.Rename(path, path+".stopped~")
	}
	failing := proto.CloneOf(g.instance)
	failing.Checks = append(failing.Checks, &isthmusv1.Check{CheckId: g.id + ":stopping", Name: "it stops", Status: "critical"})
	return d.world.agents[g.datacenter].Register(ctx, g.on, failing)
}

// errTakenIn ends the wait for Envoys.
var errTakenIn = errors.New("the Envoys are as far")

// awaitEnvoys waits until all Envoys of a datacenter report that what they run is made of
// more than so much of a stream.
func (d *demoRun) awaitEnvoys(ctx context.Context, datacenter, stream string, beyond uint64) error {
	log := d.world.logs[0]
	var last string
	drive := &bus.Drive{
		Log: log, Streams: []string{isthmusv1.StreamName(isthmusv1.ClassStatus, datacenter)}, Logger: d.app.logger,
		Machine: bus.MachineFunc(func(*isthmusv1.Transaction) {}),
		Emit: func(ctx context.Context, _ *isthmusv1.Basis) error {
			status, err := history.StatusAt(ctx, log, datacenter, time.Now())
			if err != nil {
				return err
			}
			for _, e := range d.world.envoys() {
				behind := !slices.ContainsFunc(status.Proxies, func(p history.ProxyStatus) bool {
					return p.Proxy == e.proxy() && p.Basis[stream].Sequence > beyond
				})
				if e.datacenter == datacenter && behind {
					last = e.proxy()
					return nil
				}
			}
			return errTakenIn
		},
	}
	err := drive.Run(ctx)
	if errors.Is(err, errTakenIn) {
		return nil
	}
	return fmt.Errorf("%s has yet to take in what follows %s@%d: %w", last, stream, beyond, err)
}

func (d *demoRun) gatewaysIn(datacenter string) (first *worldGateway, rest []*worldGateway) {
	for _, g := range d.world.gateways {
		switch {
		case g.datacenter != datacenter:
		case first == nil:
			first = g
		default:
			rest = append(rest, g)
		}
	}
	return first, rest
}

func passedBy(gateway string) func(seen) bool {
	return func(s seen) bool { return s.passed != nil && s.gateway == gateway && !s.passed.Reason.Refused() }
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/bus/embed"
)

// endpointPlan is how large the catalogs are, and how many changes are measured.
type endpointPlan struct {
	// services are the sizes, smallest first; changes are made in each, in turns.
	services []int
	changes  int
	// streams are how many of the sidecars are connected.
	streams int
}

// fullEndpoint is what `task bench` measures.
var fullEndpoint = endpointPlan{services: []int{100, 10_000}, changes: 600, streams: 50}

// endpointRuns are how often each benchmark of the machine runs, and for how long.
const (
	endpointRuns = 7
	endpointTime = "1s"
)

// benchEndpoint measures what one endpoint that changes costs in small and large
// catalogs: in the machine alone, and by live processes to the ACK of a proxy.
func benchEndpoint(ctx context.Context, _ settings, scratch string, out io.Writer) ([]verdict, error) {
	machine, err := endpointInMachine(ctx, scratch, out)
	if err != nil {
		return nil, err
	}
	live, err := fullEndpoint.measure(ctx, scratch, out)
	return append(machine, live...), err
}

// endpointInMachine runs the machine's own benchmarks in turns, a process for each.
func endpointInMachine(ctx context.Context, scratch string, out io.Writer) ([]verdict, error) {
	program := filepath.Join(scratch, "xdsnode.test")
	if output, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "./xdsnode").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, output)
	}
	costs := map[string][]float64{}
	kinds := []struct{ name, said string }{{"EndpointChange", "mesh gateways"}, {"SidecarEndpointChange", "sidecars"}}
	for range endpointRuns {
		for _, kind := range kinds {
			for _, size := range []string{"100", "10000"} {
				name := kind.name + "/" + size
				command := exec.CommandContext(ctx, program, "-test.run=^$", "-test.benchtime="+endpointTime, "-test.bench=^Benchmark"+kind.name+"$/^"+size+"$")
				// One core, so that the collection of garbage is in the figure too.
				command.Env = append(os.Environ(), "GOMAXPROCS=1")
				output, err := command.CombinedOutput()
				if err != nil {
					return nil, fmt.Errorf("%s: %w\n%s", name, err, output)
				}
				_, cost, err := benchmark(name, string(output))
				if err != nil {
					return nil, err
				}
				costs[name] = append(costs[name], cost)
			}
		}
	}
	fmt.Fprintf(out, "\nendpoint: one endpoint changes; in the machine of an xds node, medians of %d runs in turns, on one core, garbage collection included\n\n", endpointRuns)
	var verdicts []verdict
	for _, kind := range kinds {
		small, large := median(costs[kind.name+"/100"]), median(costs[kind.name+"/10000"])
		fmt.Fprintf(out, "  for %-14s  %8.1f µs of 100 services   %8.1f µs of 10,000\n", kind.said, small/1000, large/1000)
		verdicts = append(verdicts, flat("one endpoint in the machine, "+kind.said, small, large))
	}
	return verdicts, nil
}

// flat judges how a cost has grown from the smallest catalog to the largest.
func flat(what string, small, large float64) verdict {
	return verdict{what, fmt.Sprintf("%.2fx", large/small), fmt.Sprintf("at most %.1fx", askedFlat), small > 0 && large/small <= askedFlat}
}

// measure changes endpoints in catalogs of all sizes, in turns, each with processes of its
// own.
func (p endpointPlan) measure(ctx context.Context, scratch string, out io.Writer) (v []verdict, err error) {
	program, err := buildIsthmus()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var worlds []*endpointWorld
	defer func() {
		for _, w := range worlds {
			err = errors.Join(err, w.close())
		}
	}()
	for _, services := range p.services {
		progress("endpoint", fmt.Sprintf("starting with %d services", services))
		w, err := startEndpointWorld(ctx, program, scratch, services, p.streams)
		if err != nil {
			return nil, fmt.Errorf("%d services: %w", services, err)
		}
		worlds = append(worlds, w)
	}
	progress("endpoint", "changes")
	for i := range p.changes {
		for _, w := range worlds {
			if err := w.change(ctx, i); err != nil {
				return nil, fmt.Errorf("%d services, change %d: %w", w.services, i, err)
			}
		}
	}
	fmt.Fprintf(out, "\n  by live processes, from the event's append to the ACK of the sidecar that uses it (%d changes each, in turns)\n\n", p.changes)
	for _, w := range worlds {
		slices.Sort(w.took)
		fmt.Fprintf(out, "  of %6d services    p50 %8s   p99 %8s\n", w.services, micros(quantile(w.took, 0.50)), micros(quantile(w.took, 0.99)))
	}
	fmt.Fprintln(out)
	small, large := worlds[0], worlds[len(worlds)-1]
	return []verdict{flat(fmt.Sprintf("one endpoint to its ACK, %d services against %d", large.services, small.services),
		float64(quantile(small.took, 0.50)), float64(quantile(large.took, 0.50)))}, nil
}

// endpointWorld is a catalog that the bench writes itself, a resolver and an xds node as
// processes of their own, and some of the sidecars.
type endpointWorld struct {
	services, streams int
	mesh              *meshWorld
	writing           *pipeline
	crowd             *crowd
	end               context.CancelFunc
	// took is how long each change took.
	took []time.Duration
}

func startEndpointWorld(ctx context.Context, program, scratch string, services, streams int) (w *endpointWorld, err error) {
	w = &endpointWorld{services: services, streams: min(streams, services), mesh: &meshWorld{program: program, scratch: scratch}, writing: &pipeline{}}
	ctx, cancel := context.WithCancel(ctx)
	w.end = cancel
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.mesh.server, err = embed.Start(embed.Options{StoreDir: filepath.Join(scratch, fmt.Sprint("nats-", services))}); err != nil {
		return w, err
	}
	if err := w.writing.writeTo(ctx, w.mesh.server.URL()); err != nil {
		return w, err
	}
	if _, err := w.mesh.role("resolver", "--datacenter", "dc1"); err != nil {
		return w, err
	}
	if err := w.fill(ctx); err != nil {
		return w, err
	}
	node, err := w.mesh.xds(ctx)
	if err != nil {
		return w, err
	}
	var names []proxyName
	for i := range w.streams {
		names = append(names, proxyName{"node", sidecarID(w.user(i))})
	}
	w.crowd = newCrowd(names)
	if err := w.crowd.connect(ctx, w.streams, node.listen); err != nil {
		return w, err
	}
	_, err = w.crowd.whole.wait(ctx, waitAll)
	return w, err
}

func (w *endpointWorld) close() error {
	var err error
	if w.crowd != nil {
		err = w.crowd.close()
	}
	w.end()
	return errors.Join(err, w.mesh.close())
}

// user is the service of the nth sidecar that is connected; used is its upstream.
func (w *endpointWorld) user(n int) int { return n % w.streams * (w.services / w.streams) }
func (w *endpointWorld) used(n int) int { return (w.user(n) + 1) % w.services }

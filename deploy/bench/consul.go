package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// askedBeyondBare is by how much an event may come later than the answer of a
// bare blocking query about the same registration, at the median.
const askedBeyondBare = 2 * time.Millisecond

// consulPlan is how large the worlds are, and how long they are loaded.
type consulPlan struct {
	// services are the sizes of the catalogs, perNode how many are on a node.
	services []int
	perNode  int
	// changesPerSecond come for as long as load, once without a watcher and once
	// with one.
	changesPerSecond int
	load             time.Duration
	// bareNodes are followed by bare queries too; they get half of the changes.
	bareNodes int
	// flips is how often the global mode changes, in the first of the catalogs;
	// merged proxies are registered with the agent for it.
	flips, merged int
}

// fullPlan is what `task bench` measures.
var fullPlan = consulPlan{
	services: []int{1000, 10_000}, perNode: 20,
	changesPerSecond: 50, load: 20 * time.Second, bareNodes: 10,
	flips: 7, merged: 200,
}

// catalogResult is what was measured with one size of catalog.
type catalogResult struct {
	services, nodes int
	firstSync       time.Duration
	// event and bare are from the registrations on the nodes that bare queries
	// follow too; all is from all of them to the event. Sorted.
	event, bare, all []time.Duration
	// agentAlone, agentWatched and watcher are shares of one core under the load.
	agentAlone, agentWatched, watcher float64
	// agentGrowth is by how much the agent's memory grew as it was watched,
	// watcherMemory what the watcher holds, in bytes.
	agentGrowth, watcherMemory int64
}

// benchConsul measures the watcher beside real agents, each with a catalog of
// another size.
func benchConsul(ctx context.Context, s settings, scratch string, out io.Writer) ([]verdict, error) {
	return fullPlan.measure(ctx, s, scratch, out)
}

func (p consulPlan) measure(ctx context.Context, s settings, scratch string, out io.Writer) ([]verdict, error) {
	if _, err := devagent.Find(); err != nil && !s.required {
		fmt.Fprintf(out, "SKIPPED: %v\n", err)
		return nil, nil
	}
	program, err := buildIsthmus()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	var results []catalogResult
	var flipped *flipResult
	for i, services := range p.services {
		result, flips, err := p.catalog(ctx, program, scratch, services, i == 0)
		if err != nil {
			return nil, fmt.Errorf("%d services: %w", services, err)
		}
		results = append(results, result)
		if flips != nil {
			flipped = flips
		}
	}
	fmt.Fprintf(out, "\nconsul: a real agent, a server with its state on disk, by HTTPS with HTTP/2; %d services a node, a sidecar each; real JetStream\n\n", p.perNode)
	verdicts := p.report(results, out)
	flipped.report(out)
	return verdicts, nil
}

// catalog measures one size of catalog in a world of its own.
func (p consulPlan) catalog(ctx context.Context, program, scratch string, services int, flip bool) (result catalogResult, flips *flipResult, err error) {
	w, err := startConsulWorld(ctx, program, scratch, services, p.perNode)
	if err != nil {
		return result, nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	result.services, result.nodes = services, w.nodes()
	w.progress("filling the catalog")
	if err := w.fill(ctx); err != nil {
		return result, nil, err
	}
	agent := family(w.agent.PID())
	w.progress("changes that nobody watches")
	if result.agentAlone, err = p.loaded(ctx, w, nil, agent); err != nil {
		return result, nil, err
	}
	before, err := agent.memory()
	if err != nil {
		return result, nil, err
	}
	w.progress("first sync")
	if result.firstSync, err = w.watch(ctx); err != nil {
		return result, nil, err
	}
	after, err := agent.memory()
	if err != nil {
		return result, nil, err
	}
	result.agentGrowth = after - before
	if result.watcherMemory, err = w.watcher.memory(); err != nil {
		return result, nil, err
	}
	w.progress("changes, watched")
	if err := p.watched(ctx, w, &result); err != nil {
		return result, nil, fmt.Errorf("%w\n%s", err, w.watcher.tail())
	}
	if flip {
		w.progress("flips of the global mode")
		flips, err = w.flipModes(ctx, p.flips, p.merged)
	}
	return result, flips, err
}

// watched loads the world while the watcher and the bare queries look on.
func (p consulPlan) watched(ctx context.Context, w *consulWorld, result *catalogResult) error {
	marks := newMarks()
	w.seen.follow(marks)
	stop, err := w.askBare(ctx, p.bareNodes, marks)
	if err != nil {
		return err
	}
	defer stop()
	watcher := family(w.watcher.command.Process.Pid)
	used, err := watcher.cpu()
	if err != nil {
		return err
	}
	begin := time.Now()
	if result.agentWatched, err = p.loaded(ctx, w, marks, family(w.agent.PID())); err != nil {
		return err
	}
	since, err := watcher.cpu()
	if err != nil {
		return err
	}
	result.watcher = (since - used).Seconds() / time.Since(begin).Seconds()
	if err := marks.settle(ctx); err != nil {
		return err
	}
	result.event, result.bare, result.all = marks.results()
	return nil
}

// loaded makes the changes, and returns the share of a core that a family of
// processes used meanwhile.
func (p consulPlan) loaded(ctx context.Context, w *consulWorld, marks *marks, of family) (share float64, err error) {
	before, err := of.cpu()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := w.change(ctx, p.changesPerSecond, p.load, p.bareNodes, marks); err != nil {
		return 0, err
	}
	elapsed := time.Since(begin)
	after, err := of.cpu()
	return (after - before).Seconds() / elapsed.Seconds(), err
}

// report prints the figures of all sizes, and judges the events' delay.
func (p consulPlan) report(results []catalogResult, out io.Writer) []verdict {
	var verdicts []verdict
	for _, r := range results {
		fmt.Fprintf(out, "  %d services on %d nodes, %d changes a second for %s\n", r.services, r.nodes, p.changesPerSecond, p.load)
		line := func(what string, values []time.Duration) {
			fmt.Fprintf(out, "    %-58s p50 %s   p99 %s   (%d)\n", what, millis(quantile(values, 0.50)), millis(quantile(values, 0.99)), len(values))
		}
		line("registration to the answer of a bare blocking query", r.bare)
		line("the same registrations to the event in the log", r.event)
		line("all registrations to the event in the log", r.all)
		fmt.Fprintf(out, "    %-58s %5.1f %% of a core alone, %.1f %% watched; the watcher %.1f %%\n", "processor, Consul's agent",
			100*r.agentAlone, 100*r.agentWatched, 100*r.watcher)
		perThousand := 1000 / float64(r.services) / (1 << 20)
		fmt.Fprintf(out, "    %-58s %5.1f MiB of the watcher, %.1f MiB more of the agent\n", "memory for each 1,000 services",
			float64(r.watcherMemory)*perThousand, float64(r.agentGrowth)*perThousand)
		fmt.Fprintf(out, "    %-58s %5.2f s from the watcher's start\n\n", "first sync", r.firstSync.Seconds())
		beyond := quantile(r.event, 0.50) - quantile(r.bare, 0.50)
		verdicts = append(verdicts, verdict{
			fmt.Sprintf("event beyond a bare query, %d services, p50", r.services), millis(beyond),
			"at most " + millis(askedBeyondBare), len(r.event) > 0 && beyond <= askedBeyondBare,
		})
	}
	return verdicts
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", math.Round(float64(d.Microseconds())/10)/100)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// What is asked of our gateway: to be ahead of Envoy by these factors.
const (
	askedConnections = 1.1
	askedBulk        = 1.3
)

// entrant is a contender at work, with what was measured of it.
type entrant struct {
	name    string
	address string
	// process is nil for the direct way, which has no proxy.
	process *process

	// cpu is the proxy's processor time for each connection, load that of the
	// clients and the backend, in microseconds; busy is the share of all cores
	// that both took.
	perSecond, p50, p99, cpu, load, busy, bulk []float64
	idle                                       float64
	// failed is how many connections got no answer, failure one of them.
	failed  int
	failure error
}

// benchGateways measures our gateway and its peers in turns.
func benchGateways(ctx context.Context, s settings, scratch string, out io.Writer) ([]verdict, error) {
	b, err := startBackend()
	if err != nil {
		return nil, err
	}
	defer b.stop()
	entrants := []*entrant{{name: "direct", address: b.address().String()}}
	defer func() {
		for _, e := range entrants {
			if e.process != nil {
				e.process.stop()
			}
		}
	}()
	for _, c := range contenders {
		if !slices.Contains(s.gateways, c.name) {
			continue
		}
		program, err := c.find()
		if errors.Is(err, errMissing) && !s.required {
			fmt.Fprintf(out, "SKIPPED: %s is %v\n", c.name, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		p, d, err := c.launch(program, scratch, b.address())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		entrants = append(entrants, &entrant{name: c.name, address: d.Listen.String(), process: p})
		if err := p.ready(ctx, d.Listen.String()); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	// Memory first, while no allocator holds what a load has left behind.
	for _, e := range entrants {
		if e.process == nil {
			continue
		}
		if e.idle, err = measureIdle(ctx, e.address, e.process, s.idle); err != nil {
			return nil, fmt.Errorf("%s, idle connections: %w", e.name, err)
		}
	}
	for round := range s.rounds {
		for i := range entrants {
			// Each round begins with another one.
			e := entrants[(i+round)%len(entrants)]
			if err := e.round(ctx, b, s.duration); err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", e.name, round+1, err)
			}
		}
	}
	fmt.Fprintf(out, "\ngateway: medians of %d rounds of %s each; %d clients, a ClientHello of %d bytes, reset by the client; bulk: %d streams of %d KiB writes\n\n",
		s.rounds, s.duration, clients, helloLength, bulkStreams, bulkWrite>>10)
	return report(entrants, s.idle, out), failures(entrants)
}

// failures is an error when a connection through anybody failed.
func failures(entrants []*entrant) error {
	var problems []error
	for _, e := range entrants {
		if e.failed > 0 {
			problems = append(problems, fmt.Errorf("%s: %d connections failed, one so: %w", e.name, e.failed, e.failure))
		}
	}
	return errors.Join(problems...)
}

// round measures connections and bulk once.
func (e *entrant) round(ctx context.Context, b *backend, d time.Duration) error {
	var before, after time.Duration
	loadBefore, err := ownCPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	if e.process != nil {
		if before, err = e.process.cpu(); err != nil {
			return err
		}
	}
	result, err := measureConnections(ctx, e.address, d)
	if err != nil {
		return err
	}
	if e.process != nil {
		if after, err = e.process.cpu(); err != nil {
			return err
		}
		e.cpu = append(e.cpu, float64((after-before).Microseconds())/float64(result.count))
	}
	loadAfter, err := ownCPU()
	if err != nil {
		return err
	}
	load := loadAfter - loadBefore
	e.load = append(e.load, float64(load.Microseconds())/float64(result.count))
	e.busy = append(e.busy, (after-before+load).Seconds()/time.Since(begin).Seconds()/float64(runtime.NumCPU()))
	if result.failed > 0 {
		e.failed, e.failure = e.failed+result.failed, result.failure
	}
	bulk, err := measureBulk(ctx, e.address, b, d)
	if err != nil {
		return fmt.Errorf("bulk: %w", err)
	}
	e.perSecond = append(e.perSecond, result.perSecond)
	e.p50 = append(e.p50, float64(result.p50.Microseconds()))
	e.p99 = append(e.p99, float64(result.p99.Microseconds()))
	e.bulk = append(e.bulk, bulk)
	return nil
}

// report prints the table and compares ours with Envoy.
func report(entrants []*entrant, idle int, out io.Writer) []verdict {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\tconn/s\tp50 µs\tp99 µs\tcpu µs/conn\tload µs/conn\tcores busy\tfailed\tbulk GB/s\tkB/idle conn (of %d)\t\n", idle)
	byName := map[string]*entrant{}
	for _, e := range entrants {
		byName[e.name] = e
		cpu, memory := "–", "–"
		if e.process != nil {
			cpu, memory = fmt.Sprintf("%.0f", median(e.cpu)), fmt.Sprintf("%.1f", e.idle/1000)
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%s\t%.0f\t%.0f%%\t%d\t%.2f\t%s\t\n", e.name, median(e.perSecond), median(e.p50), median(e.p99),
			cpu, median(e.load), 100*median(e.busy), e.failed, median(e.bulk)/1e9, memory)
	}
	w.Flush()
	fmt.Fprintln(out)
	ours, envoy := byName["isthmus"], byName["Envoy"]
	if ours == nil || envoy == nil {
		return nil
	}
	fmt.Fprintf(out, "Of two that take turns on the same cores with one load, conn/s understates the better: Envoy's processor time for a connection is %.2f times ours.\n\n",
		median(envoy.cpu)/median(ours.cpu))
	compare := func(what string, ours, theirs []float64, asked float64) verdict {
		ratio := median(ours) / median(theirs)
		return verdict{what, fmt.Sprintf("%.2fx", ratio), fmt.Sprintf("at least %.1fx", asked), ratio >= asked}
	}
	return []verdict{
		compare("gateway against Envoy, connections", ours.perSecond, envoy.perSecond, askedConnections),
		compare("gateway against Envoy, bulk", ours.bulk, envoy.bulk, askedBulk),
	}
}

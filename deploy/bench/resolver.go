package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
)

// askedFlat is by how much the cost of one change may grow from the smallest
// catalog to the largest.
const askedFlat = 1.5

// resolverTimes is how many runs of the resolver's benchmarks a median is made of:
// they are short, and single ones stray.
const resolverTimes = 3

// benchmarkLine is one line of a Go benchmark: its name, how often it ran, the
// time of one operation in nanoseconds, and whatever else was measured.
var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark([^\s-]+)(?:-\d+)?\s+(\d+)\s+([0-9.e+]+) ns/op(.*)$`)

// heldMetric is the memory that FirstResolve reports.
var heldMetric = regexp.MustCompile(`([0-9.]+) MiB-held`)

// resolverRuns is what all runs measured, by benchmark.
type resolverRuns struct {
	cost       map[string][]float64
	iterations map[string]int
	held, peak []float64
}

// benchResolver runs the resolver's own benchmarks in turns, each in a process
// of its own, and judges the medians.
func benchResolver(ctx context.Context, _ settings, scratch string, out io.Writer) ([]verdict, error) {
	program := filepath.Join(scratch, "resolver.test")
	if output, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "./services/resolver").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, output)
	}
	r := resolverRuns{cost: map[string][]float64{}, iterations: map[string]int{}}
	for range resolverTimes {
		for _, name := range []string{"InstanceChange/100", "InstanceChange/1000", "InstanceChange/10000", "FirstResolve/10000x10"} {
			if err := r.measure(ctx, program, name); err != nil {
				return nil, err
			}
		}
	}
	return r.report(resolverTimes, out), nil
}

// measure runs one benchmark.
func (r *resolverRuns) measure(ctx context.Context, program, name string) error {
	parent, child := filepath.Split(name)
	pattern := "^Benchmark" + filepath.Clean(parent) + "$/^" + child + "$"
	command := exec.CommandContext(ctx, program, "-test.run=^$", "-test.bench="+pattern)
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, output)
	}
	if err := r.take(name, string(output)); err != nil {
		return err
	}
	if usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage); ok && name == "FirstResolve/10000x10" {
		r.peak = append(r.peak, float64(usage.Maxrss)/1024) // Linux counts it in KiB.
	}
	return nil
}

// errNoLine says that a benchmark did not print what is looked for.
var errNoLine = errors.New("the benchmark did not print what is looked for")

// benchmark finds the line of a benchmark in what it printed, and its cost in nanoseconds.
func benchmark(name, output string) (line []string, cost float64, err error) {
	line = benchmarkLine.FindStringSubmatch(output)
	if line == nil || line[1] != name {
		return nil, 0, fmt.Errorf("%s: %w:\n%s", name, errNoLine, output)
	}
	if cost, err = strconv.ParseFloat(line[3], 64); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", name, err)
	}
	return line, cost, nil
}

// take reads what a benchmark printed.
func (r *resolverRuns) take(name, output string) error {
	line, cost, err := benchmark(name, output)
	if err != nil {
		return err
	}
	iterations, err := strconv.Atoi(line[2])
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.cost[name], r.iterations[name] = append(r.cost[name], cost), r.iterations[name]+iterations
	if held := heldMetric.FindStringSubmatch(line[4]); held != nil {
		mebibytes, err := strconv.ParseFloat(held[1], 64)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.held = append(r.held, mebibytes)
	}
	return nil
}

// report prints medians and judges how the cost grows.
func (r *resolverRuns) report(runs int, out io.Writer) []verdict {
	fmt.Fprintf(out, "\nresolver: medians of %d runs, in turns, a process for each; garbage collection included\n\n", runs)
	small := median(r.cost["InstanceChange/100"])
	var verdicts []verdict
	for _, size := range []struct{ name, said string }{{"100", "100"}, {"1000", "1,000"}, {"10000", "10,000"}} {
		costs := r.cost["InstanceChange/"+size.name]
		cost := median(costs)
		fmt.Fprintf(out, "  one instance changes, of %6s services       %8.1f µs   (%.1f to %.1f, %d changes)\n",
			size.said, cost/1000, costs[0]/1000, costs[len(costs)-1]/1000, r.iterations["InstanceChange/"+size.name])
		if size.name != "100" {
			verdicts = append(verdicts, verdict{
				"resolver, one instance of " + size.said + " against 100", fmt.Sprintf("%.2fx", cost/small),
				fmt.Sprintf("at most %.1fx", askedFlat), cost/small <= askedFlat,
			})
		}
	}
	fmt.Fprintf(out, "  first resolve, 10,000 services, 100,000 instances %5.2f s\n", median(r.cost["FirstResolve/10000x10"])/1e9)
	fmt.Fprintf(out, "  memory then: index and routes %.0f MiB of heap; peak of the process with its catalog %.0f MiB\n\n", median(r.held), median(r.peak))
	return verdicts
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
)

// askedFlat is by how much the cost of one change may grow from the smallest
// catalog to the largest.
const askedFlat = 1.5

// benchmarkLine is one line of a Go benchmark: its name, the time of one
// operation in nanoseconds, and whatever else was measured.
var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark([^\s-]+)(?:-\d+)?\s+\d+\s+([0-9.e+]+) ns/op(.*)$`)

// benchResolver runs the resolver's own benchmarks and judges them.
func benchResolver(ctx context.Context, s settings, _ string, out io.Writer) ([]verdict, error) {
	command := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^(BenchmarkInstanceChange|BenchmarkFirstResolve)$",
		"-count="+strconv.Itoa(s.rounds), "./services/resolver")
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, output)
	}
	costs := map[string][]float64{}
	fmt.Fprintf(out, "\nresolver: %d runs of its benchmarks\n\n", s.rounds)
	for _, line := range benchmarkLine.FindAllSubmatch(output, -1) {
		cost, err := strconv.ParseFloat(string(line[2]), 64)
		if err != nil {
			return nil, err
		}
		costs[string(line[1])] = append(costs[string(line[1])], cost)
		fmt.Fprintf(out, "  %-28s %12.1f µs%s\n", line[1], cost/1000, bytes.ReplaceAll(line[3], []byte("\t"), []byte("  ")))
	}
	fmt.Fprintln(out)
	small, large := costs["InstanceChange/100"], costs["InstanceChange/10000"]
	if len(small) == 0 || len(large) == 0 || len(costs["FirstResolve/10000x10"]) == 0 {
		return nil, fmt.Errorf("the benchmarks did not print what is looked for:\n%s", output)
	}
	growth := median(large) / median(small)
	return []verdict{{
		"resolver, one instance of 10,000 against 100", fmt.Sprintf("%.2fx", growth),
		fmt.Sprintf("at most %.1fx", askedFlat), growth <= askedFlat,
	}}, nil
}

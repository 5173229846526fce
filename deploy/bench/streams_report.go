package main

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// linesOf are the lines of a text, without their ends.
func linesOf(text []byte) iter.Seq[string] {
	return strings.SplitSeq(strings.TrimSpace(string(text)), "\n")
}

// report prints both servers side by side, and judges ours.
func (p streamsPlan) report(r streamsResult, out io.Writer) []verdict {
	n, m := p.proxies(), max(r.consul.streams, 1)
	fmt.Fprintf(out, "\nstreams: %d sidecars of %d services, registered with the catalog, %d upstreams each in the other datacenter;\n", n, p.services, p.upstreams)
	fmt.Fprintf(out, "  raw delta streams that acknowledge everything, in plain text; Consul and ours in turns, on the same registrations\n\n")
	fmt.Fprintf(out, "  %-58s %14s %14s\n", "", "Consul", "isthmus xds")
	line := func(what, consul, ours string) { fmt.Fprintf(out, "  %-58s %14s %14s\n", what, consul, ours) }
	line("streams", fmt.Sprint(m), fmt.Sprint(n))
	line("all connect and have everything", seconds(r.consul.connect), seconds(r.ours.connect))
	line("  processor for each", micros(r.consul.connectCPU/time.Duration(m)), micros(r.ours.connectCPU/time.Duration(n)))
	consul, unlimited, ours := medianFlip(r.consul.flips), medianFlip(r.unlimited), medianFlip(r.ours.flips)
	line("flip of the global mode, write to the last ACK", consul.String(), ours.String())
	line("  to half of the ACKs", seconds(consul.half), seconds(ours.half))
	line("  processor for each", micros(consul.cpu/time.Duration(m)), micros(ours.cpu/time.Duration(n)))
	line("  processor for each, without Consul's limit", micros(unlimited.cpu/time.Duration(m)), "")
	line("  longest of "+fmt.Sprint(len(r.ours.flips)), "", seconds(longest(r.ours.flips)))
	line("  to the last ACK without Consul's limit of updates", unlimited.String(), "")
	line("memory that the streams add, for each", kilobytes((r.consul.after-r.consul.before)/int64(m)), kilobytes((r.ours.after-r.ours.before)/int64(n)))
	line("memory of the whole process, for each", kilobytes(r.consul.after/int64(m)), kilobytes(r.ours.after/int64(n)))
	line("  of that alive: heap and stacks after a collection", "", kilobytes(r.heap/int64(n)))
	line("processor with all streams and no change, of a core", "", fmt.Sprintf("%.1f %%", 100*r.ours.idle))
	fmt.Fprintf(out, "  Consul's limit is xds.update_max_per_second = %d, its default.\n\n", consulLimit)
	moved, expected := total(r.moved), n*p.upstreams
	fmt.Fprintf(out, "  all move to another node: %d responses with %d resources, %d bytes\n", moved.responses, moved.resources, moved.bytes)
	fmt.Fprintf(out, "  then a flip, which proves that they are there: %s\n\n", flipProof(r.flipped, expected))

	ratio := func(than flip) string { return fmt.Sprintf("%.1fx", than.last.Seconds()/ours.last.Seconds()) }
	faster := func(than flip) bool { return ours.last > 0 && than.last >= askedFlip*ours.last }
	perProxy := r.ours.after / int64(n)
	proven := total(r.flipped)
	return []verdict{
		{fmt.Sprintf("mode flip to %d proxies, against Consul's %d", n, m), ratio(consul), fmt.Sprintf("at least %dx", askedFlip), faster(consul)},
		{"  against Consul without its limit", ratio(unlimited), fmt.Sprintf("at least %dx", askedFlip), faster(unlimited)},
		{"memory of a node for each proxy, all included", kilobytes(perProxy), "under " + kilobytes(askedMemory), perProxy > 0 && perProxy < askedMemory},
		{
			fmt.Sprintf("resources sent as %d proxies move", n), fmt.Sprintf("%d", moved.resources), "none",
			moved.resources == 0 && proven.resources == expected && proven.removed == 0,
		},
	}
}

// flipProof says what was sent of each type after the move and a flip.
func flipProof(byType map[xdsnode.Type]sum, expected int) string {
	var said []string
	for _, t := range xdsnode.Types() {
		if s := byType[t]; s.resources > 0 {
			said = append(said, fmt.Sprintf("%d of %s", s.resources, string(t)[strings.LastIndexByte(string(t), '.')+1:]))
		}
	}
	return fmt.Sprintf("%s in all (%d change)", strings.Join(said, ", "), expected)
}

// total is the sum over all types.
func total(byType map[xdsnode.Type]sum) sum {
	var out sum
	for _, s := range byType {
		out = sum{out.responses + s.responses, out.resources + s.resources, out.removed + s.removed, out.bytes + s.bytes}
	}
	return out
}

func longest(flips []flip) time.Duration {
	if len(flips) == 0 {
		return 0
	}
	return slices.MaxFunc(flips, func(a, b flip) int { return int(a.last - b.last) }).last
}

// String is when the last proxy had it, or how many never did.
func (f flip) String() string {
	if f.missing > 0 {
		return fmt.Sprintf("%d not in %.0f s", f.missing, f.last.Seconds())
	}
	return seconds(f.last)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }

func kilobytes(n int64) string { return fmt.Sprintf("%.1f kB", float64(n)/1000) }

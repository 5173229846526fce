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
	n := p.proxies()
	fmt.Fprintf(out, "\nstreams: %d sidecars of %d services, registered with the catalog, %d upstreams each in the other datacenter;\n", n, p.services, p.upstreams)
	fmt.Fprintf(out, "  raw delta streams that acknowledge everything, in plain text; Consul and ours in turns, on the same registrations\n\n")
	fmt.Fprintf(out, "  %-58s %16s %16s\n", "", "Consul", "isthmus xds")
	line := func(what, consul, ours string) { fmt.Fprintf(out, "  %-58s %16s %16s\n", what, consul, ours) }
	var verdicts []verdict
	for i, streams := range p.stages {
		var consul, ours stage
		if i < len(r.consul) {
			consul = r.consul[i]
		}
		if i < len(r.ours) {
			ours = r.ours[i]
		}
		line(fmt.Sprintf("%d streams", streams), "", "")
		line("  the last ones connect and have everything", seconds(consul.connect), seconds(ours.connect))
		line("    processor for each", share(consul.connectCPU, consul.came), share(ours.connectCPU, ours.came))
		theirs, fast := medianFlip(consul.flips), medianFlip(ours.flips)
		line("  flip of the global mode, write to the last ACK", theirs.String(), fast.String())
		line("    to half of the ACKs", seconds(theirs.half), seconds(fast.half))
		line("    processor for each", share(theirs.cpu, streams), share(fast.cpu, streams))
		line(fmt.Sprintf("    longest of %d", len(ours.flips)), "", seconds(longest(ours.flips)))
		if len(consul.unlimited) > 0 {
			line("    without Consul's limit of updates", medianFlip(consul.unlimited).String(), "")
			verdicts = append(verdicts, faster(fmt.Sprintf("flip to %d, against Consul without its limit", streams), medianFlip(consul.unlimited), fast))
		}
		line("  memory that the streams add, for each", kilobytes((consul.memory-r.consulBare)/int64(streams)), kilobytes((ours.memory-r.oursBare)/int64(streams)))
		line("  memory of the whole process, for each", kilobytes(consul.memory/int64(streams)), kilobytes(ours.memory/int64(streams)))
		against := fmt.Sprintf("flip to %d, against Consul", streams)
		if consul.failed != nil {
			fmt.Fprintf(out, "  Consul did not bear them: %v\n", consul.failed)
			against, theirs = fmt.Sprintf("flip to %d, against Consul's to %d", streams, p.stages[0]), medianFlip(r.consul[0].flips)
		}
		verdicts = append(verdicts, faster(against, theirs, fast))
	}
	line("all streams: heap and stacks after a collection, for each", "", kilobytes(r.heap/int64(n)))
	line("all streams and no change: processor, of a core", "", fmt.Sprintf("%.1f %%", 100*r.idle))
	fmt.Fprintf(out, "  Consul's limit is xds.update_max_per_second = %d, its default.\n\n", consulLimit)
	moved, proven, expected := total(r.moved), total(r.flipped), n*p.upstreams
	fmt.Fprintf(out, "  all move to another node: %d responses with %d resources, %d bytes\n", moved.responses, moved.resources, moved.bytes)
	fmt.Fprintf(out, "  then a flip, which proves that they are there: %s\n\n", flipProof(r.flipped, expected))
	perProxy := int64(0)
	if len(r.ours) > 0 {
		perProxy = r.ours[len(r.ours)-1].memory / int64(n)
	}
	return append(verdicts,
		verdict{"memory of a node for each proxy, all included", kilobytes(perProxy), "under " + kilobytes(askedMemory), perProxy > 0 && perProxy < askedMemory},
		verdict{
			fmt.Sprintf("resources sent as %d proxies move", n), fmt.Sprint(moved.resources), "none",
			moved.resources == 0 && proven.resources == expected && proven.removed == 0,
		},
	)
}

// faster judges a flip against Consul's, of which those that never came are left out.
func faster(what string, consul, ours flip) verdict {
	ratio := 0.0
	if ours.last > 0 {
		ratio = consul.last.Seconds() / ours.last.Seconds()
	}
	return verdict{what, fmt.Sprintf("%.1fx", ratio), fmt.Sprintf("at least %dx", askedFlip), ratio >= askedFlip}
}

// share is what each of several costs.
func share(d time.Duration, of int) string {
	if of == 0 {
		return ""
	}
	return micros(d / time.Duration(of))
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

// String is when the last proxy had it, and how many did not get it.
func (f flip) String() string {
	if f.missing > 0 {
		return fmt.Sprintf("%d never, %s", f.missing, seconds(f.last))
	}
	return seconds(f.last)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }

func kilobytes(n int64) string { return fmt.Sprintf("%.1f kB", float64(n)/1000) }

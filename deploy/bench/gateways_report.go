package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Values of -logs.
const (
	logsOff = "off"
	logsOn  = "on"
)

// bar is what is asked of ours in one column, beside the best peer there.
type bar struct {
	what   string
	figure figure
	// added compares what is added to the direct way, of which nothing more is
	// asked than not to be worse, as far as can be told; else asked is the factor.
	added bool
	asked float64
	// more is that more is better.
	more bool
	// beside is the only peer to be compared with; empty: all.
	beside string
}

var bars = []bar{
	{what: "connections", figure: perSecond, asked: 1.05, more: true},
	{what: "processor for a connection", figure: cpu, asked: 0.95},
	{what: "bulk", figure: bulk, asked: 1.5, more: true},
	{what: "memory of an idle connection", figure: idleBytes, asked: 1.0, beside: "HAProxy"},
	{what: "request p50", figure: openP50, added: true},
	{what: "request p99", figure: openP99, added: true},
	{what: "new connection p50", figure: newP50, added: true},
	{what: "new connection p99", figure: newP99, added: true},
}

// of is an entrant's figure in every round.
func (b bar) of(e, direct *entrant) []float64 {
	values := e.rounds[b.figure]
	if !b.added {
		return values
	}
	return paired(values, direct.rounds[b.figure], func(through, without float64) float64 { return through - without })
}

// paired joins what two had in the same rounds, which the machine's moods have in
// common.
func paired(a, b []float64, join func(a, b float64) float64) []float64 {
	var joined []float64
	for i := range min(len(a), len(b)) {
		joined = append(joined, join(a[i], b[i]))
	}
	return joined
}

// verdict compares ours with the best of the peers; false: there is none.
func (b bar) verdict(direct, ours *entrant, peers []*entrant) (verdict, bool) {
	var best *entrant
	var beside []float64
	var theirs float64
	for _, p := range peers {
		values := b.of(p, direct)
		if b.beside != "" && p.name != b.beside || len(values) == 0 {
			continue
		}
		if m := median(values); best == nil || m > theirs == b.more {
			best, beside, theirs = p, values, m
		}
	}
	mine := b.of(ours, direct)
	if best == nil || len(mine) == 0 {
		return verdict{}, false
	}
	if b.added {
		m := median(mine)
		measured := fmt.Sprintf("%.0f µs, %s %.0f µs", m, best.name, theirs)
		ok := m <= theirs
		if least, most, known := interval(paired(mine, beside, func(a, b float64) float64 { return a - b })); known {
			measured += fmt.Sprintf(" (%+.0f to %+.0f)", least, most)
			ok = least <= 0
		}
		return verdict{b.what + " added", measured, "no more", ok}, true
	}
	ratio := median(mine) / theirs
	measured := fmt.Sprintf("%.2fx %s's%s", ratio, best.name, middle(paired(mine, beside, func(a, b float64) float64 { return a / b }), "%.2f"))
	if b.more {
		return verdict{b.what, measured, fmt.Sprintf("at least %.2fx", b.asked), ratio >= b.asked}, true
	}
	return verdict{b.what, measured, fmt.Sprintf("at most %.2fx", b.asked), ratio <= b.asked}, true
}

// interval is where the median of what the values are drawn from lies, 19 times of 20 at
// least, whatever its distribution: between two of them that are as many ranks from the
// ends as a coin hardly ever leaves to one side. Too few values do not say.
func interval(values []float64) (least, most float64, known bool) {
	n := len(values)
	// The half is the continuity correction, without which 8 values, or 36, hold it less
	// often.
	rank := int(float64(n)/2 - 0.98*math.Sqrt(float64(n)) - 0.5)
	if n < 6 || rank < 0 {
		return 0, 0, false
	}
	slices.Sort(values)
	return values[rank], values[n-1-rank], true
}

// middle says between what the middle half of values lies; nothing of too few.
func middle(values []float64, format string) string {
	if len(values) < 3 {
		return ""
	}
	slices.Sort(values)
	return fmt.Sprintf(" ("+format+" to "+format+")", quantile(values, 0.25), quantile(values, 0.75))
}

// verdicts says of each bar whether it holds; none without ours or any peer.
func (g *race) verdicts() []verdict {
	var ours *entrant
	var peers []*entrant
	for _, e := range g.entrants {
		switch {
		case e.peer:
			peers = append(peers, e)
		case e.name == contenders[0].name:
			ours = e
		}
	}
	if ours == nil {
		return nil
	}
	var verdicts []verdict
	for _, b := range bars {
		if v, ok := b.verdict(g.entrants[0], ours, peers); ok {
			v.what = "gateway, logs " + g.logs + ": " + v.what
			verdicts = append(verdicts, v)
		}
	}
	return verdicts
}

// column is a column of a table; added stands beside the figure, less that of the
// direct way.
type column struct {
	figure figure
	digits int
	added  bool
}

// report prints the medians.
func (g *race) report(out io.Writer) {
	fmt.Fprintf(out, "\ngateway, access logs %s: medians of %d rounds, in turns of %s for bulk and half as long for all else; a ClientHello of %d bytes, reset by the client; %d clients; bulk: %d streams of %d KiB writes; %d idle\n\n",
		g.logs, g.rounds, g.duration, helloLength, saturation.connections, bulkStreams, bulkWrite>>10, g.idle)
	g.table(out, []column{{perSecond, 0, false}, {cpu, 1, false}, {cpuAtRate, 1, false}, {load, 1, false}, {busy, 0, false}, {bulk, 2, false}, {cpuBulk, 0, false}, {idleBytes, 1, false}, {idleWhole, 0, false}, {idleCore, 1, false}}, true)
	fmt.Fprintf(out, "Others took %.0f%% of the cores meanwhile.\n\n", 100*g.others)
	fmt.Fprintf(out, "latency: requests of %d bytes, %d a second on %d open connections; new connections, %d a second; requests while bulk is moved; and as many connections as it takes\n\n",
		requestLength, conversation.rate, conversation.connections, moderation.rate)
	g.table(out, []column{{openP50, 0, true}, {openP99, 0, true}, {newP50, 0, true}, {newP99, 0, true}, {besideP50, 0, false}, {besideP99, 0, false}, {fullP50, 0, false}, {fullP99, 0, false}}, false)
}

// table prints one table, with what failed and what was logged or without.
func (g *race) table(out io.Writer, columns []column, counts bool) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	var heads strings.Builder
	for _, c := range columns {
		heads.WriteString("\t" + string(c.figure))
		if c.added {
			heads.WriteString("\tadded")
		}
	}
	if counts {
		heads.WriteString("\tfailed\tlogged %")
	}
	fmt.Fprintln(w, heads.String()+"\t")
	for _, e := range g.entrants {
		fmt.Fprint(w, e.name)
		for _, c := range columns {
			fmt.Fprint(w, "\t"+cell(e.rounds[c.figure], c.digits))
			if c.added {
				fmt.Fprint(w, "\t"+cell(g.added(e, c.figure), c.digits))
			}
		}
		if counts {
			fmt.Fprintf(w, "\t%d\t%s", e.failed, e.logged())
		}
		fmt.Fprintln(w, "\t")
	}
	w.Flush()
	fmt.Fprintln(out)
}

// added is what a proxy adds to the direct way in every round.
func (g *race) added(e *entrant, f figure) []float64 {
	if e.process == nil {
		return nil
	}
	return bar{figure: f, added: true}.of(e, g.entrants[0])
}

// logged is the share of connections that have their line.
func (e *entrant) logged() string {
	if e.accessLog == "" {
		return "–"
	}
	// The probes of whether it was ready have lines too.
	return fmt.Sprintf("%.1f", min(100, 100*float64(e.lines)/float64(max(1, e.answered))))
}

// cell is a median as it stands in a table.
func cell(values []float64, digits int) string {
	if len(values) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, median(values))
}

package top

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Size is the room that there is: characters in a line, and lines. Zero: any
// number.
type Size struct{ Width, Height int }

// unknown stands for a number that is not known.
const unknown = "–"

// Text draws a frame: a line for each gateway, what there is to say of where its
// numbers come from, and a line for each route. Lines that have no room are left
// out at the end and counted. No control character is in it, whatever a name has.
func (f *Frame) Text(size Size) string {
	lines := []string{f.title()}
	if f.Trouble != "" {
		lines = append(lines, f.Trouble)
	}
	lines = append(lines, f.gateways()...)
	lines = append(lines, f.notes()...)
	routes := f.routes(size.Width)
	left := f.RoutesLeftOut
	if size.Height > 0 {
		// A blank line before the routes, and a last one that counts.
		room := max(size.Height-len(lines)-2, 0)
		if fit := len(routes) - 1; fit > 0 && fit > room-1 {
			cut := min(fit-(room-1), fit)
			routes, left = routes[:len(routes)-cut], left+cut
		}
	}
	lines = append(append(lines, ""), routes...)
	if left > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", left))
	}
	if size.Height > 0 && len(lines) > size.Height {
		lines = lines[:size.Height]
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(cut(printable(line), size.Width))
		b.WriteByte('\n')
	}
	return b.String()
}

func (f *Frame) title() string {
	title := fmt.Sprintf("%s  %s", f.Time.Format(time.TimeOnly), plural(len(f.Gateways), "gateway"))
	if n := len(f.Routes) + f.RoutesLeftOut; n > 0 {
		title += ", " + plural(n, "route")
	}
	return title
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (f *Frame) gateways() []string {
	rows := [][]string{{"DC", "GATEWAY", "STATE", "ROUTES", "OPEN", "NEW/S", "IN/S", "OUT/S", "REFUSED", "REFUSED/S", "NUMBERS"}}
	for i := range f.Gateways {
		g := &f.Gateways[i]
		if g.From == FromNowhere {
			rows = append(rows, []string{g.Datacenter, g.Name, "silent", "", "", "", "", "", "", "", ""})
			continue
		}
		state, numbers := g.State, "live"
		if g.SavedTableAge > 0 {
			state += " " + age(g.SavedTableAge)
		}
		if g.From == FromReport {
			numbers = age(g.Age) + " ago"
		}
		rows = append(rows, []string{
			g.Datacenter, g.Name, state, fmt.Sprintf("#%d", g.Sequence), fmt.Sprint(g.Open),
			perSecond(g.Rates.Connections), bytesPerSecond(g.Rates.BytesIn), bytesPerSecond(g.Rates.BytesOut),
			fmt.Sprint(g.Refused), perSecond(g.Rates.Refused), numbers,
		})
	}
	return columns(rows, 3)
}

// notes are what does not fit a gateway's row: refusals by reason, and why its
// numbers are those of its report.
func (f *Frame) notes() []string {
	var out []string
	for i := range f.Gateways {
		g := &f.Gateways[i]
		if len(g.RefusedBy) > 0 {
			out = append(out, fmt.Sprintf("%s: refused: %s", g.Name, byReason(g.RefusedBy)))
		}
		if g.Trouble != "" {
			out = append(out, fmt.Sprintf("%s: %s", g.Name, g.Trouble))
		}
	}
	return out
}

// byReason lists reasons, the most frequent first.
func byReason(counts map[string]uint64) string {
	reasons := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for i, reason := range reasons {
		reasons[i] = fmt.Sprintf("%s %d", reason, counts[reason])
	}
	return strings.Join(reasons, ", ")
}

func (f *Frame) routes(width int) []string {
	header := []string{"ROUTE", "OPEN", "NEW/S", "IN/S", "OUT/S", "REFUSED", "FAILED", "LIVE", "EJECTED"}
	datacenters, each := f.spread()
	if each {
		header = slices.Insert(header, 1, "GATEWAY")
	}
	if datacenters {
		header = slices.Insert(header, 1, "DC")
	}
	rows := [][]string{header}
	for i := range f.Routes {
		r := &f.Routes[i]
		row := []string{
			r.Name, r.count(number(r.Open)), perSecond(r.Rates.Connections), bytesPerSecond(r.Rates.BytesIn), bytesPerSecond(r.Rates.BytesOut),
			r.count(number(r.Refused)), r.count(number(r.ConnectFailures)), number(r.Live), r.ejected(),
		}
		if each {
			row = slices.Insert(row, 1, r.Gateway)
		}
		if datacenters {
			row = slices.Insert(row, 1, r.Datacenter)
		}
		rows = append(rows, row)
	}
	if len(rows) == 1 {
		return []string{"no route has been used yet"}
	}
	shortenNames(rows, width)
	return columns(rows, len(header)-8)
}

// leastName is what stays of a route's name in a narrow terminal at the least.
const leastName = 16

// shortenNames shortens the names of routes, which are long and differ at the
// beginning, so that their numbers have room in a width.
func shortenNames(rows [][]string, width int) {
	if width <= 0 {
		return
	}
	others := make([]int, len(rows[0])-2)
	for _, row := range rows {
		for i := range others {
			others[i] = max(others[i], utf8.RuneCountInString(row[i+1])+len(gap))
		}
	}
	room := width - len(gap) - utf8.RuneCountInString(rows[0][len(rows[0])-1])
	for _, w := range others {
		room -= w
	}
	for _, row := range rows {
		row[0] = cut(row[0], max(room, leastName))
	}
}

// spread says whether routes are of several datacenters, and of single gateways.
func (f *Frame) spread() (datacenters, each bool) {
	for i := range f.Routes {
		each = each || f.Routes[i].Gateway != ""
		datacenters = datacenters || f.Routes[i].Datacenter != f.Routes[0].Datacenter
	}
	return datacenters, each
}

// ejected names the endpoints that are ejected, as far as names were given.
func (r *Route) ejected() string {
	switch {
	case r.EjectedCount == nil:
		return unknown
	case *r.EjectedCount == 0:
		return ""
	}
	text := strings.Join(r.Ejected, ", ")
	if more := *r.EjectedCount - len(r.Ejected); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// count marks a number of which only a part is known.
func (r *Route) count(number string) string {
	if r.Partial && number != unknown {
		return number + "+"
	}
	return number
}

func number[N int | int64 | uint64](n *N) string {
	if n == nil {
		return unknown
	}
	return fmt.Sprint(*n)
}

func perSecond(rate *float64) string {
	switch {
	case rate == nil:
		return unknown
	case *rate >= 1000:
		return strconv.FormatFloat(*rate, 'f', 0, 64)
	}
	return strconv.FormatFloat(*rate, 'f', 1, 64)
}

func bytesPerSecond(rate *float64) string {
	if rate == nil {
		return unknown
	}
	n := *rate
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if n < 999.5 {
			if unit == "B" {
				return strconv.FormatFloat(n, 'f', 0, 64) + " B"
			}
			return strconv.FormatFloat(n, 'f', 1, 64) + " " + unit
		}
		n /= 1000
	}
	return strconv.FormatFloat(n, 'f', 1, 64) + " TB"
}

// age is a number of seconds, for people.
func age(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Truncate(100 * time.Millisecond).String()
}

// gap is between two columns.
const gap = "  "

// columns lines rows up. The first few columns are text and stand left, the
// others numbers and stand right, but for the last, which may be of any length.
func columns(rows [][]string, left int) []string {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	lines := make([]string, len(rows))
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			space := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			switch {
			case i == len(row)-1:
				b.WriteString(cell)
			case i < left:
				b.WriteString(cell + space + gap)
			default:
				b.WriteString(space + cell + gap)
			}
		}
		lines[n] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// printable takes out what a terminal would act upon: names and words come from
// other machines.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, line)
}

// cut shortens a line to a width.
func cut(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}

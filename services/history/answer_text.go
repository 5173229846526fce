package history

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// levels in the order in which they are asked.
var levels = []isthmusv1.Level{
	isthmusv1.Level_LEVEL_UPSTREAM, isthmusv1.Level_LEVEL_OVERRIDE, isthmusv1.Level_LEVEL_INSTANCE,
	isthmusv1.Level_LEVEL_UPSTREAM_DEFAULTS, isthmusv1.Level_LEVEL_SERVICE_DEFAULTS,
	isthmusv1.Level_LEVEL_PROXY_DEFAULTS, isthmusv1.Level_LEVEL_TARGET_SERVICE_DEFAULTS, isthmusv1.Level_LEVEL_DEFAULT,
}

// WriteAnswer shows an answer as a page of text: for each target the mode and
// the level that set it among all levels, the path drawn, the names and the
// addresses; then who may, what is wrong, and the basis.
func WriteAnswer(w io.Writer, a Answer) {
	fmt.Fprintf(w, "%s (%s) → %s in %s, %s\n", a.Service, a.Proxy, a.Upstream, a.Datacenter, a.Protocol)
	for i, t := range a.Targets {
		writeTarget(w, a, i, t)
	}
	if len(a.Targets) == 0 {
		fmt.Fprintf(w, "\n  leads nowhere\n")
	}
	fmt.Fprintln(w)
	writeAuthorization(w, a.Authorization)
	writeProblems(w, "  ", a.Problems)
	fmt.Fprintf(w, "  basis      %s\n", basisText(a.Basis))
	for _, stale := range a.Stale {
		fmt.Fprintf(w, "  ! %s\n", stale)
	}
}

func writeTarget(w io.Writer, a Answer, i int, t AnswerTarget) {
	fmt.Fprintln(w)
	if len(a.Targets) > 1 {
		fmt.Fprintf(w, "  %d. %s\n", i+1, targetTitle(t))
	}
	fmt.Fprintf(w, "  mode       %s\n", t.Mode)
	writeLevels(w, t)
	fmt.Fprintf(w, "  path       %s\n", Path(a.Service, t))
	if t.SNI != "" {
		fmt.Fprintf(w, "  SNI        %s\n", t.SNI)
	}
	for j, id := range t.SPIFFEIDs {
		fmt.Fprintf(w, "  %-10s %s\n", first(j, "peer"), id)
	}
	for j, e := range t.Endpoints {
		mark := "√"
		if e.Health != healthName(isthmusv1.Health_HEALTH_HEALTHY) {
			mark = "×"
		}
		fmt.Fprintf(w, "  %-10s %s %-21s %s, %s, weight %d\n", first(j, "endpoints"), mark, e.address(), e.Datacenter, e.Health, e.Weight)
	}
	writeProblems(w, "  ", t.Problems)
}

func (e AnswerEndpoint) address() string {
	if strings.Contains(e.Address, ":") {
		return "[" + e.Address + "]:" + strconv.Itoa(int(e.Port))
	}
	return e.Address + ":" + strconv.Itoa(int(e.Port))
}

func targetTitle(t AnswerTarget) string {
	title := t.Service + " in " + t.Datacenter
	if t.Subset != "" {
		title = "subset " + t.Subset + " of " + title
	}
	if t.Match != "" {
		title += ", for requests with " + t.Match
	}
	if t.Weight != 100 {
		title += fmt.Sprintf(", %s %% of the traffic", strconv.FormatFloat(t.Weight, 'f', -1, 64))
	}
	if t.FailoverIndex > 0 {
		title += fmt.Sprintf(", failover %d", t.FailoverIndex)
	}
	return title
}

func first(i int, label string) string {
	if i == 0 {
		return label
	}
	return ""
}

// writeLevels shows all levels, those that say nothing too: the order is half
// of the answer. Below a mode that is shown merged stands where it probably
// comes from.
func writeLevels(w io.Writer, t AnswerTarget) {
	d := t.Decision
	type row struct{ mode, result, source string }
	rows := map[string]row{isthmusv1.Level_LEVEL_DEFAULT.Name(): {string(isthmusv1.ModeNone), "hidden", ""}}
	for _, part := range []struct {
		levels []AnswerLevel
		result string
	}{{d.Hidden, "hidden"}, {d.Unmerged, "unmerged"}, {d.Likeliest, "likely"}} {
		for _, l := range part.levels {
			rows[l.Level] = row{cmp.Or(l.Mode, "·"), part.result, l.Source.String()}
		}
	}
	rows[d.Level] = row{t.Mode, "WINS", d.Source.String()}
	names := make([]string, 0, len(levels)+1)
	for _, l := range levels {
		names = append(names, l.Name())
	}
	if !slices.Contains(names, d.Level) {
		names = slices.Insert(names, 0, d.Level)
	}
	for _, name := range names {
		r := rows[name]
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("             %-23s  %-6s  %-6s  %s", name, cmp.Or(r.mode, "·"), r.result, r.source), " "))
	}
	if len(d.Likeliest) > 0 {
		fmt.Fprintf(w, "  likeliest  %s\n", likeliestText(d))
	}
	if d.PendingAgent != "" {
		fmt.Fprintf(w, "  agent      pending agent: %s\n", d.PendingAgent)
	}
}

// likeliestText names where a mode that is shown merged probably comes from.
func likeliestText(d AnswerDecision) string {
	first := d.Likeliest[0]
	if slices.ContainsFunc(d.Hidden, func(l AnswerLevel) bool { return l.Level == first.Level }) {
		return first.Level
	}
	names := map[string]string{
		isthmusv1.Level_LEVEL_UPSTREAM.Name(): "upstream definition", isthmusv1.Level_LEVEL_INSTANCE.Name(): "instance",
	}
	parts := make([]string, len(d.Likeliest))
	for i, l := range d.Likeliest {
		parts[i] = names[l.Level]
	}
	return strings.Join(parts, " or ") + ": the entries do not come to " + first.Mode
}

// Path draws the way of a target: `web ─▶ gateway of dc2 ─▶ api`.
func Path(service string, t AnswerTarget) string {
	to := t.Service + " in " + t.Datacenter
	switch t.Path {
	case isthmusv1.Path_PATH_DIRECT.Name():
		if t.Mode != string(isthmusv1.ModeNone) {
			to += ", the own datacenter: no gateway is asked"
		}
		return service + " ═▶ " + to
	case isthmusv1.Path_PATH_REMOTE_GATEWAY.Name():
		return service + " ═▶ gateway of " + t.Datacenter + " ═▶ " + to
	case isthmusv1.Path_PATH_LOCAL_GATEWAY.Name():
		return service + " ═▶ own gateway ═▶ gateway of " + t.Datacenter + " ═▶ " + to
	}
	return service + " ─╳  no path to " + to
}

func writeAuthorization(w io.Writer, a AnswerAuthorization) {
	verdict := "denied"
	switch {
	case a.Allowed:
		verdict = "allowed"
	case a.ByRequest:
		verdict = "by request"
	}
	line := fmt.Sprintf("  may it?    %s: %s", verdict, a.Reason)
	if a.Source != nil {
		line += " (" + a.Source.String() + ")"
	}
	fmt.Fprintln(w, line)
}

func writeProblems(w io.Writer, indent string, problems []AnswerProblem) {
	for _, p := range problems {
		mark := "‼"
		if p.Severity == "error" {
			mark = "×"
		}
		fmt.Fprintf(w, "%s%s %s %s\n", indent, mark, p.Code, p.Problem)
		if p.Fix != "" {
			fmt.Fprintf(w, "%s  → %s\n", indent, p.Fix)
		}
	}
}

func basisText(basis map[string]AnswerPosition) string {
	parts := make([]string, 0, len(basis))
	for _, stream := range slices.Sorted(maps.Keys(basis)) {
		parts = append(parts, fmt.Sprintf("%s@%d", stream, basis[stream].Sequence))
	}
	return strings.Join(parts, " ")
}

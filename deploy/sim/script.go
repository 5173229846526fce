package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Script is a run: a seed for the log's own faults, and steps. Its text is one
// step a line.
type Script struct {
	Seed uint64
	// Unkind: the log has faults of its own.
	Unkind bool
	Steps  []Step
}

// Step is one thing that happens: a verb and its arguments, as in
// "change dc1 +17 -3", "kill watcher.dc1.0", "wait 300ms".
type Step struct {
	Verb string
	Args []string
}

// String is the step as a line of a script.
func (s Step) String() string { return strings.Join(append([]string{s.Verb}, s.Args...), " ") }

// String is the script as [Parse] reads it.
func (s Script) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d\n", s.Seed)
	if s.Unkind {
		b.WriteString("unkind\n")
	}
	for _, step := range s.Steps {
		b.WriteString(step.String() + "\n")
	}
	return b.String()
}

// Parse reads a script. Empty lines and those that begin with # are left out.
func Parse(text string) (Script, error) {
	var s Script
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case words[0] == "unkind":
			s.Unkind = true
		case words[0] == "seed" && len(words) == 2:
			seed, err := strconv.ParseUint(words[1], 10, 64)
			if err != nil {
				return s, fmt.Errorf("script: %w", err)
			}
			s.Seed = seed
		default:
			if _, ok := verbs[words[0]]; !ok {
				return s, fmt.Errorf("script: no step is called %q", words[0])
			}
			s.Steps = append(s.Steps, Step{words[0], words[1:]})
		}
	}
	return s, nil
}

// The cast.
var (
	datacenters = []string{"dc1", "dc2"}
	watchers    = []string{"watcher.dc1.0", "watcher.dc1.1", "watcher.dc2.0", "watcher.dc2.1"}
	resolvers   = []string{"resolver.0", "resolver.1"}
	processes   = append(append([]string{}, watchers...), resolvers...)
	delayed     = slices.Concat(processes, []string{"reader"})
	streams     = []string{"CATALOG_dc1", "CATALOG_dc2", "ROUTES_dc1"}
)

// Generate makes the script of a seed.
func Generate(seed uint64) Script {
	g := &generator{rand.New(rand.NewPCG(seed, 0x5EED))}
	s := Script{Seed: seed, Unkind: seed%4 != 0}
	for range 15 + g.IntN(30) {
		s.Steps = append(s.Steps, g.step())
	}
	return s
}

type generator struct{ *rand.Rand }

func (g *generator) of(names []string) string { return names[g.IntN(len(names))] }

func (g *generator) wait(most time.Duration) string {
	return time.Duration(g.Int64N(int64(most))).Round(time.Millisecond).String()
}

// step draws one: mostly changes, with enough time and trouble in between.
func (g *generator) step() Step {
	switch n := g.IntN(100); {
	case n < 45:
		return g.change()
	case n < 60:
		return Step{"wait", []string{g.wait(1500 * time.Millisecond)}}
	case n < 66:
		return Step{"kill", []string{g.of(processes)}}
	case n < 73:
		return Step{"start", []string{g.of(processes)}}
	case n < 77:
		return Step{"late", []string{g.of(watchers), g.wait(3 * time.Second)}}
	case n < 81:
		return Step{"delay", []string{g.of(delayed), g.wait(200 * time.Millisecond)}}
	case n < 84:
		return Step{"lose-source", []string{g.of(watchers)}}
	case n < 87:
		return Step{"find-source", []string{g.of(watchers)}}
	case n < 89:
		return Step{"reset-consumers", []string{g.of(streams)}}
	case n < 91:
		return Step{"lose-answer", []string{g.of(streams)}}
	case n < 92:
		return Step{"lose-request", []string{g.of(streams)}}
	case n < 94:
		return Step{"hold", []string{g.of(streams), strconv.Itoa(g.IntN(3))}}
	case n < 95:
		return Step{"release", []string{g.of(streams)}}
	case n < 97:
		return Step{"cut", []string{g.of(processes)}}
	case n < 99:
		return Step{"heal", []string{g.of(processes)}}
	default:
		return Step{"recreate", []string{g.of(streams)}}
	}
}

// change sets or removes some values of one datacenter at once.
func (g *generator) change() Step {
	args := []string{g.of(datacenters)}
	for range 1 + g.IntN(4) {
		sign := "+"
		if g.IntN(4) == 0 {
			sign = "-"
		}
		args = append(args, sign+strconv.Itoa(g.IntN(400)))
	}
	return Step{"change", args}
}

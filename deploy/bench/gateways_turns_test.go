package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A round measures what is asked for, the turns of each thing after each other; each turn
// is everybody's, and begins with another one.
func TestTurns(t *testing.T) {
	var done []string
	whole := measurements
	defer func() { measurements = whole }()
	measurements = nil
	for _, m := range whole {
		m.do = func(e *entrant, _ context.Context, _ *backend, d time.Duration) error {
			done = append(done, fmt.Sprint(m.name, " ", e.name, " ", d))
			return nil
		}
		measurements = append(measurements, m)
	}
	g := &race{
		settings: settings{rounds: 2, duration: time.Second, measures: []string{"bulk", "connections"}},
		entrants: []*entrant{{name: "a"}, {name: "b"}, {name: "c"}},
	}
	if err := g.turns(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	var want []string
	turns := func(name, d string, orders ...string) {
		for _, order := range orders {
			for _, who := range strings.Split(order, "") {
				want = append(want, name+" "+who+" "+d)
			}
		}
	}
	turns("connections", "500ms", "abc", "bca", "cab", "abc")
	turns("bulk", "1s", "abc")
	turns("connections", "500ms", "bca", "cab", "abc", "bca")
	turns("bulk", "1s", "bca")
	if !slices.Equal(done, want) {
		t.Errorf("got  %v\nwant %v", done, want)
	}
}

// Of what was not measured nothing is said, and nobody is best in it.
func TestVerdictOfWhatWasNotMeasured(t *testing.T) {
	b := bar{what: "processor", figure: cpu, asked: 0.95}
	measured := &entrant{name: "nginx", rounds: map[figure][]float64{cpu: {100}}}
	ours := &entrant{name: "isthmus", rounds: map[figure][]float64{cpu: {90}}}
	not := &entrant{name: "Envoy"}
	v, there := b.verdict(&entrant{}, ours, []*entrant{not, measured})
	if !there || v.measured != "0.90x nginx's" || !v.ok {
		t.Errorf("one peer was not measured: %+v", v)
	}
	if v, there := b.verdict(&entrant{}, ours, []*entrant{not}); there {
		t.Errorf("no peer was measured: %+v", v)
	}
	if v, there := b.verdict(&entrant{}, not, []*entrant{measured}); there {
		t.Errorf("ours was not measured: %+v", v)
	}
}

package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// The consul part fits together: a small world gives every figure.
func TestConsul(t *testing.T) {
	agenttest.Need(t)
	t.Chdir("../..") // The program is built from there.
	plan := consulPlan{
		services: []int{40}, perNode: 10, changesPerSecond: 50, load: time.Second, bareNodes: 2, flips: 1, merged: 3,
	}
	var out strings.Builder
	verdicts, err := plan.measure(t.Context(), settings{required: true}, t.TempDir(), &out)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	if len(verdicts) != 1 {
		t.Errorf("verdicts: %+v", verdicts)
	}
	for _, want := range []string{"40 services on 4 nodes", "bare blocking query", "first sync", "40 catalog-registered proxies", "3 agent-registered proxies"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q", want)
		}
	}
}

// An event that comes too late does not hold, and neither does none at all.
func TestConsulVerdicts(t *testing.T) {
	bare := []time.Duration{time.Millisecond, 2 * time.Millisecond, 9 * time.Millisecond}
	for _, test := range []struct {
		event []time.Duration
		bare  []time.Duration
		holds bool
	}{
		{[]time.Duration{time.Millisecond, 4 * time.Millisecond, 20 * time.Millisecond}, bare, true},
		{[]time.Duration{time.Millisecond, 4*time.Millisecond + 1, 5 * time.Millisecond}, bare, false},
		{nil, nil, false},
	} {
		got := fullPlan.report([]catalogResult{{services: 7, event: test.event, bare: test.bare}}, new(strings.Builder))
		if len(got) != 1 || got[0].ok != test.holds {
			t.Errorf("%v: %+v", test.event, got)
		}
	}
}

// Each change is counted once at each end, and lost ones are an error.
func TestMarks(t *testing.T) {
	m := newMarks()
	m.sent(1, true)
	m.sent(2, false)
	for range 2 {
		m.came(1, time.Now(), atBare)
		m.came(1, time.Now(), atEvent)
	}
	m.came(3, time.Now(), atEvent)
	if err := m.check(); !errors.Is(err, errLost) {
		t.Errorf("one is lost: %v", err)
	}
	m.came(2, time.Now(), atEvent)
	if err := m.settle(t.Context()); err != nil {
		t.Error(err)
	}
	event, bare, all := m.results()
	if len(event) != 1 || len(bare) != 1 || len(all) != 2 {
		t.Errorf("%d, %d, %d", len(event), len(bare), len(all))
	}
	if number, ok := readMark(markOf(4711)); !ok || number != 4711 {
		t.Errorf("a mark reads as %d", number)
	}
}

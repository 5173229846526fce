package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// The streams part fits together: a few proxies of both servers give every figure.
func TestStreams(t *testing.T) {
	agenttest.Need(t)
	t.Chdir("../..") // The program is built from there.
	plan := streamsPlan{services: 3, perService: 4, upstreams: 2, perNode: 5, stages: []int{5, 12}, flips: 2}
	var out strings.Builder
	verdicts, err := plan.measure(t.Context(), settings{required: true}, t.TempDir(), &out)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	if len(verdicts) != 5 || !verdicts[4].ok {
		t.Errorf("verdicts: %+v", verdicts)
	}
}

// The bars are what they are: a flip that is not ten times faster than Consul's, a proxy
// that costs more, or one resource that is sent twice, does not hold.
func TestStreamsVerdicts(t *testing.T) {
	plan := streamsPlan{services: 2, perService: 5, upstreams: 3, stages: []int{4, 10}}
	last := func(seconds ...int) (flips []flip) {
		for _, n := range seconds {
			flips = append(flips, flip{last: time.Duration(n) * time.Second})
		}
		return flips
	}
	good := func() streamsResult {
		return streamsResult{
			consul:  []stage{{flips: last(10), unlimited: []flip{{last: 45 * time.Second, missing: 1}}}, {flips: last(20)}},
			ours:    []stage{{flips: last(1)}, {memory: 999_999, flips: last(3, 2, 1)}},
			flipped: map[xdsnode.Type]sum{xdsnode.Assignment: {resources: 30}},
		}
	}
	for name, test := range map[string]struct {
		spoil func(*streamsResult)
		// holds are: fewer without the limit, fewer, all, memory, moving.
		holds [5]bool
	}{
		"all":        {func(*streamsResult) {}, [5]bool{true, true, true, true, true}},
		"slow":       {func(r *streamsResult) { r.ours[1].flips = last(3, 3, 1) }, [5]bool{true, true, false, true, true}},
		"slow first": {func(r *streamsResult) { r.ours[0].flips = last(4) }, [5]bool{true, false, true, true, true}},
		"large":      {func(r *streamsResult) { r.ours[1].memory = 1_000_000 }, [5]bool{true, true, true, false, true}},
		"unmeasured": {func(r *streamsResult) { r.ours = nil }, [5]bool{false, false, false, false, true}},
		"sent again": {func(r *streamsResult) { r.moved = map[xdsnode.Type]sum{xdsnode.Cluster: {resources: 1}} }, [5]bool{true, true, true, true, false}},
		"not proven": {func(r *streamsResult) { r.flipped = nil }, [5]bool{true, true, true, true, false}},
		"taken away": {func(r *streamsResult) { r.flipped[xdsnode.Listener] = sum{removed: 1} }, [5]bool{true, true, true, true, false}},
		"not alike":  {func(r *streamsResult) { r.flipped[xdsnode.Listener] = sum{resources: 1} }, [5]bool{true, true, true, true, false}},
		// Against fewer of Consul's, then: 10 s to our 2 s.
		"not borne": {func(r *streamsResult) { r.consul[1] = stage{failed: errNotAll} }, [5]bool{true, true, false, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			test.spoil(&r)
			var out strings.Builder
			verdicts := plan.report(r, &out)
			for i, v := range verdicts {
				if v.ok != test.holds[i] {
					t.Errorf("%s", v)
				}
			}
			if !strings.Contains(out.String(), "1 never, 45.000 s") {
				t.Errorf("what is missing is not said:\n%s", out.String())
			}
		})
	}
}

// A tally knows when each came, counts no more than it waits for, and says what is missing.
func TestTally(t *testing.T) {
	one := newTally(2)
	now := time.Now()
	one.came(now)
	if at, err := one.wait(t.Context(), time.Nanosecond); !errors.Is(err, errNotAll) || len(at) != 1 || !strings.Contains(err.Error(), "1 are missing") {
		t.Errorf("%v, %v", at, err)
	}
	one.came(now.Add(1))
	one.came(now.Add(2))
	one.fail(errRefused)
	if at, err := one.wait(t.Context(), time.Hour); err != nil || len(at) != 2 || !at[1].Equal(now.Add(1)) {
		t.Errorf("%v, %v", at, err)
	}
	other := newTally(1)
	other.fail(errRefused)
	if _, err := other.wait(t.Context(), time.Hour); !errors.Is(err, errRefused) {
		t.Errorf("error %v", err)
	}
}

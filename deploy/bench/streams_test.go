package main

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// The streams part fits together: a few proxies of both servers give every figure.
func TestStreams(t *testing.T) {
	agenttest.Need(t)
	t.Chdir("../..") // The program is built from there.
	plan := streamsPlan{services: 3, perService: 4, upstreams: 2, perNode: 5, consul: []int{10}, flips: 2}
	var out strings.Builder
	verdicts, err := plan.measure(t.Context(), settings{required: true}, t.TempDir(), &out)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	if len(verdicts) != 4 || !verdicts[3].ok {
		t.Errorf("verdicts: %+v", verdicts)
	}
}

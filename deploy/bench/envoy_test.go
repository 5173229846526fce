package main

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// The envoy part fits together: each kind of change is acknowledged by both Envoys.
func TestEnvoy(t *testing.T) {
	agenttest.Need(t)
	t.Setenv("ISTHMUS_ENVOY", envoytest.Need(t))
	t.Chdir("../..") // The program is built from there.
	var out strings.Builder
	verdicts, err := envoyPlan{rounds: 2, gap: time.Millisecond}.measure(t.Context(), settings{required: true}, t.TempDir(), &out)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	if len(verdicts) != 2 {
		t.Errorf("verdicts: %+v", verdicts)
	}
}

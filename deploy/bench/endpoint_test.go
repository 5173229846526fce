package main

import (
	"strings"
	"testing"
)

// The endpoint part fits together: in catalogs of both sizes each change reaches the
// sidecar that uses it.
func TestEndpoint(t *testing.T) {
	t.Chdir("../..") // The program is built from there.
	var out strings.Builder
	verdicts, err := endpointPlan{services: []int{3, 30}, changes: 7, streams: 3}.measure(t.Context(), t.TempDir(), &out)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	if len(verdicts) != 1 || !strings.Contains(out.String(), "of     30 services") {
		t.Errorf("verdicts: %+v of\n%s", verdicts, out.String())
	}
}

// A cost that grows beyond what is asked for does not hold, and neither does none at all.
func TestFlat(t *testing.T) {
	for _, test := range []struct {
		small, large float64
		holds        bool
	}{{10, 15, true}, {10, 15.1, false}, {0, 0, false}} {
		if got := flat("it", test.small, test.large); got.ok != test.holds {
			t.Errorf("%v: %s", test, got)
		}
	}
}

package main

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A row that opens ahead is compared with its own, and failures count.
func TestReportOfNewConnections(t *testing.T) {
	of := func(d time.Duration) []sample {
		samples := make([]sample, len(scenes))
		for i := range samples {
			samples[i].note(d, nil)
		}
		return samples
	}
	rows := []*wanRow{
		{name: "isthmus", far: "isthmus", samples: of(100 * time.Millisecond)},
		{name: "isthmus, 32 ahead", without: "isthmus", far: "isthmus", samples: of(50 * time.Millisecond)},
		{name: "isthmus", far: "Envoy", samples: of(100 * time.Millisecond)},
		{name: "isthmus, 32 ahead", without: "isthmus", far: "Envoy", samples: of(90 * time.Millisecond)},
	}
	var verdicts []bool
	for _, v := range wanVerdicts(rows) {
		verdicts = append(verdicts, v.ok)
	}
	if diff := cmp.Diff([]bool{true, false}, verdicts); diff != "" {
		t.Error(diff)
	}
	if err := wanFailures(rows); err != nil {
		t.Error(err)
	}
	rows[1].samples[1].note(0, net.ErrClosed)
	if err := wanFailures(rows); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a failed connection is reported as %v", err)
	}
	var out bytes.Buffer
	reportWAN(rows, &out)
	if !strings.Contains(out.String(), "isthmus, 32 ahead  isthmus") {
		t.Error(out.String())
	}
}

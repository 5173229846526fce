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

// The variants are what the help offers, each way with and without.
func TestVariants(t *testing.T) {
	names := func(help string) []string {
		var out []string
		for _, v := range variantsOf(help) {
			out = append(out, strings.Join(append([]string{v.name}, v.flags...), " "))
		}
		return out
	}
	for _, test := range []struct {
		help string
		want []string
	}{
		{"      --drain duration   how long", []string{"isthmus"}},
		{"      --open-ahead int   how many", []string{"isthmus", "isthmus, 32 ahead --open-ahead 32"}},
		{"  --engine string   relay or loop\n  --open-ahead int  how many", []string{
			"isthmus, relay --engine relay", "isthmus, loop --engine loop",
			"isthmus, relay, 32 ahead --engine relay --open-ahead 32", "isthmus, loop, 32 ahead --engine loop --open-ahead 32",
		}},
	} {
		if diff := cmp.Diff(test.want, names(test.help)); diff != "" {
			t.Errorf("%q:\n%s", test.help, diff)
		}
	}
}

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

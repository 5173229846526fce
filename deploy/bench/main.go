package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are what the command line says.
type settings struct {
	rounds   int
	duration time.Duration
	idle     int
	parts    []string
	// gateways are the names of the contenders; empty: all.
	gateways []string
	check    bool
	// required makes a missing peer an error.
	required bool
}

var allParts = []string{"gateway", "pipeline", "resolver", "consul", "envoy", "streams", "endpoint", "wan"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var s settings
	flag.IntVar(&s.rounds, "rounds", 3, "how many rounds of each gateway")
	flag.DurationVar(&s.duration, "duration", 4*time.Second, "how long each measurement of a round takes")
	flag.IntVar(&s.idle, "idle", 2000, "how many idle connections the memory is measured with (at most 4000)")
	parts := flag.String("parts", strings.Join(allParts, ","), "what to measure")
	gateways := flag.String("gateways", strings.Join(contenderNames(), ","), "which gateways take part")
	flag.BoolVar(&s.check, "check", false, "exit 1 when a number is not what is asked of it")
	flag.Parse()
	s.parts, s.gateways = strings.Split(*parts, ","), strings.Split(*gateways, ",")
	s.required = os.Getenv("CI") == "true"
	if err := run(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// errBelow says that a number is not what is asked of it.
var errBelow = errors.New("not every number is what is asked of it")

// run measures the chosen parts and prints their tables.
func run(ctx context.Context, s settings, out io.Writer) error {
	for _, part := range s.parts {
		if !slices.Contains(allParts, part) {
			return fmt.Errorf("-parts: there is no %q; there are %s", part, strings.Join(allParts, ", "))
		}
	}
	for _, name := range s.gateways {
		if !slices.Contains(contenderNames(), name) {
			return fmt.Errorf("-gateways: there is no %q; there are %s", name, strings.Join(contenderNames(), ", "))
		}
	}
	if s.rounds < 1 || s.duration <= 0 || s.duration > time.Minute || s.idle < 1 || s.idle > 4000 {
		return errors.New("-rounds must be positive, -duration at most 1m, -idle from 1 to 4000")
	}
	scratch, err := os.MkdirTemp("", "isthmus-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)

	fmt.Fprintln(out, machineFacts())
	var verdicts []verdict
	var problems []error
	for _, part := range []struct {
		name    string
		measure func(context.Context, settings, string, io.Writer) ([]verdict, error)
	}{
		{"gateway", benchGateways},
		{"pipeline", benchPipeline},
		{"resolver", benchResolver},
		{"consul", benchConsul},
		{"envoy", benchEnvoy},
		{"streams", benchStreams},
		{"endpoint", benchEndpoint},
		{"wan", benchWAN},
	} {
		if !slices.Contains(s.parts, part.name) {
			continue
		}
		v, err := part.measure(ctx, s, scratch, out)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", part.name, err))
		}
		verdicts = append(verdicts, v...)
	}
	ok := true
	for _, v := range verdicts {
		fmt.Fprintln(out, v)
		ok = ok && v.ok
	}
	if s.check && !ok {
		problems = append(problems, errBelow)
	}
	return errors.Join(problems...)
}

// verdict compares a number with what is asked of it.
type verdict struct {
	what     string
	measured string
	asked    string
	ok       bool
}

func (v verdict) String() string {
	word := "holds"
	if !v.ok {
		word = "DOES NOT HOLD"
	}
	return fmt.Sprintf("%-44s %-16s asked: %-16s %s", v.what, v.measured, v.asked, word)
}

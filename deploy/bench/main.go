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
	// gateways are the names of the contenders, and logs says whether they write
	// access logs: off, on or both in turns.
	gateways, logs []string
	// measures are the names of the measurements of gateways.
	measures []string
	check    bool
	// required makes a missing peer an error.
	required bool
}

var allParts = []string{"gateway", "pipeline", "resolver", "consul", "envoy", "streams", "endpoint", "wan"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var s settings
	flag.IntVar(&s.rounds, "rounds", 9, "how many rounds of each gateway")
	flag.DurationVar(&s.duration, "duration", time.Second, "how long a round measures bulk of each gateway; new connections twice and latency three times as long")
	flag.IntVar(&s.idle, "idle", 4000, "how many idle connections the memory is measured with (at most 4000)")
	parts := flag.String("parts", strings.Join(allParts, ","), "what to measure")
	gateways := flag.String("gateways", strings.Join(contenderNames(false), ","), "which gateways take part, of "+strings.Join(contenderNames(true), ", "))
	measures := flag.String("measures", strings.Join(measurementNames(), ","), "what is measured of gateways under load")
	logs := flag.String("logs", logsOff+","+logsOn, "whether the gateways write access logs: off, on, or both in turns")
	flag.BoolVar(&s.check, "check", false, "exit 1 when a number is not what is asked of it")
	flag.Parse()
	s.parts, s.gateways, s.logs = strings.Split(*parts, ","), strings.Split(*gateways, ","), strings.Split(*logs, ",")
	s.measures = strings.Split(*measures, ",")
	s.required = os.Getenv("CI") == "true"
	if err := run(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// validate says what is wrong with the settings.
func (s settings) validate() error {
	var problems []error
	for _, list := range []struct {
		flag           string
		given, allowed []string
	}{{"parts", s.parts, allParts}, {"gateways", s.gateways, contenderNames(true)}, {"measures", s.measures, measurementNames()}, {"logs", s.logs, []string{logsOff, logsOn}}} {
		for _, name := range list.given {
			if !slices.Contains(list.allowed, name) {
				problems = append(problems, fmt.Errorf("-%s: there is no %q; there are %s", list.flag, name, strings.Join(list.allowed, ", ")))
			}
		}
	}
	if s.rounds < 1 || s.duration <= 0 || s.duration > time.Minute || s.idle < 1 || s.idle > 4000 {
		problems = append(problems, errors.New("-rounds must be positive, -duration at most 1m, -idle from 1 to 4000"))
	}
	return errors.Join(problems...)
}

// errBelow says that a number is not what is asked of it.
var errBelow = errors.New("not every number is what is asked of it")

// run measures the chosen parts and prints their tables.
func run(ctx context.Context, s settings, out io.Writer) error {
	if err := s.validate(); err != nil {
		return err
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
	return fmt.Sprintf("%-52s %-40s asked: %-16s %s", v.what, v.measured, v.asked, word)
}

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
	parts []string
	// binary is the program to hold to it.
	binary string
	// engines are those that gateways have, one after another; none: the default.
	engines []string
	idle    idleSettings
	chaos   chaosSettings
}

// part is one of the things that can be run.
type part struct {
	name string
	run  func(context.Context, *world, settings, io.Writer) ([]verdict, error)
}

var parts = []part{
	{"idle", func(ctx context.Context, w *world, s settings, out io.Writer) ([]verdict, error) {
		return soakIdle(ctx, w, s.idle, out)
	}},
	{"chaos", func(ctx context.Context, w *world, s settings, out io.Writer) ([]verdict, error) {
		return soakChaos(ctx, w, s.chaos, out)
	}},
}

func partNames() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

func main() {
	if addresses := os.Getenv(beBackend); addresses != "" {
		backendMain(addresses)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var (
		s        settings
		duration time.Duration
	)
	chosen := flag.String("parts", strings.Join(partNames(), ","), "what to run")
	flag.StringVar(&s.binary, "binary", "", "isthmus program to run; empty: it is built")
	flag.Func("engine", "engine of the gateway; several, by commas, follow one another at hand-overs; empty: its default", func(names string) error {
		s.engines = strings.Split(names, ",")
		return nil
	})
	flag.IntVar(&s.idle.connections, "idle", 9000, "idle: how many idle connections are kept open")
	flag.IntVar(&s.idle.rate, "rate", 500, "idle: how many new connections come each second")
	flag.DurationVar(&duration, "duration", 10*time.Minute, "idle: for how long")
	flag.DurationVar(&s.idle.sample, "sample", 5*time.Second, "idle: how often memory and descriptors are read")
	flag.IntVar(&s.chaos.swaps, "swaps", 1000, "chaos: how many tables are swapped")
	flag.IntVar(&s.chaos.handovers, "handovers", 20, "chaos: how many gateways are handed over")
	flag.IntVar(&s.chaos.deaths, "deaths", 60, "chaos: how often the endpoint dies, at least")
	flag.DurationVar(&s.chaos.flap, "flap", time.Second, "chaos: how long the endpoint lives, and is dead")
	flag.Parse()
	s.parts = strings.Split(*chosen, ",")
	s.idle.total = int(duration.Seconds() * float64(s.idle.rate))
	if err := run(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// errFailed says that something does not hold.
var errFailed = errors.New("not everything holds")

// run runs the chosen parts, each in a world of its own.
func run(ctx context.Context, s settings, out io.Writer) error {
	for _, name := range s.parts {
		if !slices.Contains(partNames(), name) {
			return fmt.Errorf("-parts: there is no %q; there are %s", name, strings.Join(partNames(), ", "))
		}
	}
	if err := errors.Join(s.idle.check(), s.chaos.check()); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if s.binary == "" {
		if s.binary, err = build(ctx, scratch, "./services/isthmus"); err != nil {
			return err
		}
	}
	var failed error
	for _, p := range parts {
		if !slices.Contains(s.parts, p.name) {
			continue
		}
		verdicts, err := inWorld(ctx, s, func(w *world) ([]verdict, error) { return p.run(ctx, w, s, out) })
		for _, v := range verdicts {
			fmt.Fprintf(out, "%s: %s\n", p.name, v)
			if !v.ok {
				failed = errFailed
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return failed
}

// verdict is whether one thing holds that is asked.
type verdict struct {
	what, measured, asked string
	ok                    bool
}

func (v verdict) String() string {
	word := "holds"
	if !v.ok {
		word = "DOES NOT HOLD"
	}
	return fmt.Sprintf("%-46s %-34s asked: %-26s %s", v.what, v.measured, v.asked, word)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// benchGateways measures our gateway and its peers in turns, without access logs and
// then with them.
func benchGateways(ctx context.Context, s settings, scratch string, out io.Writer) ([]verdict, error) {
	var verdicts []verdict
	var problems []error
	for _, logs := range s.logs {
		g := &race{logs: logs, settings: s}
		err := g.run(ctx, filepath.Join(scratch, "logs-"+logs), out)
		if err != nil {
			problems = append(problems, fmt.Errorf("access logs %s: %w", logs, err))
		}
		// What was not measured to its end compares nothing.
		if g.complete {
			g.report(out)
			verdicts = append(verdicts, g.verdicts()...)
		}
	}
	return verdicts, errors.Join(problems...)
}

// race is one measurement of all contenders, all with access logs or all without.
type race struct {
	settings
	logs string
	// entrants begin with the direct way to the backend.
	entrants []*entrant
	complete bool
	// others is the share of the cores that neither the entrants nor the load had.
	others float64
}

// run measures. Its error may be that connections failed, in a race that is complete
// all the same.
func (g *race) run(ctx context.Context, scratch string, out io.Writer) error {
	// The backend has a thread for each core, and the load as many.
	defer ownThreads(2 * runtime.NumCPU())()
	b, err := startBackend()
	if err != nil {
		return err
	}
	defer b.stop()
	g.entrants = []*entrant{{name: direct, address: b.address().String()}}
	defer g.stop()
	if err := g.start(ctx, scratch, b, out); err != nil {
		return err
	}
	// Memory first, while no allocator holds what a load has left behind.
	for _, e := range g.entrants {
		if err := e.rest(ctx, g.idle); err != nil {
			return fmt.Errorf("%s, idle connections: %w", e.name, err)
		}
	}
	if err := g.disturbed(func() error { return g.turns(ctx, b) }); err != nil {
		return err
	}
	// A log is whole when its proxy has ended.
	g.stop()
	for _, e := range g.entrants {
		if err := e.countLines(); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	g.complete = true
	return failures(g.entrants)
}

// measurement is one thing that is measured of everybody in every round.
type measurement struct {
	name string
	do   func(*entrant, context.Context, *backend, time.Duration) error
	// turns is how many times a round has it, which together take the duration times
	// share. What differs little, and what is rare, as the slowest hundredth, needs
	// many: the machine's moods last for longer than a turn.
	turns, share int
}

var measurements = []measurement{
	{name: "connections", do: (*entrant).saturate, turns: 4, share: 2},
	{name: "bulk", do: (*entrant).pour, turns: 1, share: 1},
	{name: "beside", do: (*entrant).squeeze, turns: 2, share: 1},
	{name: "rate", do: (*entrant).moderate, turns: 6, share: 3},
	{name: "requests", do: (*entrant).converse, turns: 6, share: 3},
}

// measurementNames are the names of all measurements.
func measurementNames() []string {
	var names []string
	for _, m := range measurements {
		names = append(names, m.name)
	}
	return names
}

// turns measures everybody in every round.
func (g *race) turns(ctx context.Context, b *backend) error {
	for round := range g.rounds {
		for _, m := range measurements {
			if !slices.Contains(g.measures, m.name) {
				continue
			}
			d := g.duration * time.Duration(m.share) / time.Duration(m.turns)
			for turn := range m.turns {
				for i := range g.entrants {
					// Each turn begins with another one.
					e := g.entrants[(i+round*m.turns+turn)%len(g.entrants)]
					if err := m.do(e, ctx, b, d); err != nil {
						return fmt.Errorf("%s, round %d, %s: %w", e.name, round+1, m.name, err)
					}
				}
			}
		}
	}
	return nil
}

// disturbed measures, and notes what others used of the machine meanwhile.
func (g *race) disturbed(measure func() error) error {
	before, err := g.foreign()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := measure(); err != nil {
		return err
	}
	wall := time.Since(begin)
	after, err := g.foreign()
	g.others = max(0, (after-before).Seconds()/wall.Seconds()/float64(runtime.NumCPU()))
	return err
}

// foreign is the machine's processor time that is not the entrants' nor the load's.
func (g *race) foreign() (time.Duration, error) {
	total, err := machineBusy()
	if err != nil {
		return 0, err
	}
	own, err := ownCPU()
	total -= own
	for _, e := range g.entrants {
		if e.process != nil && err == nil {
			own, err = e.process.cpu()
			total -= own
		}
	}
	return total, err
}

// start starts the contenders that take part.
func (g *race) start(ctx context.Context, scratch string, b *backend, out io.Writer) error {
	for _, c := range contenders {
		if !slices.Contains(g.gateways, c.name) {
			continue
		}
		program, err := c.find()
		if errors.Is(err, errMissing) && !g.required {
			fmt.Fprintf(out, "SKIPPED: %s is %v\n", c.name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		p, d, err := c.launch(program, scratch, g.logs == logsOn, b.address())
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		e := &entrant{name: c.name, peer: c.peer, address: d.Listen.String(), process: p, accessLog: d.AccessLog}
		g.entrants = append(g.entrants, e)
		if err := p.ready(ctx, e.address); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// stop ends the contenders; twice does no harm.
func (g *race) stop() {
	for _, e := range g.entrants {
		if e.process != nil {
			e.process.stop()
		}
	}
}

// failures is an error when a connection through anybody failed.
func failures(entrants []*entrant) error {
	var problems []error
	for _, e := range entrants {
		if e.failed > 0 {
			problems = append(problems, fmt.Errorf("%s: %d connections failed, one so: %w", e.name, e.failed, e.failure))
		}
	}
	return errors.Join(problems...)
}

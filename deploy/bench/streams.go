package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

const (
	// askedFlip is how much faster than Consul's a flip of the global mode reaches the last
	// proxy, askedMemory what a proxy may cost a node, in bytes.
	askedFlip   = 10
	askedMemory = 100_000
	// waitAll is what only a failure waits for.
	waitAll = 3 * time.Minute
	// connectWithin is how long Consul may take to connect all, consulWithin for a flip; what
	// is missing then, or has not come for stalled, is said.
	connectWithin = 75 * time.Second
	consulWithin  = 90 * time.Second
	stalled       = 10 * time.Second
)

// fullStreams is what `task bench` measures.
var fullStreams = streamsPlan{services: 50, perService: 100, upstreams: 5, perNode: 50, stages: []int{1000, 5000}, flips: 5}

// flip is how long a flip took to be acknowledged by half of the proxies and by the last,
// from the write of the entry; cpu is what the server used meanwhile. With some missing,
// last is the last that came.
type flip struct {
	half, last, cpu time.Duration
	missing         int
}

// stage is what was measured of a server with so many streams.
type stage struct {
	// came are the streams that this stage adds: in connect, at connectCPU.
	came                int
	connect, connectCPU time.Duration
	// memory is that of the process then, in bytes.
	memory int64
	flips  []flip
	// unlimited are flips without Consul's limit on updates.
	unlimited []flip
	// failed is why there is not all of it.
	failed error
}

// streamsResult is what was measured in all.
type streamsResult struct {
	// consul and ours are the stages of each; bare is the memory without streams.
	consul, ours         []stage
	consulBare, oursBare int64
	// heap is what of the memory of our node is alive after a collection, with all streams,
	// idle the share of a core that it then uses while nothing changes.
	heap int64
	idle float64
	// moved is what was sent as all proxies moved to another node, and flipped all after the
	// flip that proves that they have.
	moved, flipped map[xdsnode.Type]sum
}

// benchStreams measures both servers with all proxies connected.
func benchStreams(ctx context.Context, s settings, scratch string, out io.Writer) ([]verdict, error) {
	return fullStreams.measure(ctx, s, scratch, out)
}

func (p streamsPlan) measure(ctx context.Context, s settings, scratch string, out io.Writer) (v []verdict, err error) {
	if _, err := devagent.Find(); err != nil && !s.required {
		fmt.Fprintf(out, "SKIPPED: %v\n", err)
		return nil, nil
	}
	program, err := buildIsthmus()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	w, err := startMeshWorld(ctx, program, scratch, limitUpdates(consulLimit), "dc1", "dc2")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	progress("streams", "filling the catalogs")
	names, err := p.fill(ctx, w)
	if err != nil {
		return nil, err
	}
	if err := w.setMode(ctx, "remote"); err != nil {
		return nil, err
	}
	var r streamsResult
	if err := p.ofConsul(ctx, w, newCrowd(names), &r); err != nil {
		return nil, fmt.Errorf("by Consul: %w", err)
	}
	if err := p.ofOurs(ctx, w, newCrowd(names), &r); err != nil {
		return nil, fmt.Errorf("by ours: %w", err)
	}
	return p.report(r, out), nil
}

// consulLimit is how many updates of proxies a second a Consul agent makes by itself
// (xds.update_max_per_second, agent/config/default.go).
const consulLimit = 250

// noLimit lifts it; 0, which stands for that too, would be taken literally by an agent
// that reads its configuration again.
const noLimit = -1

func limitUpdates(perSecond int) string {
	return fmt.Sprintf("xds { update_max_per_second = %d }\n", perSecond)
}

// limitConsul has the first agent read its configuration again, with another limit.
func (w *meshWorld) limitConsul(ctx context.Context, perSecond int) error {
	if err := os.WriteFile(filepath.Join(w.agents[0].Dir, "extra.hcl"), []byte(limitUpdates(perSecond)), 0o600); err != nil {
		return err
	}
	return w.put(ctx, 0, "/v1/agent/reload", nil)
}

// ofConsul measures Consul's agent. What it cannot do ends its stages, and is no error
// but in the first one.
func (p streamsPlan) ofConsul(ctx context.Context, w *meshWorld, c *crowd, r *streamsResult) (err error) {
	agent := family(w.agents[0].PID())
	if r.consulBare, err = agent.memory(); err != nil {
		return err
	}
	defer func() { _ = c.close() }()
	for i, n := range p.stages {
		progress("streams", fmt.Sprintf("connecting %d to Consul, and a flip of the global mode", n))
		var s stage
		s.failed = c.add(ctx, n, w.agents[0].GRPC, agent, &s)
		if s.failed == nil {
			s.failed = p.flip(ctx, w, c, agent, consulWithin, &s.flips)
		}
		if s.failed == nil && i == 0 {
			s.failed = p.unlimited(ctx, w, c, agent, &s)
		}
		r.consul = append(r.consul, s)
		if s.failed != nil && i == 0 {
			return s.failed
		}
	}
	return nil
}

// unlimited is a flip without Consul's limit.
func (p streamsPlan) unlimited(ctx context.Context, w *meshWorld, c *crowd, agent family, s *stage) error {
	progress("streams", "a flip of the global mode, Consul without its limit")
	if err := w.limitConsul(ctx, noLimit); err != nil {
		return err
	}
	return errors.Join(p.flip(ctx, w, c, agent, consulWithin, &s.unlimited), w.limitConsul(ctx, consulLimit))
}

// ofOurs measures a node of ours, and another one that all move to.
func (p streamsPlan) ofOurs(ctx context.Context, w *meshWorld, c *crowd, r *streamsResult) error {
	if err := w.startControl(); err != nil {
		return err
	}
	node, err := w.xds(ctx)
	if err != nil {
		return err
	}
	process := family(node.command.Process.Pid)
	if r.oursBare, err = process.memory(); err != nil {
		return err
	}
	defer func() { _ = c.close() }()
	for i, n := range p.stages {
		progress("streams", fmt.Sprintf("connecting %d to isthmus xds, and flips of the global mode", n))
		var s stage
		if err := c.add(ctx, n, node.listen, process, &s); err != nil {
			return fmt.Errorf("%w\n%s", err, node.tail())
		}
		if i == len(p.stages)-1 {
			if r.heap, err = node.heap(ctx); err != nil {
				return err
			}
			if r.idle, err = process.idle(ctx, 3*time.Second); err != nil {
				return err
			}
		}
		for range p.flips {
			if err := p.flip(ctx, w, c, process, waitAll, &s.flips); err != nil {
				return fmt.Errorf("%w\n%s", err, node.tail())
			}
		}
		if s.memory, err = process.memory(); err != nil {
			return err
		}
		r.ours = append(r.ours, s)
	}
	return p.move(ctx, w, c, r)
}

// move has all go to another node.
func (p streamsPlan) move(ctx context.Context, w *meshWorld, c *crowd, r *streamsResult) error {
	progress("streams", "moving all to another node")
	other, err := w.xds(ctx)
	if err != nil {
		return err
	}
	if err := c.close(); err != nil {
		return err
	}
	if err := c.connect(ctx, len(c.stubs), other.listen); err != nil {
		return err
	}
	if err := other.quiet(ctx, len(c.stubs)); err != nil {
		return err
	}
	r.moved = c.byType()
	var last []flip
	if err := p.flip(ctx, w, c, family(other.command.Process.Pid), waitAll, &last); err != nil {
		return fmt.Errorf("%w\n%s", err, other.tail())
	}
	r.flipped = c.byType()
	return nil
}

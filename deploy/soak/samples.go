package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// sample is one look at the gateway.
type sample struct {
	memory
	descriptors int
}

// watched runs the load and looks at the gateway meanwhile, a line for each look.
func (r *idleRun) watched(ctx context.Context, began time.Time) error {
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		r.load(ctx, r.settings.total, r.settings.rate)
	}()
	tick := time.NewTicker(r.settings.sample)
	defer tick.Stop()
	var problem error
	for last := false; !last; {
		select {
		case <-tick.C:
		case <-loaded:
			last = true
		}
		s, err := r.look()
		if err != nil {
			// The load is waited for all the same.
			problem = err
			continue
		}
		r.samples = append(r.samples, s)
		fmt.Fprintf(r.out, "idle: %6.1fs  %7d new  fail %d  %5d descriptors  rss %s  pss %s\n", time.Since(began).Seconds(),
			r.done.Load(), r.fails.count(), s.descriptors, megabytes(s.rss), megabytes(s.pss))
	}
	return errors.Join(problem, ctx.Err())
}

func (r *idleRun) look() (s sample, err error) {
	if s.descriptors, err = r.gateway.descriptors(); err != nil {
		return s, err
	}
	s.memory, err = r.gateway.memory()
	return s, err
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }

const (
	// growth and growthFree are by how much memory may have grown from the first
	// third of a run to the last: a twentieth, and what a few pages make.
	growth     = 0.05
	growthFree = 1 << 20
	// leastSamples are needed to tell growth from the moods of an allocator.
	leastSamples = 30
)

// flat judges the resident set by the medians of the first and the last third of
// all samples. Too few are not judged. The proportional set is shown only: of large
// pages that are used in part some kernels count too little, by turns.
func flat(samples []sample) verdict {
	v := verdict{what: "resident set, first third to last third", asked: fmt.Sprintf("at most %.0f%% more", growth*100), ok: true}
	if len(samples) < leastSamples {
		v.measured, v.asked = fmt.Sprintf("%d samples", len(samples)), fmt.Sprintf("not judged below %d", leastSamples)
		return v
	}
	third := len(samples) / 3
	first, last := medianRSS(samples[:third]), medianRSS(samples[len(samples)-third:])
	v.measured = megabytes(first) + " to " + megabytes(last)
	v.ok = float64(last) <= float64(first)*(1+growth)+growthFree
	return v
}

func medianRSS(samples []sample) int64 {
	values := make([]int64, len(samples))
	for i, s := range samples {
		values[i] = s.rss
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// failures counts what failed, and keeps the first.
type failures struct {
	mu    sync.Mutex
	n     int64
	first error
}

// add reports whether it is the first.
func (f *failures) add(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.first == nil {
		f.first = err
	}
	return f.n == 1
}

func (f *failures) count() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// verdict asks for no failure, and shows the first one.
func (f *failures) verdict(what string, of int64) verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := verdict{what, fmt.Sprintf("fail %d of %d", f.n, of), "fail 0", f.n == 0}
	if f.first != nil {
		v.measured += fmt.Sprintf(", the first: %v;", f.first)
	}
	return v
}

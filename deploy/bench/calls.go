package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// shape is how a load comes.
type shape struct {
	// connections is how many there are at once.
	connections int
	// rate is how many calls begin each second, evenly spread whatever became of
	// those before, and timed from when they should have begun. Zero: one begins when
	// another has ended.
	rate int
	// requests makes the calls requests on connections that stay open, and not
	// new connections.
	requests bool
}

// The loads of which a proxy's calls are timed and its processor time is taken.
var (
	// saturation opens new connections as fast as they are answered.
	saturation = shape{connections: 32}
	// moderation opens them at a rate that leaves every proxy idle most of the time.
	moderation = shape{connections: 64, rate: 500}
	// conversation has requests on a few open connections.
	conversation = shape{connections: 4, rate: 2000, requests: true}
	// interjection has them beside bulk, so few that all can be answered in time.
	interjection = shape{connections: 4, rate: 200, requests: true}
)

// callResult is what one measurement of calls found.
type callResult struct {
	perSecond float64
	p50, p99  time.Duration
	count     int
	// failed is how many calls got no answer; they count nowhere else. failure is
	// one of them.
	failed  int
	failure error
}

// measureCalls makes calls for a while. Those that fail are counted, so that a
// proxy that refuses does not look fast.
func measureCalls(ctx context.Context, address string, s shape, d time.Duration) (callResult, error) {
	var callers []*caller
	for _, share := range s.shares(runtime.NumCPU()) {
		c, err := newCaller(address, share)
		if err != nil {
			return callResult{}, err
		}
		defer c.close()
		callers = append(callers, c)
	}
	begin := time.Now()
	problems := make([]error, len(callers))
	var running sync.WaitGroup
	for i, c := range callers {
		running.Go(func() { problems[i] = c.run(ctx, d) })
	}
	running.Wait()
	if err := errors.Join(problems...); err != nil {
		return callResult{}, err
	}
	return together(callers, time.Since(begin))
}

// shares are what each of some threads has of a load. One is enough for a rate, which
// only takes turns.
func (s shape) shares(threads int) []shape {
	if s.rate > 0 {
		return []shape{s}
	}
	var all []shape
	for left, threads := s.connections, min(threads, s.connections); threads > 0; threads-- {
		share := s
		share.connections = left / threads
		left -= share.connections
		all = append(all, share)
	}
	return all
}

// together is what callers found.
func together(callers []*caller, elapsed time.Duration) (callResult, error) {
	var took []time.Duration
	var result callResult
	for _, c := range callers {
		took = append(took, c.took...)
		result.failed += c.failed
		if c.failure != nil {
			result.failure = c.failure
		}
	}
	if len(took) == 0 {
		return callResult{}, fmt.Errorf("no call got its answer: %w", result.failure)
	}
	slices.Sort(took)
	result.count, result.perSecond = len(took), float64(len(took))/elapsed.Seconds()
	result.p50, result.p99 = quantile(took, 0.50), quantile(took, 0.99)
	return result, nil
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

// direct is the name of the way that has no proxy.
const direct = "direct"

// entrant is a contender at work, with what was measured of it.
type entrant struct {
	name    string
	peer    bool
	address string
	// process is nil for the direct way, which has no proxy.
	process *process
	// accessLog is the file with its lines; empty: it writes none. lines is how many
	// are there at the end, and answered how many connections got their answer.
	accessLog string
	lines     int
	answered  int

	// rounds is what the rounds measured, in their order.
	rounds map[figure][]float64
	// failed is how many connections got no answer, failure one of them.
	failed  int
	failure error
}

// figure is something that is measured of every entrant in every round; what
// idle connections take once. Its name heads a column.
type figure string

const (
	perSecond figure = "conn/s"
	// cpu is the proxy's processor time for each connection at saturation, cpuAtRate
	// that at a rate that is the same for all; load that of the clients and the backend
	// at saturation, and busy the share of all cores that both took.
	cpu       figure = "cpu µs/conn"
	cpuAtRate figure = "at 500/s"
	load      figure = "load µs/conn"
	busy      figure = "cores busy %"
	bulk      figure = "bulk GB/s"
	// cpuBulk is the proxy's processor time for what it passed on.
	cpuBulk figure = "cpu ms/GB"
	// idleBytes is the memory that an idle connection adds, idleWhole all that the proxy
	// has then: what it has set aside for connections to come is in that alone.
	idleBytes figure = "kB/idle conn"
	idleWhole figure = "MB in all"
	// idleCore is the share of a core that the proxy takes then.
	idleCore figure = "core %"

	openP50 figure = "request p50 µs"
	openP99 figure = "request p99 µs"
	newP50  figure = "new p50 µs"
	newP99  figure = "new p99 µs"
	// besideP50 and besideP99 are those of a request while bulk is moved.
	besideP50 figure = "beside bulk p50 µs"
	besideP99 figure = "beside bulk p99 µs"
	// fullP50 and fullP99 are those of a new connection at saturation.
	fullP50 figure = "saturated p50 µs"
	fullP99 figure = "saturated p99 µs"
)

func (e *entrant) note(f figure, value float64) {
	if e.rounds == nil {
		e.rounds = map[figure][]float64{}
	}
	e.rounds[f] = append(e.rounds[f], value)
}

// spending is the processor time that a measurement took: the proxy's, that of the
// load and the backend, and the time that went by.
type spending struct{ proxy, load, wall time.Duration }

// clocks are the present ones.
func (e *entrant) clocks() (s spending, err error) {
	if e.process != nil {
		if s.proxy, err = e.process.cpu(); err != nil {
			return s, err
		}
	}
	s.load, err = ownCPU()
	return s, err
}

// spent runs a measurement.
func (e *entrant) spent(measure func() error) (spending, error) {
	before, err := e.clocks()
	if err != nil {
		return spending{}, err
	}
	begin := time.Now()
	if err := measure(); err != nil {
		return spending{}, err
	}
	wall := time.Since(begin)
	after, err := e.clocks()
	return spending{after.proxy - before.proxy, after.load - before.load, wall}, err
}

// warmUp is the share of a measurement that goes before it and does not count: a proxy
// that others have kept from the cores has cold caches.
const warmUp = 10

// calls measures calls of a shape.
func (e *entrant) calls(ctx context.Context, s shape, d time.Duration) (result callResult, used spending, err error) {
	warm := d / warmUp
	if s.rate > 0 {
		warm = max(warm, 4*time.Second/time.Duration(s.rate)) // Some calls at least.
	}
	if _, err := e.call(ctx, s, warm); err != nil {
		return callResult{}, spending{}, err
	}
	used, err = e.spent(func() error {
		result, err = e.call(ctx, s, d)
		return err
	})
	return result, used, err
}

// call makes calls and takes note of those that failed.
func (e *entrant) call(ctx context.Context, s shape, d time.Duration) (callResult, error) {
	result, err := measureCalls(ctx, e.address, s, d)
	if s.requests {
		e.answered += s.connections
	} else {
		e.answered += result.count
	}
	if result.failed > 0 {
		e.failed, e.failure = e.failed+result.failed, result.failure
	}
	return result, err
}

// saturate measures new connections, as many as it takes.
func (e *entrant) saturate(ctx context.Context, _ *backend, d time.Duration) error {
	result, used, err := e.calls(ctx, saturation, d)
	if err != nil {
		return err
	}
	count := float64(result.count)
	e.note(perSecond, result.perSecond)
	e.note(fullP50, micro(result.p50))
	e.note(fullP99, micro(result.p99))
	e.note(load, micro(used.load)/count)
	e.note(busy, 100*(used.proxy+used.load).Seconds()/used.wall.Seconds()/float64(runtime.NumCPU()))
	if e.process != nil {
		e.note(cpu, micro(used.proxy)/count)
	}
	return nil
}

// moderate measures new connections at a rate.
func (e *entrant) moderate(ctx context.Context, _ *backend, d time.Duration) error {
	result, used, err := e.calls(ctx, moderation, d)
	if err != nil {
		return err
	}
	e.note(newP50, micro(result.p50))
	e.note(newP99, micro(result.p99))
	if e.process != nil {
		e.note(cpuAtRate, micro(used.proxy)/float64(result.count))
	}
	return nil
}

// converse measures requests on open connections.
func (e *entrant) converse(ctx context.Context, _ *backend, d time.Duration) error {
	result, _, err := e.calls(ctx, conversation, d)
	if err != nil {
		return err
	}
	e.note(openP50, micro(result.p50))
	e.note(openP99, micro(result.p99))
	return nil
}

// squeeze measures requests on open connections while others move bulk.
func (e *entrant) squeeze(ctx context.Context, b *backend, d time.Duration) error {
	pouring, stop := context.WithCancel(ctx)
	poured := make(chan error, 1)
	go func() {
		// It goes on for as long as it takes to measure.
		_, err := measureBulk(pouring, e.address, b, time.Minute)
		poured <- err
	}()
	result, _, err := e.calls(ctx, interjection, d)
	stop()
	if problem := <-poured; err == nil && !errors.Is(problem, context.Canceled) {
		err = problem
	}
	if err != nil {
		return err
	}
	e.answered += bulkStreams
	e.note(besideP50, micro(result.p50))
	e.note(besideP99, micro(result.p99))
	return nil
}

// pour measures bytes one way.
func (e *entrant) pour(ctx context.Context, b *backend, d time.Duration) error {
	var result bulkResult
	used, err := e.spent(func() (err error) {
		result, err = measureBulk(ctx, e.address, b, d)
		return err
	})
	if err != nil {
		return err
	}
	e.answered += bulkStreams
	e.note(bulk, result.perSecond/1e9)
	if e.process != nil {
		e.note(cpuBulk, 1000*used.proxy.Seconds()/(result.bytes/1e9))
	}
	return nil
}

// rest measures what idle connections take.
func (e *entrant) rest(ctx context.Context, count int) error {
	if e.process == nil {
		return nil
	}
	held, err := measureIdle(ctx, e.address, e.process, count)
	if err != nil {
		return err
	}
	e.answered += held.opened
	e.note(idleBytes, held.each/1000)
	e.note(idleWhole, held.whole/1e6)
	e.note(idleCore, 100*held.core)
	return nil
}

// countLines counts the access log: who leaves lines out has less to do.
func (e *entrant) countLines() error {
	if e.accessLog == "" {
		return nil
	}
	file, err := os.Open(e.accessLog)
	if err != nil {
		return fmt.Errorf("access log: %w", err)
	}
	defer file.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := file.Read(buffer)
		e.lines += bytes.Count(buffer[:n], []byte{'\n'})
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("access log: %w", err)
		}
	}
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

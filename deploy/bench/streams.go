package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	// connectWithin is how long all may take to connect.
	connectWithin = 90 * time.Second
	// consulWithin is how long a flip may take Consul; what is missing then is said.
	consulWithin = 45 * time.Second
)

// fullStreams is what `task bench` measures.
var fullStreams = streamsPlan{services: 50, perService: 100, upstreams: 5, perNode: 50, consul: []int{5000, 1000}, flips: 6}

// flip is how long a flip took to be acknowledged by half of the proxies and by the last,
// from the write of the entry; cpu is what the server used meanwhile. With some missing,
// last is how long they were waited for.
type flip struct {
	half, last, cpu time.Duration
	missing         int
}

// served is what was measured of a server.
type served struct {
	streams int
	// connect is from the first stream to the last that has all, at connectCPU.
	connect, connectCPU time.Duration
	// before and after are the memory of the process without and with the streams, in bytes.
	before, after int64
	flips         []flip
	// idle is the share of a core with all streams and no change.
	idle float64
}

// streamsResult is what was measured in all.
type streamsResult struct {
	// consul is with Consul's own limit on updates, and unlimited without.
	consul, ours served
	unlimited    []flip
	// heap is what of the memory of our node is alive after a collection.
	heap int64
	// moved is what was sent as all proxies moved to another node, and all after the flip
	// that proves that they have.
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
	for _, n := range p.consul {
		r.consul, r.unlimited = served{}, nil
		if err = p.ofConsul(ctx, w, newCrowd(names[:n]), &r); err == nil {
			break
		}
		fmt.Fprintf(out, "\nstreams: Consul was not measured with %d streams: %v\n", n, err)
	}
	if err != nil {
		return nil, fmt.Errorf("consul: %w", err)
	}
	if err := p.ofOurs(ctx, w, newCrowd(names), &r); err != nil {
		return nil, fmt.Errorf("ours: %w", err)
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

// ofConsul measures Consul's agent.
func (p streamsPlan) ofConsul(ctx context.Context, w *meshWorld, c *crowd, r *streamsResult) error {
	agent := w.agents[0]
	if err := w.limitConsul(ctx, consulLimit); err != nil {
		return err
	}
	progress("streams", fmt.Sprintf("connecting %d to Consul", len(c.stubs)))
	closeAll, err := p.connect(ctx, c, agent.GRPC, family(agent.PID()), &r.consul)
	if err != nil {
		return err
	}
	progress("streams", "a flip of the global mode, Consul")
	err = p.flip(ctx, w, c, family(agent.PID()), consulWithin, &r.consul.flips)
	if err == nil {
		err = w.limitConsul(ctx, noLimit)
	}
	if err == nil {
		progress("streams", "a flip of the global mode, Consul without its limit")
		err = p.flip(ctx, w, c, family(agent.PID()), consulWithin, &r.unlimited)
	}
	return errors.Join(err, closeAll())
}

// limitConsul has the first agent read its configuration again, with another limit.
func (w *meshWorld) limitConsul(ctx context.Context, perSecond int) error {
	if err := os.WriteFile(filepath.Join(w.agents[0].Dir, "extra.hcl"), []byte(limitUpdates(perSecond)), 0o600); err != nil {
		return err
	}
	return w.put(ctx, 0, "/v1/agent/reload", nil)
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
	progress("streams", "connecting all to isthmus xds")
	process := family(node.command.Process.Pid)
	closeAll, err := p.connect(ctx, c, node.listen, process, &r.ours)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, node.tail())
	}
	defer func() { _ = closeAll() }()
	if r.heap, err = node.heap(ctx); err != nil {
		return err
	}
	if r.ours.idle, err = process.idle(ctx, 3*time.Second); err != nil {
		return err
	}
	for range p.flips {
		progress("streams", "a flip of the global mode, ours")
		if err := p.flip(ctx, w, c, process, waitAll, &r.ours.flips); err != nil {
			return fmt.Errorf("%w\n%s", err, node.tail())
		}
	}
	progress("streams", "moving all to another node")
	other, err := w.xds(ctx)
	if err != nil {
		return err
	}
	if err := closeAll(); err != nil {
		return err
	}
	if closeAll, err = c.connect(ctx, other.listen); err != nil {
		return err
	}
	if err := other.quiet(ctx, len(c.stubs)); err != nil {
		return err
	}
	r.moved = c.byType()
	var last []flip
	if err := p.flip(ctx, w, c, process, waitAll, &last); err != nil {
		return fmt.Errorf("%w\n%s", err, other.tail())
	}
	r.flipped = c.byType()
	return nil
}

// connect connects all, and measures what that costs the server.
func (p streamsPlan) connect(ctx context.Context, c *crowd, address string, server family, s *served) (closeAll func() error, err error) {
	s.streams = len(c.stubs)
	var used, since time.Duration
	if s.before, err = server.memory(); err == nil {
		used, err = server.cpu()
	}
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if closeAll, err = c.connect(ctx, address); err != nil {
		return nil, err
	}
	at, err := c.whole.wait(ctx, connectWithin)
	if err == nil {
		s.connect = at[len(at)-1].Sub(begin)
		since, err = server.cpu()
		s.connectCPU = since - used
	}
	if err == nil {
		s.after, err = server.memory()
	}
	if err != nil {
		return nil, errors.Join(err, closeAll())
	}
	return closeAll, nil
}

// flip sets the other global mode, and waits until all have acknowledged all that this
// changes.
func (p streamsPlan) flip(ctx context.Context, w *meshWorld, c *crowd, server family, within time.Duration, into *[]flip) error {
	// A flip on the heels of another one leaves some proxies of Consul 1.22 with the old mode.
	if err := c.quiet(ctx); err != nil {
		return err
	}
	used, err := server.cpu()
	if err != nil {
		return err
	}
	mode := map[string]string{"local": "remote", "remote": "local"}[w.mode]
	sought := c.seek(gatewayOf(mode), p.upstreams, len(c.stubs))
	begin := time.Now()
	if err := w.setMode(ctx, mode); err != nil {
		return err
	}
	at, err := sought.all.wait(ctx, within)
	if err != nil && (!errors.Is(err, errNotAll) || within == waitAll) {
		return fmt.Errorf("flip to %s: %w", mode, err)
	}
	slices.SortFunc(at, time.Time.Compare)
	f := flip{last: within, half: within, missing: len(c.stubs) - len(at)}
	if f.missing == 0 {
		f.last = at[len(at)-1].Sub(begin)
	}
	if half := len(c.stubs) / 2; half < len(at) {
		f.half = at[half].Sub(begin)
	}
	since, err := server.cpu()
	f.cpu = since - used
	*into = append(*into, f)
	return err
}

// idle is the share of a core that is used while nothing changes.
func (f family) idle(ctx context.Context, d time.Duration) (float64, error) {
	before, err := f.cpu()
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	after, err := f.cpu()
	return (after - before).Seconds() / d.Seconds(), err
}

// heap is what is alive on the heap and the stacks after a collection.
func (n xdsNode) heap(ctx context.Context) (int64, error) {
	if _, err := fetch(ctx, "http://"+n.admin+"/debug/pprof/heap?gc=1"); err != nil {
		return 0, err
	}
	heap, err := n.metric(ctx, "go_memstats_heap_alloc_bytes")
	if err != nil {
		return 0, err
	}
	stacks, err := n.metric(ctx, "go_memstats_stack_inuse_bytes")
	return int64(heap + stacks), err
}

// errNoMetric says that a process does not tell a number.
var errNoMetric = errors.New("there is no such metric")

// metric is one number of a node.
func (n xdsNode) metric(ctx context.Context, name string) (float64, error) {
	page, err := fetch(ctx, "http://"+n.admin+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range linesOf(page) {
		if len(line) > len(name) && line[:len(name)] == name && line[len(name)] == ' ' {
			return strconv.ParseFloat(line[len(name)+1:], 64)
		}
	}
	return 0, fmt.Errorf("%s: %w", name, errNoMetric)
}

// quiet waits until a node has so many streams, and nothing is going on for a second: the
// number of goroutines says both.
func (n xdsNode) quiet(ctx context.Context, streams int) error {
	ctx, cancel := context.WithTimeout(ctx, waitAll)
	defer cancel()
	last, same := 0.0, 0
	for same < 10 {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		now, err := n.metric(ctx, "go_goroutines")
		if err != nil {
			return err
		}
		if same++; now < float64(streams) || now-last > 5 || last-now > 5 {
			same = 0
		}
		last = now
	}
	return nil
}

// medianFlip is that of the last proxy.
func medianFlip(flips []flip) flip {
	if len(flips) == 0 {
		return flip{}
	}
	sorted := slices.SortedFunc(slices.Values(flips), func(a, b flip) int { return cmp.Compare(a.last, b.last) })
	return sorted[len(sorted)/2]
}

//go:build linux

package loop

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// errDrained is why connections end at the end of a drain.
var errDrained = errors.New("the drain ended")

// shared is what the loops of an engine have in common.
type shared struct {
	loops []*loop
	// open is how many connections there are, halfOpen how many of them wait for
	// their hello.
	open, halfOpen atomic.Int64
	memory         engine.HelloMemory
	networks       engine.Networks
	own            atomic.Pointer[engine.Own]
	// draining is set once nothing is accepted any more; then idle gets a token
	// when the last connection has ended.
	draining atomic.Bool
	idle     chan struct{}
}

// ended takes note of a connection's end.
func (s *shared) ended() {
	if s.open.Add(-1) == 0 && s.draining.Load() {
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
}

// sendAwayOldest ends the connection that has waited longest, on whatever loop;
// from is the loop that calls.
func (s *shared) sendAwayOldest(from *loop) {
	of := from
	oldest := from.oldest.Load()
	for _, l := range s.loops {
		if at := l.oldest.Load(); at != 0 && (oldest == 0 || at < oldest) {
			of, oldest = l, at
		}
	}
	if of == from {
		from.sendAwayOldest()
		return
	}
	of.ask(mail{what: sendAway})
}

// Engine relays the connections of its listeners. It is made by [New] and used
// once.
type Engine struct {
	cfg    engine.Config
	shared shared

	mu        sync.Mutex // guards the ones that follow
	listeners map[*engine.Listener]struct{}
	serving   sync.WaitGroup
	systems   []*system
	running   sync.WaitGroup

	stopping chan struct{}
	stopOnce sync.Once
	draining sync.Mutex
}

// New makes an engine with as many loops as Go may use processors. The error is
// [engine.ErrNoTable].
func New(cfg engine.Config) (*Engine, error) {
	cfg, err := cfg.WithDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, listeners: make(map[*engine.Listener]struct{}), stopping: make(chan struct{})}
	e.shared.idle = make(chan struct{}, 1)
	return e, nil
}

// Serve accepts connections from the listener until [Engine.Drain], which closes
// it, and then returns nil. Any number of calls may run at once. An error means
// that there are no loops to be had, or with [net.ErrClosed] that somebody else
// closed the listener; its connections go on.
func (e *Engine) Serve(listener *engine.Listener) error {
	if adopted, err := e.adopt(listener); !adopted {
		return err
	}
	defer e.serving.Done()
	defer e.leave(listener)
	fd, err := descriptorOf(listener)
	if err != nil {
		if e.isStopping() {
			return nil
		}
		return err
	}
	e.askAll(mail{what: listen, fd: fd})
	select {
	case <-listener.Closed():
	case <-e.stopping:
	}
	e.askAll(mail{what: unlisten, fd: fd})
	_ = unix.Close(fd)
	if e.isStopping() {
		return nil
	}
	return net.ErrClosed
}

// descriptorOf is a descriptor of the listener's socket for the loops, which are
// handed a connection together with its first bytes.
func descriptorOf(listener *engine.Listener) (int, error) {
	fd := -1
	err := listener.Descriptor(func(of int) (err error) {
		if fd, err = unix.FcntlInt(uintptr(of), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		return nil
	})
	if err != nil {
		return -1, err
	}
	_ = unix.SetNonblock(fd, true)
	// Connections inherit it; net would set it on each of them.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferSeconds)
	return fd, nil
}

// deferSeconds is how long the kernel keeps a silent connection to itself.
const deferSeconds = 1

func (e *Engine) isStopping() bool {
	select {
	case <-e.stopping:
		return true
	default:
		return false
	}
}

// adopt takes note of a listener, and starts the loops with the first; one that
// comes after the stop is closed.
func (e *Engine) adopt(listener *engine.Listener) (adopted bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isStopping() {
		_ = listener.Close()
		return false, nil
	}
	if err := e.start(); err != nil {
		return false, err
	}
	e.listeners[listener] = struct{}{}
	e.tellOwn()
	e.serving.Add(1)
	return true, nil
}

// leave forgets a listener that is not served any more.
func (e *Engine) leave(listener *engine.Listener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.listeners, listener)
	e.tellOwn()
}

// tellOwn tells the loops where the engine listens.
func (e *Engine) tellOwn() {
	listeners := make([]*engine.Listener, 0, len(e.listeners))
	for l := range e.listeners {
		listeners = append(listeners, l)
	}
	e.shared.own.Store(engine.OwnOf(listeners))
}

// loopCount is how many loops an engine has: one for each processor.
func loopCount() int {
	processors.Lock()
	defer processors.Unlock()
	return min(runtime.GOMAXPROCS(0), runtime.NumCPU())
}

// start starts the loops, once.
func (e *Engine) start() error {
	if len(e.shared.loops) > 0 {
		return nil
	}
	var loops []*loop
	for range loopCount() {
		s, err := newSystem(e.cfg.CongestionControl)
		if err != nil {
			for _, s := range e.systems {
				s.free()
			}
			e.systems = nil
			return err
		}
		e.systems = append(e.systems, s)
		loops = append(loops, newLoop(&e.cfg, &e.shared, s))
	}
	e.limitByDescriptors(len(loops))
	e.shared.loops = loops
	changeProcessors(len(loops))
	for _, l := range loops {
		e.running.Go(l.run)
	}
	return nil
}

// processors orders changes of GOMAXPROCS, which several engines may make.
var processors sync.Mutex

// changeProcessors has Go use so many processors more. Each loop keeps one to
// itself while there is something to do; the rest of the program is to find one
// all the same, and the system shares the cores among them.
func changeProcessors(by int) {
	processors.Lock()
	defer processors.Unlock()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + by)
}

// askAll has every loop do something, and waits until they have.
func (e *Engine) askAll(m mail) {
	for _, l := range e.shared.loops {
		done := make(chan struct{})
		m.done = done
		l.ask(m)
		<-done
	}
}

// askRunning is askAll of loops that may have ended.
func (e *Engine) askRunning(m mail) {
	e.mu.Lock()
	running := e.systems != nil
	e.mu.Unlock()
	if running {
		e.askAll(m)
	}
}

// Drain closes the listeners, waits for the connections to end, and when ctx
// ends first, ends those that are left. It returns how many those were, when the
// loops have ended.
//
// Closing a listener here does not disturb another process that has the same
// one by descriptor: what waits in its queue stays there.
func (e *Engine) Drain(ctx context.Context) (cut uint64) {
	e.draining.Lock()
	defer e.draining.Unlock()
	e.mu.Lock()
	e.stopOnce.Do(func() { close(e.stopping) })
	for l := range e.listeners {
		_ = l.Close()
	}
	e.mu.Unlock()
	e.serving.Wait()
	e.askRunning(mail{what: closeAhead})
	before := e.Stats().Ended[table.ReasonDrained]
	e.shared.draining.Store(true)
	if e.shared.open.Load() > 0 {
		select {
		case <-e.shared.idle:
		case <-ctx.Done():
			e.askRunning(mail{what: cutAll})
		}
	}
	e.end()
	return e.Stats().Ended[table.ReasonDrained] - before
}

// end ends the loops, which have no connections left.
func (e *Engine) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.systems == nil {
		return
	}
	for _, l := range e.shared.loops {
		l.ask(mail{what: stop})
	}
	e.running.Wait()
	changeProcessors(-len(e.shared.loops))
	for _, s := range e.systems {
		s.free()
	}
	e.systems = nil
}

// Stats returns what was counted so far.
func (e *Engine) Stats() table.EngineStats {
	s := table.EngineStats{Ended: make(map[table.Reason]uint64)}
	e.mu.Lock()
	loops := e.shared.loops
	e.mu.Unlock()
	for _, l := range loops {
		l.counts.AddTo(&s)
	}
	return s
}

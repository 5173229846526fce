package relay

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// errDrained is the cause with which connections end at the end of a drain.
var errDrained = errors.New("the drain ended")

// Engine relays the connections of its listeners. It is made by [New] and used
// once.
type Engine struct {
	cfg engine.Config

	// cut ends every connection; stop ends accepting.
	cutContext  context.Context
	cut         context.CancelCauseFunc
	stopContext context.Context
	stop        context.CancelFunc

	mu        sync.Mutex
	listeners map[*engine.Listener]struct{}
	// own is where they listen.
	own atomic.Pointer[engine.Own]
	// sessions is every Serve and every connection. A Serve enters under mu
	// before the stop, and connections enter while their Serve is in.
	sessions sync.WaitGroup

	waiting waitingList
	memory  engine.HelloMemory
	// networks counts by source, if there is a limit.
	networks engine.Networks
	counts   engine.Counts
}

// New makes an engine. The error is [engine.ErrNoTable] or [engine.ErrNoOpenAhead].
func New(cfg engine.Config) (*Engine, error) {
	if cfg.OpenAhead > 0 {
		return nil, engine.ErrNoOpenAhead
	}
	cfg, err := cfg.WithDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, listeners: make(map[*engine.Listener]struct{})}
	e.waiting.max = cfg.MaxHalfOpen
	e.cutContext, e.cut = context.WithCancelCause(context.Background())
	e.stopContext, e.stop = context.WithCancel(context.Background())
	return e, nil
}

// Serve accepts connections from the listener until [Engine.Drain], which
// closes it, and then returns nil. Any number of calls may run at once. An error
// means that the listener itself broke, or with [net.ErrClosed] that somebody
// else closed it; its connections go on.
func (e *Engine) Serve(listener *engine.Listener) error {
	if !e.adopt(listener) {
		return nil
	}
	defer e.sessions.Done()
	defer e.leave(listener)
	tcp, err := listener.TCP()
	if err != nil {
		return e.unlessStopped(err)
	}
	ended := make(chan struct{})
	var closer sync.WaitGroup
	closer.Go(func() {
		select {
		case <-listener.Closed():
		case <-ended:
		}
		_ = tcp.Close()
	})
	err = e.acceptAll(tcp)
	close(ended)
	closer.Wait()
	return err
}

// unlessStopped is the error with which serving ends: none, if it was to stop.
func (e *Engine) unlessStopped(err error) error {
	select {
	case <-e.stopContext.Done():
		return nil
	default:
		return err
	}
}

// acceptAll accepts until the stop or until the listener is closed.
func (e *Engine) acceptAll(listener *net.TCPListener) error {
	pause := acceptPause
	for e.stopContext.Err() == nil {
		client, err := listener.AcceptTCP()
		switch {
		case err == nil:
			pause = acceptPause
			e.accept(client)
		case e.stopContext.Err() != nil:
			// The stop closed it.
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// Out of descriptors or memory: what is open goes on, and ends.
			e.cfg.Logger.Warn("accepting is paused", "listener", listener.Addr().String(), "pause", pause, "err", err)
			e.wait(pause)
			pause = min(2*pause, acceptPauseMax)
		}
	}
	return nil
}

const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// wait waits for a time, or for the stop.
func (e *Engine) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.stopContext.Done():
	}
}

// adopt takes note of a listener; one that comes after the stop is closed.
func (e *Engine) adopt(listener *engine.Listener) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopContext.Err() != nil {
		_ = listener.Close()
		return false
	}
	e.listeners[listener] = struct{}{}
	e.own.Store(engine.OwnOf(slices.Collect(maps.Keys(e.listeners))))
	e.sessions.Add(1)
	return true
}

// leave forgets a listener that is not served any more.
func (e *Engine) leave(listener *engine.Listener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.listeners, listener)
	e.own.Store(engine.OwnOf(slices.Collect(maps.Keys(e.listeners))))
}

// accept starts the session of a connection, or resets it when there are too
// many.
func (e *Engine) accept(client *net.TCPConn) {
	e.counts.Accepted.Add(1)
	start := time.Now()
	if e.counts.Open.Add(1) > int64(e.cfg.MaxConnections) {
		peer := addrPort(client)
		reset(client)
		e.finish(&table.Record{Start: start, Client: peer, Peer: peer, Reason: table.ReasonConnectionLimit})
		return
	}
	peer := addrPort(client)
	if refused := e.enter(peer, peer); refused != nil {
		reset(client)
		e.finish(&table.Record{Start: start, Client: peer, Peer: peer, Reason: refused.Reason, Detail: refused.Detail})
		return
	}
	e.sessions.Add(1)
	go e.session(client, peer, start)
}

// enter counts a connection with its source network. One whose peer may name
// another source is counted when it has, with a source that is not its peer.
func (e *Engine) enter(source, peer netip.AddrPort) *engine.Refusal {
	if e.cfg.MaxPerNetwork == 0 || source == peer && e.cfg.MayProxy(peer) {
		return nil
	}
	return e.networks.Enter(source.Addr(), e.cfg.MaxPerNetwork)
}

// leaveNetwork undoes enter.
func (e *Engine) leaveNetwork(source, peer netip.AddrPort) {
	if e.cfg.MaxPerNetwork == 0 || source == peer && e.cfg.MayProxy(peer) {
		return
	}
	e.networks.Leave(source.Addr())
}

// finish counts a connection that has ended and tells of it.
func (e *Engine) finish(record *table.Record) {
	e.counts.End(record.Reason)
	if e.cfg.Record == nil {
		return
	}
	if record.Routes == nil && record.Basis == nil {
		// It ended before a table was asked.
		t := e.cfg.Table()
		record.Routes, record.Basis = t.Routes, t.Basis
	}
	record.Duration = time.Since(record.Start)
	e.cfg.Record(record)
}

// Drain closes the listeners, waits for the connections to end, and when ctx
// ends first, ends those that are left. It returns how many those were, when
// every goroutine of the engine's connections has ended.
//
// Closing a listener here does not disturb another process that has the same
// one by descriptor: what waits in its queue stays there.
func (e *Engine) Drain(ctx context.Context) (cut uint64) {
	e.mu.Lock()
	e.stop()
	for listener := range e.listeners {
		_ = listener.Close()
	}
	e.mu.Unlock()
	before := e.counts.Ended(table.ReasonDrained)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.sessions.Wait()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		e.cut(errDrained)
		e.waiting.closeAll()
		<-ended
	}
	// Nothing is left that could use it.
	e.cut(errDrained)
	return e.counts.Ended(table.ReasonDrained) - before
}

// Stats returns what was counted so far.
func (e *Engine) Stats() table.EngineStats {
	s := table.EngineStats{Ended: make(map[table.Reason]uint64)}
	e.counts.AddTo(&s)
	s.HalfOpen = int64(e.waiting.len())
	return s
}

func addrPort(c net.Conn) netip.AddrPort {
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		a := tcp.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPort{}
}

package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// errDrained is the cause with which connections end at the end of a drain.
var errDrained = errors.New("the drain ended")

// Engine relays the connections of its listeners. It is made by [New] and used
// once.
type Engine struct {
	cfg Config

	// cut ends every connection; stop ends accepting.
	cutContext  context.Context
	cut         context.CancelCauseFunc
	stopContext context.Context
	stop        context.CancelFunc

	mu        sync.Mutex
	listeners map[*net.TCPListener]struct{}
	// own is where they listen.
	own atomic.Pointer[own]
	// sessions is every Serve and every connection. A Serve enters under mu
	// before the stop, and connections enter while their Serve is in.
	sessions sync.WaitGroup

	waiting waitingList
	// longHellos is how many bytes of [Config.HelloShared] are in use.
	longHellos atomic.Int64

	accepted, connectFailures, ejections atomic.Uint64
	open                                 atomic.Int64
	bytesIn, bytesOut                    atomic.Uint64
	ended                                map[table.Reason]*atomic.Uint64
}

// New makes an engine. The error is [ErrNoTable].
func New(cfg Config) (*Engine, error) {
	if cfg.Table == nil {
		return nil, ErrNoTable
	}
	e := &Engine{
		cfg:       cfg.withDefaults(),
		listeners: make(map[*net.TCPListener]struct{}),
		ended:     make(map[table.Reason]*atomic.Uint64),
	}
	e.waiting.max = e.cfg.MaxHalfOpen
	for _, reason := range table.Reasons() {
		e.ended[reason] = new(atomic.Uint64)
	}
	e.cutContext, e.cut = context.WithCancelCause(context.Background())
	e.stopContext, e.stop = context.WithCancel(context.Background())
	return e, nil
}

// Serve accepts connections from the listener until [Engine.Drain], which
// closes it, and then returns nil. Any number of calls may run at once. An error
// means that the listener itself broke, or with [net.ErrClosed] that somebody
// else closed it; its connections go on.
func (e *Engine) Serve(listener *net.TCPListener) error {
	if !e.adopt(listener) {
		return nil
	}
	defer e.sessions.Done()
	defer e.leave(listener)
	pause := acceptPause
	for {
		client, err := listener.AcceptTCP()
		switch {
		case err == nil:
			pause = acceptPause
			e.accept(client)
		case e.stopContext.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// Out of descriptors or memory: what is open goes on, and ends.
			e.cfg.Logger.Warn("accepting is paused", "listener", listener.Addr().String(), "pause", pause, "err", err)
			if !e.wait(pause) {
				return nil
			}
			pause = min(2*pause, acceptPauseMax)
		}
	}
}

const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// wait waits, and reports whether accepting goes on.
func (e *Engine) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-e.stopContext.Done():
		return false
	}
}

// adopt takes note of a listener; one that comes after the stop is closed.
func (e *Engine) adopt(listener *net.TCPListener) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopContext.Err() != nil {
		_ = listener.Close()
		return false
	}
	e.listeners[listener] = struct{}{}
	e.own.Store(ownOf(e.listeners))
	e.sessions.Add(1)
	return true
}

// leave forgets a listener that is not served any more.
func (e *Engine) leave(listener *net.TCPListener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.listeners, listener)
	e.own.Store(ownOf(e.listeners))
}

// accept starts the session of a connection, or resets it when there are too
// many.
func (e *Engine) accept(client *net.TCPConn) {
	e.accepted.Add(1)
	start := e.cfg.Now()
	if e.open.Add(1) > int64(e.cfg.MaxConnections) {
		peer := addrPort(client)
		reset(client)
		e.finish(&table.Record{Start: start, Client: peer, Peer: peer, Reason: table.ReasonConnectionLimit})
		return
	}
	e.sessions.Add(1)
	go e.session(client, start)
}

// finish counts a connection that has ended and tells of it.
func (e *Engine) finish(record *table.Record) {
	e.open.Add(-1)
	e.ended[record.Reason].Add(1)
	if record.Routes == nil && record.Basis == nil {
		// It ended before a table was asked.
		t := e.cfg.Table()
		record.Routes, record.Basis = t.Routes, t.Basis
	}
	record.Duration = e.cfg.Now().Sub(record.Start)
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
	before := e.ended[table.ReasonDrained].Load()
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
	return e.ended[table.ReasonDrained].Load() - before
}

// Stats returns what was counted so far.
func (e *Engine) Stats() table.EngineStats {
	s := table.EngineStats{
		Accepted:        e.accepted.Load(),
		Open:            e.open.Load(),
		HalfOpen:        int64(e.waiting.len()),
		Ended:           make(map[table.Reason]uint64),
		ConnectFailures: e.connectFailures.Load(),
		Ejections:       e.ejections.Load(),
		BytesIn:         e.bytesIn.Load(),
		BytesOut:        e.bytesOut.Load(),
	}
	for reason, count := range e.ended {
		if n := count.Load(); n > 0 {
			s.Ended[reason] = n
		}
	}
	return s
}

func addrPort(c net.Conn) netip.AddrPort {
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		a := tcp.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPort{}
}

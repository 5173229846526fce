package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

// Conn is a connection that can be closed for writing alone: *net.TCPConn,
// *net.UnixConn and *tls.Conn are.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Side is one side of a joined pair.
type Side string

// The sides.
const (
	Neither  Side = ""
	Client   Side = "client"
	Upstream Side = "upstream"
)

// Result is what [Join] did.
type Result struct {
	// In is the bytes from the client to the upstream, Out those back.
	In, Out uint64
	// Broke is the side that failed first; Neither when both closed in order or
	// the context ended.
	Broke Side
	// Err is how that side failed, or the context's cause; nil when both closed
	// in order.
	Err error
}

// Count is where bytes are counted while they pass; either may be nil.
type Count struct{ In, Out *atomic.Uint64 }

// Join moves bytes between client and upstream, both ways, until both have
// closed, one has failed or ctx has ended, and then closes both. The end of one
// direction is passed on by CloseWrite while the other goes on. When a side
// fails, or ctx ends, the other is reset if it can be, so that no one takes a
// broken stream for a whole one.
//
// Join blocks. It uses one more goroutine, which has ended when it returns.
// Between two TCP connections on Linux big streams are spliced in the kernel;
// an idle pair of sockets holds neither buffer nor pipe.
func Join(ctx context.Context, client, upstream Conn, counts ...Count) Result {
	return join(ctx, client, upstream, nil, 0, counts)
}

// errIdle is why a pair ends that moves nothing.
var errIdle = errors.New("nothing was moved for too long")

// join is Join with bytes of the client's that were read already, and an end to
// pairs that move nothing for a time, if that is not 0.
func join(ctx context.Context, client, upstream Conn, read net.Buffers, idle time.Duration, counts []Count) Result {
	p := &pair{client: client, upstream: upstream, counts: counts}
	if idle > 0 {
		stop := p.watchIdle(idle)
		defer stop()
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { p.fail(Neither, context.Cause(ctx)) })
		defer stop()
	}
	down := make(chan struct{})
	go p.downstream(down)
	p.up(read)
	<-down
	_ = client.Close()
	_ = upstream.Close()
	failure := p.failure.Load()
	if failure == nil {
		failure = &failed{}
	}
	return Result{In: p.in, Out: p.out, Broke: failure.side, Err: failure.err}
}

// pair is a joined pair while it moves.
type pair struct {
	client, upstream Conn
	counts           []Count
	in, out          uint64
	// moved is how many bytes have passed, both ways.
	moved atomic.Uint64
	// failure is the first one.
	failure atomic.Pointer[failed]
	// clientTold and upstreamTold: that side was told of the other's end.
	clientTold, upstreamTold atomic.Bool
}

type failed struct {
	side Side
	err  error
}

// up moves from the client to the upstream; first what was read already.
func (p *pair) up(read net.Buffers) {
	counted := func(n int64) {
		p.in += uint64(n)
		p.moved.Add(uint64(n))
		for _, c := range p.counts {
			if c.In != nil {
				c.In.Add(uint64(n))
			}
		}
	}
	if len(read) > 0 {
		n, err := writeAll(p.upstream, read)
		counted(n)
		if err != nil {
			p.fail(Upstream, err)
			return
		}
	}
	p.move(way{p.client, p.upstream, Client, Upstream, &p.clientTold, &p.upstreamTold}, counted)
}

// watchIdle ends the pair when it has moved nothing for a time, until it is
// stopped.
func (p *pair) watchIdle(idle time.Duration) (stop func()) {
	stopped := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		look := time.NewTicker(idle / engine.IdleShare)
		defer look.Stop()
		last, since := p.moved.Load(), 0
		for since < engine.IdleShare {
			select {
			case <-look.C:
			case <-stopped:
				return
			}
			since++
			if moved := p.moved.Load(); moved != last {
				last, since = moved, 0
			}
		}
		p.fail(Neither, errIdle)
	})
	return func() {
		close(stopped)
		watching.Wait()
	}
}

// writeAll writes buffers: most hellos are one, which needs no vector.
func writeAll(to Conn, buffers net.Buffers) (int64, error) {
	if len(buffers) == 1 {
		n, err := to.Write(buffers[0])
		return int64(n), err
	}
	return buffers.WriteTo(to)
}

// downstream moves from the upstream to the client. It is a method of its own
// so that it has a name in stack dumps.
func (p *pair) downstream(done chan<- struct{}) {
	defer close(done)
	p.move(way{p.upstream, p.client, Upstream, Client, &p.upstreamTold, &p.clientTold}, func(n int64) {
		p.out += uint64(n)
		p.moved.Add(uint64(n))
		for _, c := range p.counts {
			if c.Out != nil {
				c.Out.Add(uint64(n))
			}
		}
	})
}

// way is one direction of a pair.
type way struct {
	from, to         Conn
	fromSide, toSide Side
	fromTold, toTold *atomic.Bool
}

// move copies one direction to its end and passes that end on.
func (p *pair) move(w way, counted func(int64)) {
	err := transfer(w.to, w.from, counted)
	if err == nil && wasReset(w.from) && !w.fromTold.Load() {
		err = errReset
	}
	if err == nil && p.failure.Load() != nil {
		// It ends because it was broken off, and that is passed on already.
		return
	}
	if err == nil {
		w.toTold.Store(true)
		// An error here means that the other side is gone already, which its
		// own direction finds out.
		_ = w.to.CloseWrite()
		return
	}
	if failure, ok := errors.AsType[*writeError](err); ok {
		p.fail(w.toSide, failure.err)
		return
	}
	p.fail(w.fromSide, err)
}

// errReset is what a read would have said of a reset that a write was told of.
var errReset = os.NewSyscallError("read", syscall.ECONNRESET)

// fail resets both sides; that ends both directions.
func (p *pair) fail(side Side, err error) {
	if p.failure.CompareAndSwap(nil, &failed{side, err}) {
		resetUnlessGone(p.client, side == Client && isGone(err))
		resetUnlessGone(p.upstream, side == Upstream && isGone(err))
	}
}

// resetUnlessGone is reset for a side that may have been reset by its peer:
// there is no one left to tell.
func resetUnlessGone(c net.Conn, gone bool) {
	if gone {
		_ = c.Close()
		return
	}
	reset(c)
}

// isGone reports whether the peer reset the connection.
func isGone(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

// reset closes so that the peer sees a reset where the kind of connection has
// one.
func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// blockSize is the size of one read. A pooled buffer of this size is held only
// from a read that found bytes to the end of the write of them.
const blockSize = 32 << 10

// blocks are the buffers of all connections.
var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// transfer copies from one connection to another until the end of it. A failure
// of the receiver is a *writeError.
func transfer(to, from Conn, counted func(int64)) error {
	source, err := newSource(from)
	for err == nil {
		var n int64
		n, err = source.move(to)
		if n > 0 {
			counted(n)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// writeError marks an error as that of the receiving side.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

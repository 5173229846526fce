package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// clients is how many connections are opened at once.
	clients = 32
	// bulkStreams and bulkWrite are the work of the bulk measurement.
	bulkStreams = 4
	bulkWrite   = 128 << 10
	// patience is how long one connection may take.
	patience = 10 * time.Second
	// mostConnections bounds one measurement, and mostFailures ends one.
	mostConnections = 200_000
	mostFailures    = 100
)

var hello = clientHello(serverName)

// dial opens a connection, sends the ClientHello and waits for the answer.
func dial(ctx context.Context, address string) (*net.TCPConn, error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := conn.(*net.TCPConn)
	// Closing resets: nobody runs out of ports.
	err = errors.Join(c.SetLinger(0), c.SetDeadline(time.Now().Add(patience)))
	if err == nil {
		_, err = c.Write(hello)
	}
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, len(answer)))
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// connection is the whole life of one measured connection, and how long it took
// to get the answer.
func connection(ctx context.Context, address string) (time.Duration, error) {
	begin := time.Now()
	conn, err := dial(ctx, address)
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	return took, conn.Close()
}

// connResult is what one measurement of new connections found.
type connResult struct {
	perSecond float64
	p50, p99  time.Duration
	count     int
	// failed is how many connections got no answer; they count nowhere else.
	// failure is one of them.
	failed  int
	failure error
}

// measureConnections opens connections for a while, some at once. Those that
// fail are counted, so that a proxy that refuses does not look fast.
func measureConnections(ctx context.Context, address string, d time.Duration) (connResult, error) {
	var (
		workers  sync.WaitGroup
		lock     sync.Mutex
		all      []time.Duration
		failure  error
		started  atomic.Int64
		failures atomic.Int64
	)
	begin := time.Now()
	end := begin.Add(d)
	for range clients {
		workers.Go(func() {
			var took []time.Duration
			var last error
			for time.Now().Before(end) && ctx.Err() == nil && failures.Load() < mostFailures && started.Add(1) <= mostConnections {
				t, err := connection(ctx, address)
				if err == nil {
					took = append(took, t)
				} else {
					last = err
					failures.Add(1)
				}
			}
			lock.Lock()
			defer lock.Unlock()
			all = append(all, took...)
			if last != nil {
				failure = last
			}
		})
	}
	workers.Wait()
	elapsed := time.Since(begin)
	if ctx.Err() != nil {
		return connResult{}, ctx.Err()
	}
	if len(all) == 0 {
		return connResult{}, fmt.Errorf("no connection got its answer: %w", failure)
	}
	slices.Sort(all)
	return connResult{
		perSecond: float64(len(all)) / elapsed.Seconds(),
		p50:       quantile(all, 0.50), p99: quantile(all, 0.99), count: len(all),
		failed: int(failures.Load()), failure: failure,
	}, nil
}

// measureBulk writes on some connections for a while and returns the bytes per
// second that reached the backend.
func measureBulk(ctx context.Context, address string, b *backend, d time.Duration) (float64, error) {
	conns, err := open(ctx, address, bulkStreams)
	defer closeAll(conns)
	if err != nil {
		return 0, err
	}
	var writers sync.WaitGroup
	before, begin := b.bytes.Load(), time.Now()
	problems := make([]error, len(conns))
	for i, conn := range conns {
		writers.Go(func() {
			block := make([]byte, bulkWrite)
			_ = conn.SetDeadline(begin.Add(d + patience))
			for problems[i] == nil && time.Since(begin) < d && ctx.Err() == nil {
				_, problems[i] = conn.Write(block)
			}
		})
	}
	writers.Wait()
	perSecond := float64(b.bytes.Load()-before) / time.Since(begin).Seconds()
	return perSecond, errors.Join(errors.Join(problems...), ctx.Err())
}

// measureIdle is what one idle connection adds to a proxy's memory, in bytes.
func measureIdle(ctx context.Context, address string, p *process, count int) (float64, error) {
	// The first connections make what is made once.
	conns, err := open(ctx, address, 2*clients)
	defer func() { closeAll(conns) }()
	if err != nil {
		return 0, err
	}
	before, err := p.memory()
	if err != nil {
		return 0, err
	}
	more, err := open(ctx, address, count)
	conns = append(conns, more...)
	if err != nil {
		return 0, err
	}
	after, err := p.memory()
	return float64(after-before) / float64(count), err
}

// open makes connections that have got their answer.
func open(ctx context.Context, address string, count int) ([]*net.TCPConn, error) {
	conns := make([]*net.TCPConn, 0, count)
	for range count {
		conn, err := dial(ctx, address)
		if err != nil {
			return conns, fmt.Errorf("connection %d: %w", len(conns)+1, err)
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

func closeAll(conns []*net.TCPConn) {
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// quantile is the value below which a share of sorted values lies; 0 when there
// is none.
func quantile[T any](sorted []T, share float64) T {
	if len(sorted) == 0 {
		var zero T
		return zero
	}
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// median of values, which are sorted by it.
func median(values []float64) float64 {
	slices.Sort(values)
	return quantile(values, 0.5)
}

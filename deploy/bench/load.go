package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// bulkStreams and bulkWrite are the work of the bulk measurement.
	bulkStreams = 4
	bulkWrite   = 128 << 10
	// patience is how long one connection may take.
	patience = 10 * time.Second
	// mostFailures ends a measurement.
	mostFailures = 100
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

// bulkResult is how much reached the backend.
type bulkResult struct{ bytes, perSecond float64 }

// measureBulk writes on some connections for a while.
func measureBulk(ctx context.Context, address string, b *backend, d time.Duration) (bulkResult, error) {
	conns, err := open(ctx, address, bulkStreams)
	defer closeAll(conns)
	if err != nil {
		return bulkResult{}, err
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
	got := float64(b.bytes.Load() - before)
	return bulkResult{got, got / time.Since(begin).Seconds()}, errors.Join(errors.Join(problems...), ctx.Err())
}

// idleResult is the memory of a proxy in bytes: what each of many idle connections adds,
// and all that it then has; and which share of a core it takes meanwhile. opened is
// how many there were.
type idleResult struct {
	each, whole, core float64
	opened            int
}

// idleTime is how long a proxy is watched while all its connections are idle.
const idleTime = 500 * time.Millisecond

// measureIdle opens connections and leaves them idle.
func measureIdle(ctx context.Context, address string, p *process, count int) (idleResult, error) {
	// The first connections make what is made once.
	conns, err := open(ctx, address, 2*saturation.connections)
	defer func() { closeAll(conns) }()
	if err != nil {
		return idleResult{}, err
	}
	before, err := p.memory()
	if err != nil {
		return idleResult{}, err
	}
	more, err := open(ctx, address, count)
	conns = append(conns, more...)
	if err != nil {
		return idleResult{}, err
	}
	after, err := p.memory()
	if err != nil {
		return idleResult{}, err
	}
	core, err := family(p.command.Process.Pid).idle(ctx, idleTime)
	return idleResult{float64(after-before) / float64(count), float64(after), core, len(conns)}, err
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

// median of values in any order.
func median(values []float64) float64 { return quantile(slices.Sorted(slices.Values(values)), 0.5) }

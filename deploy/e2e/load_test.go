package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// target is a local listener of web, and who must answer there.
type target struct{ service, url string }

// asker makes one request and checks who answered.
func (g *target) asker(client *http.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url, http.NoBody)
		if err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return fmt.Errorf("the answer broke off: %w", err)
		}
		if string(body) != g.service || answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answered %q with %s", g.service, body, answer.Status)
		}
		return nil
	}
}

// newClient opens a connection for each request, or keeps one. Requests are
// POSTs, which net/http never sends again by itself. lost, if any, counts the
// connections that the other side ended: net/http gives one up by itself when it was too
// busy to see the request written before the answer came.
func newClient(keep bool, lost *atomic.Int64) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: !keep, MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil || lost == nil {
				return conn, err
			}
			return &watchedConn{Conn: conn, lost: lost}, nil
		},
	}}
}

// watchedConn counts its end, if that is the other side's.
type watchedConn struct {
	net.Conn
	lost  *atomic.Int64
	ended atomic.Bool
}

// Read is a connection's.
func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && c.ended.CompareAndSwap(false, true) {
		c.lost.Add(1)
	}
	return n, err
}

// Close is a connection's.
func (c *watchedConn) Close() error {
	c.ended.Store(true)
	return c.Conn.Close()
}

// load asks every service, one request after another: over new connections,
// and over one kept connection to each. There is no retry: each failure counts.
type load struct {
	succeeded, failed, onKept, lost atomic.Int64
	kept                            int64
	mu                              sync.Mutex
	first                           error
	cancel                          context.CancelFunc
	group                           sync.WaitGroup
}

// startLoad asks all services at web's upstreams.
func (w *world) startLoad(t *testing.T, keep bool) *load {
	t.Helper()
	var targets []*target
	for _, s := range services {
		targets = append(targets, &target{s.name, w.upstream(s.port)})
	}
	return startLoad(t, keep, targets...)
}

// startLoad begins at once. keep: over kept connections too.
func startLoad(t *testing.T, keep bool, targets ...*target) *load {
	t.Helper()
	l := new(load)
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(t.Context())
	t.Cleanup(l.end)
	for _, g := range targets {
		l.group.Go(func() { l.run(ctx, g, newClient(false, nil), nil) })
		if keep {
			l.kept++
			l.group.Go(func() { l.run(ctx, g, newClient(true, &l.lost), &l.onKept) })
		}
	}
	return l
}

func (l *load) run(ctx context.Context, g *target, client *http.Client, counter *atomic.Int64) {
	defer client.CloseIdleConnections()
	ask := g.asker(client)
	pause := time.NewTicker(2 * lookEvery)
	defer pause.Stop()
	for {
		err := ask(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.failed.Add(1)
			l.mu.Lock()
			if l.first == nil {
				l.first = fmt.Errorf("%s: %w", g.service, err)
			}
			l.mu.Unlock()
		default:
			l.succeeded.Add(1)
			if counter != nil {
				counter.Add(1)
			}
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
	}
}

// more waits until so many more requests have been answered, or one failed.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	until := l.succeeded.Load() + n
	await(t, "requests stand still", func(context.Context) error {
		if got := l.succeeded.Load(); got < until && l.failed.Load() == 0 {
			return fmt.Errorf("%d answered, want %d", got, until)
		}
		return nil
	})
}

func (l *load) end() {
	l.cancel()
	l.group.Wait()
}

// verdict ends the load, fails the test if a request failed or a kept
// connection was lost, and says what was measured.
func (l *load) verdict(t *testing.T, format string, args ...any) {
	t.Helper()
	l.end()
	if failed := l.failed.Load(); failed > 0 {
		t.Errorf("%d of %d requests failed, the first with: %v", failed, failed+l.succeeded.Load(), l.first)
	}
	if lost := l.lost.Load(); lost > 0 {
		t.Errorf("%d of %d kept connections were ended", lost, l.kept)
	}
	t.Logf(format+"; %d requests, %d failed, %d of them over %d kept connections",
		append(args, l.succeeded.Load()+l.failed.Load(), l.failed.Load(), l.onKept.Load(), l.kept)...)
}

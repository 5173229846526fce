package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// loadTarget is one upstream of the demo's client.
type loadTarget struct {
	// upstream is its name, like api.
	upstream string
	// url leads to the sidecar's local listener; want is who must answer.
	url, want string
}

// load sends requests to every target, one after another, until it is stopped:
// over new connections, and over one kept connection each. There are no
// retries: each failure counts.
type load struct {
	targets []loadTarget

	succeeded, failed atomic.Int64
	// onKept counts those of them over kept connections; keptLost is how many of
	// these were ended, but by the client.
	onKept, keptLost atomic.Int64

	mu    sync.Mutex
	first error

	stop  context.CancelFunc
	group sync.WaitGroup
}

// loadTimeout bounds one request; longer is a failure.
const loadTimeout = 15 * time.Second

// loadPause is between two requests of one target, so that the load leaves the
// machine some room.
const loadPause = 2 * time.Millisecond

// startLoad begins at once.
func startLoad(ctx context.Context, targets []loadTarget) *load {
	l, ctx := newLoad(ctx, targets)
	for _, target := range targets {
		l.group.Go(func() { l.run(ctx, target, newClient(true, &l.keptLost), true) })
	}
	return l
}

// startLoadOverNew begins at once, over new connections only.
func startLoadOverNew(ctx context.Context, targets []loadTarget) *load {
	l, _ := newLoad(ctx, targets)
	return l
}

func newLoad(ctx context.Context, targets []loadTarget) (*load, context.Context) {
	ctx, stop := context.WithCancel(ctx)
	l := &load{targets: targets, stop: stop}
	for _, target := range targets {
		l.group.Go(func() { l.run(ctx, target, newClient(false, nil), false) })
	}
	return l, ctx
}

// newClient makes a client that keeps its connection, or opens a new one for
// each request. lost, if any, counts connections that the other side ended.
func newClient(keep bool, lost *atomic.Int64) *http.Client {
	transport := &http.Transport{DisableKeepAlives: !keep, MaxConnsPerHost: 1}
	if lost != nil {
		transport.DialContext = dialWatched(lost)
	}
	return &http.Client{Transport: transport, Timeout: loadTimeout}
}

func (l *load) run(ctx context.Context, target loadTarget, client *http.Client, kept bool) {
	defer client.CloseIdleConnections()
	pause := time.NewTicker(loadPause)
	defer pause.Stop()
	for {
		err := request(ctx, client, target)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			l.succeeded.Add(1)
			if kept {
				l.onKept.Add(1)
			}
		default:
			l.fail(fmt.Errorf("%s: %w", target.upstream, err))
		}
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

func (l *load) fail(err error) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = err
	}
}

// firstFailure is the first request that failed, or nil.
func (l *load) firstFailure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// end stops the load and waits for it.
func (l *load) end() {
	l.stop()
	l.group.Wait()
}

// request makes one request and checks who answered.
func request(ctx context.Context, client *http.Client, target loadTarget) error {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, target.url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(ask)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	if got := answer.Header.Get(answerHeader); answer.StatusCode != http.StatusOK || got != target.want {
		return fmt.Errorf("answered by %q with %s; want %q", got, answer.Status, target.want)
	}
	return nil
}

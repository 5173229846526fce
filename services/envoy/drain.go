package envoy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// The rhythm of a drain.
const (
	// lookEvery is how often connections are counted.
	lookEvery = 100 * time.Millisecond
	// quietFor is how long no caller may have been seen before none is expected: who has
	// just closed a connection may make another one, until it hears that this Envoy leaves.
	quietFor = time.Second
	// answerWithin is how long Envoy's admin server may take for an answer.
	answerWithin = 5 * time.Second
	// tellEvery is how often the number of those that are still open is logged, at most.
	tellEvery = time.Second
	// answerAtMost bounds what is read of an answer.
	answerAtMost = 1 << 28
)

// drain has an Envoy's callers leave before it ends.
type drain struct {
	within time.Duration
	logger *slog.Logger
	client *http.Client
}

// newDrain is the drain of the Envoy that has written where its admin server listens to a
// file; nil, and why, where there is none to speak with.
func newDrain(file string, within time.Duration, logger *slog.Logger) (*drain, string) {
	if within <= 0 {
		return nil, "the drain time is 0"
	}
	text, err := os.ReadFile(file)
	at := strings.TrimSpace(string(text))
	if err != nil || at == "" {
		return nil, "Envoy has no admin address"
	}
	network := "tcp"
	if !strings.Contains(at, ":") || strings.HasPrefix(at, "/") {
		network = "unix"
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, at)
	}}
	return &drain{within: within, logger: logger, client: &http.Client{Transport: transport}}, ""
}

// run asks callers to leave, and returns when they have, when the time is over, when ctx
// ends, or when Envoy does not understand.
//
// It is the failed health check that has every response over HTTP/1 say "connection:
// close", and a GOAWAY follow those over HTTP/2. The endpoint /drain_listeners would not
// do: what it asks for comes gradually over --drain-time-s (10 minutes), which must stay
// as it is, since it also rules how listeners that change let go of their connections; and
// at its end nobody is listened to. Listeners go on taking connections here, since some
// callers have yet to hear that this Envoy leaves.
func (d *drain) run(ctx context.Context) {
	defer d.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, d.within)
	defer cancel()
	listeners, err := d.listeners(ctx)
	switch {
	case err != nil:
		d.logger.Warn("Envoy cannot be drained, and open connections end with it", "err", err)
		return
	case len(listeners) == 0:
		d.logger.Info("Envoy has no callers to drain")
		return
	}
	if _, err := d.ask(ctx, http.MethodPost, "/healthcheck/fail"); err != nil {
		d.logger.Warn("Envoy cannot be drained, and open connections end with it", "err", err)
		return
	}
	d.logger.Info("Envoy drains: its callers are asked to leave", "within", d.within)
	d.await(ctx, listeners)
}

// await waits until nobody has been connected for a while.
func (d *drain) await(ctx context.Context, listeners map[string]bool) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var (
		last  callers
		quiet = time.Now()
		said  int
		told  time.Time
	)
	for {
		now, err := d.callers(ctx, listeners)
		switch {
		case err != nil && ctx.Err() == nil:
			d.logger.Warn("connections of Envoy cannot be counted", "err", err)
			quiet = time.Now()
		case err == nil:
			if now.open > 0 || now.ever != last.ever {
				quiet = time.Now()
			}
			if now.open > 0 && now.open != said && time.Since(told) >= tellEvery {
				said, told = now.open, time.Now()
				d.logger.Info("Envoy drains", "open_connections", now.open)
			}
			last = now
			if time.Since(quiet) >= quietFor {
				d.logger.Info("Envoy is drained")
				return
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			d.logger.Info("the drain is over, and open connections end with Envoy", "open_connections", last.open)
			return
		}
	}
}

// ask is an answer of the admin server.
func (d *drain) ask(ctx context.Context, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := d.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("admin server of Envoy: %w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, answerAtMost))
	if err != nil {
		return nil, fmt.Errorf("admin server of Envoy: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("admin server of Envoy: %s %s: %s", method, path, answer.Status)
	}
	return body, nil
}

// callers are the connections of listeners.
type callers struct {
	// open are there now, and ever is how many there have been.
	open, ever int
}

// callers counts connections of listeners.
func (d *drain) callers(ctx context.Context, listeners map[string]bool) (callers, error) {
	text, err := d.ask(ctx, http.MethodGet, "/stats?filter="+url.QueryEscape(`^listener\..*\.downstream_cx_(active|total)$`))
	if err != nil {
		return callers{}, err
	}
	return countCallers(string(text), listeners)
}

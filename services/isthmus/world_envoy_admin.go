package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// adminAnswer bounds what is read of an admin server's answer.
const adminAnswer = 16 << 20

// errNoAdmin says that an Envoy has not yet said where its admin server is.
var errNoAdmin = errors.New("the Envoy has not started yet")

// get asks the admin server.
func (e *worldEnvoy) get(ctx context.Context, path string) ([]byte, error) {
	return e.ask(ctx, http.MethodGet, path)
}

func (e *worldEnvoy) post(ctx context.Context, path string) ([]byte, error) {
	return e.ask(ctx, http.MethodPost, path)
}

func (e *worldEnvoy) ask(ctx context.Context, method, path string) ([]byte, error) {
	at := e.adminAddress()
	if at == "" {
		return nil, fmt.Errorf("%s: %w", e.proxy(), errNoAdmin)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+at+path, nil)
	if err != nil {
		return nil, err
	}
	client := newClient(false, nil)
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("admin server of %s: %w", e.proxy(), err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, adminAnswer))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("admin server of %s: %s: %w", e.proxy(), path, err)
	}
	return body, nil
}

// adminAddress is where the admin server is; empty: it is not known yet.
func (e *worldEnvoy) adminAddress() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.admin
}

// awaitLive notes where the admin server is, and that the Envoy is live.
func (e *worldEnvoy) awaitLive(ctx context.Context) error {
	err := every(ctx, 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		text, err := os.ReadFile(e.adminFile())
		if err != nil {
			return false, nil //nolint:nilerr // It is not written yet.
		}
		if _, err := netip.ParseAddrPort(strings.TrimSpace(string(text))); err != nil {
			return false, nil //nolint:nilerr // It is being written.
		}
		e.mu.Lock()
		e.admin = strings.TrimSpace(string(text))
		e.mu.Unlock()
		_, err = e.get(ctx, "/ready")
		return err == nil, nil
	})
	if err != nil {
		return err
	}
	close(e.live)
	<-ctx.Done()
	return context.Cause(ctx)
}

// version is what the Envoy says that it is.
func (e *worldEnvoy) version(ctx context.Context) (string, error) {
	text, err := e.get(ctx, "/server_info")
	if err != nil {
		return "", err
	}
	var info struct{ Version string }
	if err := json.Unmarshal(text, &info); err != nil {
		return "", fmt.Errorf("server_info of %s: %w", e.proxy(), err)
	}
	// REVISION/VERSION/…
	parts := strings.Split(info.Version, "/")
	if len(parts) < 2 {
		return "", fmt.Errorf("server_info of %s has the version %q", e.proxy(), info.Version)
	}
	return parts[1], nil
}

// statistics are those whose names match, by name.
func (e *worldEnvoy) statistics(ctx context.Context, match string) (map[string]uint64, error) {
	text, err := e.get(ctx, "/stats?format=json&filter="+url.QueryEscape(match))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Stats []struct {
			Name  string
			Value uint64
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("statistics of %s: %w", e.proxy(), err)
	}
	out := make(map[string]uint64, len(answer.Stats))
	for _, s := range answer.Stats {
		out[s.Name] = s.Value
	}
	return out, nil
}

// openConnections are those that its listeners have, but for those of its admin server.
func (e *worldEnvoy) openConnections(ctx context.Context) (uint64, error) {
	all, err := e.statistics(ctx, `^listener\..*\.downstream_(pre_)?cx_active$`)
	var open uint64
	for name, n := range all {
		if !strings.HasPrefix(name, "listener.admin.") {
			open += n
		}
	}
	return open, err
}

// joined are the connections that it has joined to endpoints, by cluster.
func (e *worldEnvoy) joined(ctx context.Context) (map[string]uint64, error) {
	const total, failed = "upstream_cx_total", "upstream_cx_connect_fail"
	all, err := e.statistics(ctx, `^cluster\..*\.(`+total+`|`+failed+`)$`)
	out := make(map[string]uint64)
	for name, n := range all {
		name = strings.TrimPrefix(name, "cluster.")
		cluster, counts := strings.CutSuffix(name, "."+total)
		if counts && strings.Contains(cluster, ".internal") {
			out[cluster] = n - all["cluster."+cluster+"."+failed]
		}
	}
	return out, err
}

// every asks at once and then at each interval until the answer is yes, or an error.
func every(ctx context.Context, interval time.Duration, ask func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if yes, err := ask(ctx); yes || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// lineWriter hands over each whole line that is written to it.
type lineWriter struct {
	line func(string)
	rest []byte
}

// Write takes a piece.
func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		line, rest, whole := bytes.Cut(w.rest, []byte{'\n'})
		if !whole {
			return len(b), nil
		}
		w.line(string(line))
		w.rest = rest
	}
}

// lastLines keeps the end of what an Envoy says.
type lastLines struct {
	mu   sync.Mutex
	kept []byte
}

// keptOfOutput is how much of an Envoy's output is kept.
const keptOfOutput = 2000

// Write takes a piece.
func (l *lastLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, b...)
	if over := len(l.kept) - keptOfOutput; over > 0 {
		l.kept = append([]byte(nil), l.kept[over:]...)
	}
	return len(b), nil
}

// text is what was said last, for an error; empty: nothing.
func (l *lastLines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == 0 {
		return ""
	}
	return "; it said last: " + strings.TrimSpace(string(l.kept))
}

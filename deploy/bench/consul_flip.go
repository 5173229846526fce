package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// flipResult is how long flips of the global mode took, each from the write of
// proxy-defaults; sorted.
type flipResult struct {
	services, mergedProxies int
	// event is until the entry's event is in the log, routes until the last route
	// set of all catalog-registered proxies is rewritten.
	event, routes []time.Duration
	// agent is until Consul's agent has merged the mode into the last of its own
	// proxies, as a bare blocking query sees it; merged until the last of their
	// events is in the log.
	agent, merged []time.Duration
}

// flipModes flips the global mode to and fro, without and then with
// agent-registered proxies.
func (w *consulWorld) flipModes(ctx context.Context, flips, proxies int) (*flipResult, error) {
	r := &flipResult{services: w.services, mergedProxies: proxies}
	var err error
	w.resolver, err = start(w.scratch, w.program, "resolver", "--datacenter", "dc1", "--log-level", "warn", "--nats", w.server.URL())
	if err != nil {
		return nil, err
	}
	for i := range flips + 1 {
		event, routes, err := w.flipRaw(ctx, modeOf(i))
		if err != nil {
			return nil, fmt.Errorf("flip %d: %w", i, err)
		}
		if i > 0 { // The first one sets a mode where there was none.
			r.event, r.routes = append(r.event, event), append(r.routes, routes)
		}
	}
	if err := w.registerWithAgent(ctx, proxies, modeOf(flips)); err != nil {
		return nil, err
	}
	for i := range flips {
		agent, merged, err := w.flipMerged(ctx, modeOf(flips+1+i), proxies)
		if err != nil {
			return nil, fmt.Errorf("flip %d beside proxies of the agent: %w", i, err)
		}
		r.agent, r.merged = append(r.agent, agent), append(r.merged, merged)
	}
	for _, values := range [][]time.Duration{r.event, r.routes, r.agent, r.merged} {
		slices.Sort(values)
	}
	return r, nil
}

// modeOf is the mode of the nth flip.
func modeOf(n int) string { return []string{"local", "remote"}[n%2] }

// setGlobal writes proxy-defaults, and returns when it began to.
func (w *consulWorld) setGlobal(ctx context.Context, mode string) (time.Time, error) {
	begin := time.Now()
	return begin, w.call(ctx, http.MethodPut, "/v1/config", object{
		"Kind": "proxy-defaults", "Name": "global", "MeshGateway": object{"Mode": mode},
	})
}

func (w *consulWorld) flipRaw(ctx context.Context, mode string) (event, routes time.Duration, err error) {
	begin, err := w.setGlobal(ctx, mode)
	if err != nil {
		return 0, 0, err
	}
	at, err := w.await(ctx, w.watcher, func(o *observer) (time.Time, bool) { return o.globalAt, o.global == mode })
	if err != nil {
		return 0, 0, err
	}
	rewritten, err := w.await(ctx, w.resolver, func(o *observer) (time.Time, bool) {
		return o.routes.at, o.routes.count[mode] >= w.services
	})
	return at.Sub(begin), rewritten.Sub(begin), err
}

// registerWithAgent registers proxies with the agent, and waits until the log has
// them with the mode.
func (w *consulWorld) registerWithAgent(ctx context.Context, proxies int, mode string) error {
	for i := range proxies {
		name := fmt.Sprintf("merged-%d", i)
		if err := w.call(ctx, http.MethodPut, "/v1/agent/service/register", object{
			"Kind": "connect-proxy", "ID": name + "-sidecar-proxy", "Name": name + "-sidecar-proxy", "Port": 21_000 + i, "Proxy": sidecarOf(name),
		}); err != nil {
			return err
		}
	}
	_, err := w.await(ctx, w.watcher, func(o *observer) (time.Time, bool) { return o.merged.at, o.merged.count[mode] >= proxies })
	return err
}

func (w *consulWorld) flipMerged(ctx context.Context, mode string, proxies int) (agent, merged time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	type answer struct {
		at  time.Time
		err error
	}
	path := "/v1/internal/ui/node/" + w.agent.Node
	_, index, err := w.ask(ctx, path, 0)
	if err != nil {
		return 0, 0, err
	}
	bare := make(chan answer, 1)
	go func() {
		at, err := w.awaitMerged(ctx, path, index, mode, proxies)
		bare <- answer{at, err}
	}()
	begin, err := w.setGlobal(ctx, mode)
	if err != nil {
		return 0, 0, err
	}
	at, err := w.await(ctx, w.watcher, func(o *observer) (time.Time, bool) { return o.merged.at, o.merged.count[mode] >= proxies })
	if err != nil {
		return 0, 0, err
	}
	seen := <-bare
	return seen.at.Sub(begin), at.Sub(begin), seen.err
}

// awaitMerged asks with a bare query until all proxies of the agent have a mode.
func (w *consulWorld) awaitMerged(ctx context.Context, path string, index uint64, mode string, proxies int) (time.Time, error) {
	text := fmt.Appendf(nil, "%q", mode)
	for {
		body, next, err := w.ask(ctx, path, index)
		if err != nil {
			return time.Time{}, err
		}
		now := time.Now()
		index = next
		// Reading the text is cheap, so it decides whether to read the JSON.
		if bytes.Count(body, text) < proxies {
			continue
		}
		var node struct {
			Services []struct {
				Proxy struct{ MeshGateway struct{ Mode string } }
			}
		}
		if err := json.Unmarshal(body, &node); err != nil {
			return now, err
		}
		count := 0
		for _, s := range node.Services {
			if s.Proxy.MeshGateway.Mode == mode {
				count++
			}
		}
		if count >= proxies {
			return now, nil
		}
	}
}

// report prints the medians.
func (r *flipResult) report(out io.Writer) {
	if r == nil {
		return
	}
	fmt.Fprintf(out, "  a flip of the global mode, from the write of proxy-defaults; medians of %d (longest)\n", len(r.event))
	line := func(what string, values []time.Duration) {
		fmt.Fprintf(out, "    %-58s %s (%s)\n", what, millis(quantile(values, 0.50)), millis(quantile(values, 1)))
	}
	line("to its event in the log", r.event)
	line(fmt.Sprintf("%d catalog-registered proxies: to the last of their routes", r.services), r.routes)
	line(fmt.Sprintf("%d agent-registered proxies: the agent's own share", r.mergedProxies), r.agent)
	line(fmt.Sprintf("%d agent-registered proxies: to the last event in the log", r.mergedProxies), r.merged)
	fmt.Fprintln(out)
}

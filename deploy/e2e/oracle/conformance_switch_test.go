package oracle_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// switching moves a sidecar and a caller of its service from Consul's xDS to ours and
// back, one at a time and as deploy/docs/migrate-envoy.md says, by a hot restart, while
// requests pass through both: none fails.
func (c *conformance) switching(t *testing.T) {
	application := c.application(t)
	defer c.entry(t, "service-defaults", "sw-api", nil)
	c.entry(t, "service-defaults", "sw-api", object{"Protocol": "http"})
	sidecarOf := func(service string, port int, proxy object) instance {
		proxy["DestinationServiceName"] = service
		i := instance{agent: c.dc1, id: service + "-proxy", fields: object{
			"Name": service + "-proxy", "Kind": "connect-proxy", "Address": c.host.String(), "Port": port, "Proxy": proxy,
		}}
		i.register(t)
		return i
	}
	api := sidecarOf("sw-api", 27000, object{"LocalServiceAddress": "127.0.0.1", "LocalServicePort": application})
	web := sidecarOf("sw-web", 27010, object{"LocalServicePort": 1, "Upstreams": []object{
		{"DestinationName": "sw-api", "LocalBindAddress": c.host.String(), "LocalBindPort": 27011},
	}})
	c.include(t)

	upstream := "http://" + net.JoinHostPort(c.host.String(), "27011")
	request := func(ctx context.Context, client *http.Client) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, upstream, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s (%w)", answer.Status, text, err)
		}
		return nil
	}
	serving := map[string]*envoy{api.id: c.theirEnvoy(t, c.envoy, api, nil), web.id: c.theirEnvoy(t, c.envoy, web, nil)}
	untilSo(t, "no request passes", func(ctx context.Context) error {
		return request(ctx, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}})
	})

	var done atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for _, kept := range []bool{true, false} { // Connections that are kept, and one for each request.
		load.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: !kept}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				if err := request(ctx, client); err != nil && ctx.Err() == nil {
					t.Errorf("a request has failed: %v", err)
					return
				}
				done.Add(1)
			}
		})
	}
	for _, ours := range []bool{true, false} {
		for _, proxy := range []instance{api, web} {
			before := serving[proxy.id]
			var after *envoy
			if ours {
				after = c.ourEnvoy(t, c.envoy, proxy, c.node, before)
			} else {
				after = c.theirEnvoy(t, c.envoy, proxy, before)
			}
			untilSo(t, "the Envoy that takes over does not listen", after.listens(len(c.listenersOf(proxy))))
			<-before.ended
			serving[proxy.id] = after
			passed := done.Load()
			untilSo(t, "requests do not go on", func(context.Context) error {
				if n := done.Load() - passed; n < 50 {
					return fmt.Errorf("only %d have passed", n)
				}
				return nil
			})
		}
	}
	stop()
	load.Wait()
	t.Logf("%d requests", done.Load())
}

// application answers requests until the test ends, and returns its port.
func (c *conformance) application(t *testing.T) int {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })} //nolint:gosec // A test.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return listener.Addr().(*net.TCPAddr).Port
}

// listenersOf are the upstreams of a sidecar, and what its callers reach.
func (c *conformance) listenersOf(proxy instance) []object {
	upstreams, _ := proxy.fields["Proxy"].(object)["Upstreams"].([]object)
	return append([]object{{}}, upstreams...)
}

// listens waits for an Envoy to run so many listeners, with clusters that are warm.
func (e *envoy) listens(n int) func(context.Context) error {
	return func(ctx context.Context) error {
		set, err := e.loaded(ctx)
		if got := len(set["type.googleapis.com/envoy.config.listener.v3.Listener"]); err == nil && got != n {
			err = fmt.Errorf("%d listeners run instead of %d", got, n)
		}
		return err
	}
}

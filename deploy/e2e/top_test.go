package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/top"
)

// topWorld is one gateway in each datacenter and a request that has gone through
// both, on a connection that is kept.
func topWorld(t *testing.T) (w *world, kept *load) {
	t.Helper()
	w = newWorld(t, 0)
	w.startBus()
	for _, dc := range []string{"dc1", "dc2"} {
		w.role("watcher."+dc, "watcher", "--datacenter", dc, "--nats", w.nats, "--catalog", w.path("catalog"), "--ca-dir", w.path("ca")).start(t)
	}
	for _, dc := range []string{"dc1", "dc2"} {
		w.role("resolver."+dc, "resolver", "--datacenter", dc, "--nats", w.nats).start(t)
	}
	w.gateway("dc1", w.dc1, 1).start(t)
	w.gateway("dc2", w.dc2, 1).start(t)
	w.sidecar("dc2", "db").start(t)
	w.sidecar("dc1", "web").start(t)
	w.awaitAnswer("db", w.upstream(10001))
	kept = startLoad(t, true, &target{"db", w.upstream(10001)})
	kept.more(t, 1)
	return w, kept
}

// top runs isthmus gateways top, and returns what each line of JSON says.
func (w *world) top(t *testing.T, args ...string) []top.Frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, binary, append([]string{"gateways", "top", "--nats", w.nats, "-o", "json"}, args...)...)
	var said bytes.Buffer
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		t.Fatalf("isthmus gateways top: %v\n%s", err, said.String())
	}
	var frames []top.Frame
	for line := range strings.Lines(string(out)) {
		var f top.Frame
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		frames = append(frames, f)
	}
	return frames
}

func gatewayOf(t *testing.T, f top.Frame, name string) top.Gateway {
	t.Helper()
	for _, g := range f.Gateways {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("no gateway %s in %+v", name, f)
	return top.Gateway{}
}

// Real processes: what goes through gateways is in their live table, and what is
// left to say of one that has died is what it last reported.
func TestTopOfRealGateways(t *testing.T) {
	w, l := topWorld(t)
	frames := w.top(t, "--count", "2", "--interval", "200ms")
	if len(frames) != 2 {
		t.Fatalf("%d frames; want 2", len(frames))
	}
	last := frames[1]
	for _, name := range []string{"dc1-gateway-1", "dc2-gateway-1"} {
		if g := gatewayOf(t, last, name); g.From != top.FromAdmin || g.Trouble != "" || g.Connections == 0 || g.Open == 0 || g.Rates.BytesOut == nil || *g.Rates.BytesOut == 0 {
			t.Errorf("%+v", g)
		}
	}
	passed := 0
	for _, r := range last.Routes {
		if r.Connections > 0 && *r.Open > 0 && r.BytesIn > 0 && r.BytesOut > 0 && *r.Rates.BytesOut > 0 && *r.Live > 0 {
			passed++
		}
	}
	if passed != 2 {
		t.Errorf("routes %+v; want a wildcard of dc1 and db in dc2", last.Routes)
	}
	l.end()

	// It begins to count anew, and its successor's numbers are no difference to its own.
	w.roles["dc1-gateway-1"].kill(t)
	dead := gatewayOf(t, w.top(t, "--once", "--interval", "100ms", "dc1-gateway-1")[0], "dc1-gateway-1")
	if dead.From != top.FromReport || dead.Age <= 0 || !strings.Contains(dead.Trouble, "connection refused") || dead.Rates.Connections != nil {
		t.Errorf("a gateway that is dead: %+v", dead)
	}
	w.roles["dc1-gateway-1"].start(t)
	w.awaitAnswer("db", w.upstream(10001))
	back := gatewayOf(t, w.top(t, "--once", "--interval", "100ms", "--datacenter", "dc1")[0], "dc1-gateway-1")
	if back.From != top.FromAdmin || back.Connections == 0 {
		t.Errorf("a gateway that is back: %+v", back)
	}
}

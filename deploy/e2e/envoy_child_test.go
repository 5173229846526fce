package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// TestEnvoyAsAChild: "isthmus envoy --register" is a mesh gateway like another one. It
// has its certificate from the agent, what proxy-defaults say of the bootstrap holds, and
// when it is told to stop it is registered no more before Envoy ends.
func TestEnvoyAsAChild(t *testing.T) {
	t.Setenv("ISTHMUS_ENVOY", envoytest.Need(t))
	w := newRegistrationWorld(t, devagent.Config{})
	metrics, at, node := w.dc1+"20:9102", w.dc1+"20:8443", w.dc1+"30:9510"
	w.ask("PUT", "/v1/config", map[string]any{
		"Kind": "proxy-defaults", "Name": "global", "Config": map[string]any{"envoy_prometheus_bind_addr": metrics},
	}, nil)
	w.role("xds", "xds", "--datacenter", "dc1", "--nats", w.nats, "--listen", node).start(t)
	g := w.role("gateway", "envoy", "--register", "--consul", w.agent.HTTP, "--address", at, "--wan-address", at, "--bind-address", "default="+at,
		"--xds", node, "--xds-plain-text")
	g.launch(t)
	w.awaitServed(at)
	if got := w.awaitGateways("mesh-gateway", 1)[0]; got.Service.ID != "mesh-gateway" {
		t.Errorf("the catalog has %v", got)
	}
	await(t, "its certificate is not there", func(ctx context.Context) error {
		config, err := text(ctx, "http://"+g.admin+"/config_dump?resource=dynamic_active_secrets")
		if err == nil && strings.Contains(config, "PRIVATE KEY") {
			err = errors.New("a key is shown")
		}
		return err
	})
	if numbers, err := text(t.Context(), "http://"+metrics+"/metrics"); err != nil || !strings.Contains(numbers, `consul_source_service="mesh-gateway"`) ||
		!strings.Contains(numbers, `consul_destination_service="api"`) {
		t.Errorf("%v: its numbers lack tags: %.2000s", err, numbers)
	}
	if err := g.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	g.awaitEnd(t)
	if left, err := w.gateways(t.Context(), "mesh-gateway"); err != nil || len(left) > 0 {
		t.Errorf("it is registered still: %v, %v", left, err)
	}

	// A child that is killed, and a wrong command line of its own, are told by the exit
	// code.
	again := w.role("again", g.args...)
	again.launch(t)
	w.awaitServed(at)
	w.killChild(again)
	err := <-again.ended
	again.ended <- err
	if err == nil || err.Error() != "exit status 137" {
		t.Errorf("its Envoy was killed, and it ended with %v", err)
	}
	if out, err := run(t, append(g.args, "--admin-bind", "", "--", "--no-such-flag")...); err == nil || err.Error() != "exit status 1" {
		t.Errorf("a flag that Envoy does not have: %v, %s", err, out)
	}
}

// TestEnvoyThatWaits: without an agent nothing is started, what is waited for is said, and
// who is told to stop meanwhile ends well.
func TestEnvoyThatWaits(t *testing.T) {
	w := &world{t: t, dir: t.TempDir(), roles: make(map[string]*process), dc1: fmt.Sprintf("127.247.%d.", os.Getpid()%250)}
	p := w.role("envoy", "envoy", "--sidecar-for", "web", "--consul", "http://"+w.dc1+"9:8500", "--xds", w.dc1+"9:9510", "--envoy-binary", "false")
	p.launch(t)
	await(t, "what it waits for is not said", func(context.Context) error {
		said, err := os.ReadFile(p.logFile)
		if err == nil && !strings.Contains(string(said), "waiting for the Consul agent, which knows the proxy's registration") {
			err = fmt.Errorf("it says %s", said)
		}
		return err
	})
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.awaitEnd(t)
}

// killChild kills the Envoy of a process.
func (w *registrationWorld) killChild(p *process) {
	w.t.Helper()
	info, err := text(w.t.Context(), "http://"+p.admin+"/server_info")
	if err != nil {
		w.t.Fatal(err)
	}
	if !strings.Contains(info, `"id": "mesh-gateway"`) {
		w.t.Errorf("another node: %s", info)
	}
	children, err := childrenOf(p.command.Process.Pid)
	if err != nil || len(children) != 1 {
		w.t.Fatalf("its children are %v, %v", children, err)
	}
	if err := syscall.Kill(children[0], syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
}

// childrenOf are the processes that a process has started, by any of its threads.
func childrenOf(pid int) (out []int, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // The thread has ended.
		}
		for field := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			out = append(out, child)
		}
	}
	return out, nil
}

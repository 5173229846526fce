package devagent_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// An agent is ready when it is returned, and leaves nothing behind.
func TestStartAndClose(t *testing.T) {
	t.Parallel()
	began := time.Now()
	a := agenttest.Start(t, devagent.Config{Datacenter: "dc9", Node: "lone", Extra: `node_meta { color = "green" }`})
	t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))

	var self struct {
		Config struct {
			Datacenter, NodeName string
			Server               bool
		}
		Meta map[string]string
	}
	get(t, a, "/v1/agent/self", &self)
	if c := self.Config; c.Datacenter != "dc9" || c.NodeName != "lone" || !c.Server || self.Meta["color"] != "green" {
		t.Errorf("it is %+v", self)
	}
	if _, err := a.TrustDomain(patient(t)); err != nil {
		t.Error(err)
	}
	for name, address := range map[string]string{"gRPC": a.GRPC, "gRPC by TLS": a.GRPCTLS, "RPC": a.Server, "LAN": a.LAN, "WAN": a.WAN} {
		if connection, err := net.Dial("tcp", address); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			connection.Close()
		}
	}

	pid, dir := a.PID(), a.Dir
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.Signal(0)); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if err := a.Restart(patient(t)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("restarted after it was closed: %v", err)
	}
}

// An agent that does not start says why, in Consul's words.
func TestStartFails(t *testing.T) {
	t.Setenv("ISTHMUS_CONSUL_BINARY", agenttest.Need(t))
	for name, test := range map[string]struct {
		config devagent.Config
		want   string
	}{
		"a mistake in the configuration": {devagent.Config{Extra: `no_such_key = 1`}, "no_such_key"},
		"a client without servers":       {devagent.Config{Client: true}, "needs servers to join"},
		"several servers in memory":      {devagent.Config{BootstrapExpect: 3}, "durable"},
		"ACLs without a token":           {devagent.Config{ACL: &devagent.ACL{}}, "management token"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := devagent.Start(patient(t), test.config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	t.Run("nobody to join", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := devagent.Start(ctx, devagent.Config{Client: true, RetryJoin: []string{"127.0.0.1:1"}})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "it logged:") {
			t.Errorf("the error is %v", err)
		}
	})
}

// A restart keeps addresses; state only if it is durable.
func TestRestart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		durable bool
		end     func(*devagent.Agent) error
	}{
		"durable, stopped":   {true, (*devagent.Agent).Stop},
		"durable, killed":    {true, func(a *devagent.Agent) error { a.Kill(); return nil }},
		"in memory, stopped": {false, (*devagent.Agent).Stop},
		"in memory, running": {false, func(*devagent.Agent) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			a := agenttest.Start(t, devagent.Config{Durable: test.durable})
			put(t, a, "/v1/catalog/register", web, nil)
			before := a.PID()
			if err := test.end(a); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := a.Restart(patient(t)); err != nil {
				t.Fatal(err)
			}
			t.Logf("ready again after %v", time.Since(began).Round(time.Millisecond))
			if a.PID() == before {
				t.Error("it is the same process")
			}
			if _, kept := services(t, a)["web"]; kept != test.durable {
				t.Errorf("the service was kept: %v", kept)
			}
		})
	}
}

// A paused agent does not answer; it goes on afterwards, or can be stopped.
func TestPause(t *testing.T) {
	t.Parallel()
	a := agenttest.Start(t, devagent.Config{})
	if err := a.Pause(); err != nil {
		t.Fatal(err)
	}
	if a.Running() {
		t.Error("a paused agent runs")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := a.Call(ctx, http.MethodGet, "/v1/agent/self", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused agent: %v", err)
	}
	if err := a.Resume(); err != nil {
		t.Fatal(err)
	}
	get(t, a, "/v1/agent/self", nil)
	if err := a.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := a.Stop(); err != nil {
		t.Error(err)
	}
}

// A client joins its server, and comes back with an empty state.
func TestClient(t *testing.T) {
	t.Parallel()
	server := agenttest.Start(t, devagent.Config{ACL: devagent.NewACL()})
	began := time.Now()
	client := agenttest.Start(t, server.ClientConfig("edge"))
	t.Logf("the client is ready after %v", time.Since(began).Round(time.Millisecond))
	put(t, client, "/v1/agent/service/register", map[string]any{"Name": "api", "Port": 80}, nil)
	client.Kill()
	if err := client.Restart(patient(t)); err != nil {
		t.Fatal(err)
	}
	var local map[string]any
	get(t, client, "/v1/agent/services", &local)
	if len(local) > 0 {
		t.Errorf("it still has %v", local)
	}
}

// With ACLs, nothing is told to those without a token.
func TestACL(t *testing.T) {
	t.Parallel()
	a := agenttest.Start(t, devagent.Config{ACL: devagent.NewACL()})
	put(t, a, "/v1/catalog/register", web, nil)
	if _, ok := services(t, a)["web"]; !ok {
		t.Error("the management token does not see the service")
	}
	anonymous := &devagent.Agent{Node: "anonymous", HTTP: a.HTTP}
	var seen map[string][]string
	get(t, anonymous, "/v1/catalog/services", &seen)
	if len(seen) > 0 {
		t.Errorf("without a token one sees %v", seen)
	}
}

// HTTPS speaks HTTP/2 with a certificate that the CA file vouches for.
func TestHTTPS(t *testing.T) {
	t.Parallel()
	ca, err := devagent.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	a := agenttest.Start(t, devagent.Config{CA: ca, MaxConnsPerClient: 1000})
	pem, err := os.ReadFile(a.CAFile)
	if err != nil || string(pem) != string(ca.PEM()) {
		t.Errorf("the CA file: %v", err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(patient(t), http.MethodGet, a.HTTPS+"/v1/status/leader", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
		t.Errorf("%s, %s", response.Proto, response.Status)
	}
}

// The settings that tests turn reach Consul.
func TestSettings(t *testing.T) {
	t.Parallel()
	a := agenttest.Start(t, devagent.Config{
		NoConnect: true, NoCentralConfig: true, SidecarPorts: [2]int{22000, 22010}, LogLevel: "warn",
		DefaultIntentionPolicy: "deny", MaxConnsPerClient: 321, LeaveOnTerminate: true,
	})
	var self struct{ DebugConfig map[string]any }
	get(t, a, "/v1/agent/self", &self)
	for key, want := range map[string]any{
		"ConnectEnabled": false, "EnableCentralServiceConfig": false, "ConnectSidecarMinPort": 22000.0,
		"ConnectSidecarMaxPort": 22010.0, "HTTPMaxConnsPerClient": 321.0, "LeaveOnTerm": true,
		"DefaultIntentionPolicy": "deny", "DevMode": true,
	} {
		if got := self.DebugConfig[key]; got != want {
			t.Errorf("%s is %v, not %v", key, got, want)
		}
	}
	if _, err := a.TrustDomain(patient(t)); err == nil {
		t.Error("there are roots without Connect")
	}
}

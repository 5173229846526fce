package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// registrationWorld is one datacenter with a Consul agent, whose service api is
// reached by name through a gateway.
type registrationWorld struct {
	*world
	agent *devagent.Agent
	sni   string
}

func newRegistrationWorld(t *testing.T, config devagent.Config) *registrationWorld {
	t.Helper()
	w := &registrationWorld{agent: agenttest.Start(t, config)}
	w.world = &world{t: t, dir: t.TempDir(), roles: make(map[string]*process), replicas: "1", dc1: fmt.Sprintf("127.249.%d.", os.Getpid()%250)}
	w.startBus()
	t.Setenv("CONSUL_HTTP_TOKEN", w.agent.Token)
	w.role("watcher", "watcher", "--datacenter", "dc1", "--nats", w.nats, "--consul", w.agent.HTTP).start(t)
	w.role("resolver", "resolver", "--datacenter", "dc1", "--nats", w.nats).start(t)
	var roots struct{ TrustDomain string }
	w.ask("GET", "/v1/connect/ca/roots", nil, &roots)
	w.sni = "api.default.dc1.internal." + roots.TrustDomain
	w.serveAPI()
	return w
}

// serveAPI runs api, which echoes what it is sent over TLS, and registers it.
func (w *registrationWorld) serveAPI() {
	w.t.Helper()
	certificate, _ := enginetest.NewCertificate(w.t, "api.example")
	listener, err := tls.Listen("tcp", w.dc1+"10:7000", &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	w.ask("PUT", "/v1/agent/service/register", map[string]any{
		"ID": "api", "Name": "api", "Address": w.dc1 + "10", "Port": 7000, "Connect": map[string]any{"Native": true},
	}, nil)
}

// ask sends a request to the agent, and reads a JSON answer.
func (w *registrationWorld) ask(method, path string, body, out any) {
	w.t.Helper()
	if err := w.try(w.t.Context(), method, path, body, out); err != nil {
		w.t.Fatal(err)
	}
}

func (w *registrationWorld) try(ctx context.Context, method, path string, body, out any) error {
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, w.agent.HTTP+path, send)
	if err != nil {
		return err
	}
	request.Header.Set("X-Consul-Token", w.agent.Token)
	answer, err := newClient(false, nil).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s %s %w", method, path, answer.Status, text, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// registeredGateway is a gateway as the catalog has it.
type registeredGateway struct {
	Node    struct{ Node string }
	Service struct {
		ID, Service, Kind, Address string
		Port                       int
		TaggedAddresses            map[string]struct {
			Address string
			Port    int
		}
	}
	Checks []struct{ Name, Status, ServiceID string }
}

// gateways are those in the catalog of a name.
func (w *registrationWorld) gateways(ctx context.Context, name string) (out []registeredGateway, err error) {
	err = w.try(ctx, "GET", "/v1/health/service/"+name, nil, &out)
	return out, err
}

// awaitGateways waits until the catalog has so many gateways of a name.
func (w *registrationWorld) awaitGateways(name string, n int) (out []registeredGateway) {
	w.t.Helper()
	await(w.t, "gateways of the catalog", func(ctx context.Context) (err error) {
		if out, err = w.gateways(ctx, name); err == nil && len(out) != n {
			err = fmt.Errorf("it has %d named %s, want %d", len(out), name, n)
		}
		return err
	})
	return out
}

// open connects to api through a gateway, without looking at its certificate:
// the gateway does not either.
func (w *registrationWorld) open(ctx context.Context, gateway string) (*tls.Conn, error) {
	dialer := tls.Dialer{Config: &tls.Config{ServerName: w.sni, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", gateway)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// echo sends a word and wants it back.
func echo(conn net.Conn) error {
	const word = "hello"
	if _, err := io.WriteString(conn, word); err != nil {
		return err
	}
	b := make([]byte, len(word))
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != word {
		return fmt.Errorf("answered %q: %w", b, err)
	}
	return nil
}

// awaitServed waits until api answers through a gateway, and returns the
// connection, which stays open.
func (w *registrationWorld) awaitServed(gateway string) (kept *tls.Conn) {
	w.t.Helper()
	await(w.t, "api does not answer through "+gateway, func(ctx context.Context) (err error) {
		if kept, err = w.open(ctx, gateway); err != nil {
			return err
		}
		if err = echo(kept); err != nil {
			_ = kept.Close()
		}
		return err
	})
	w.t.Cleanup(func() { _ = kept.Close() })
	return kept
}

// run runs an isthmus command to its end and returns what it said.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	return string(out), err
}

// gatewayReport is one gateway of "isthmus gateways -o json".
type gatewayReport struct {
	Name, State, Health string
	Registered          bool
	Listen              []string
	NotHonoured         []string `json:"not_honoured"`
	Problems            []struct{ Code, Problem string }
}

// awaitReport waits until the gateway of an ID reports what is wanted.
func (w *registrationWorld) awaitReport(id string, wanted func(gatewayReport) bool) (seen gatewayReport) {
	w.t.Helper()
	await(w.t, "isthmus gateways", func(context.Context) error {
		out, err := run(w.t, "gateways", "--nats", w.nats, "--datacenter", "dc1", "-o", "json")
		var all []gatewayReport
		if err == nil {
			err = json.Unmarshal([]byte(out), &all)
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		for _, g := range all {
			if g.Name == w.agent.Node+"/"+id && wanted(g) {
				seen = g
				return nil
			}
		}
		return fmt.Errorf("it says %s", out)
	})
	return seen
}

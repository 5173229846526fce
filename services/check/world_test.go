package check_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/services/check"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient bounds every wait for something that must come.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// put sends to an agent with the management token.
func put(t *testing.T, a *devagent.Agent, path string, body any) {
	t.Helper()
	if err := a.Call(patient(t), http.MethodPut, path, body, nil); err != nil {
		t.Fatal(err)
	}
}

// target is an agent as check asks it.
func target(t *testing.T, a *devagent.Agent, name, token string) check.Target {
	t.Helper()
	client, err := consul.Open(consul.Options{Address: a.HTTP, Token: token, Environment: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return check.Target{Datacenter: name, Client: client}
}

// run checks the agents, given by the names of their datacenters.
func run(t *testing.T, agents ...*devagent.Agent) []check.Finding {
	t.Helper()
	var o check.Options
	for _, a := range agents {
		o.Targets = append(o.Targets, target(t, a, a.Datacenter, a.Token))
	}
	return runWith(t, o)
}

func runWith(t *testing.T, o check.Options) []check.Finding {
	t.Helper()
	o.From = "here"
	findings := check.Judge(check.Gather(patient(t), o))
	var text strings.Builder
	check.WriteText(&text, findings)
	t.Log("\n" + text.String())
	return findings
}

// bad are the codes and datacenters with a status, like CONNECT dc2.
func bad(findings []check.Finding, status check.Status) []string {
	var out []string
	for _, f := range findings {
		if f.Status == status {
			out = append(out, string(f.Code)+" "+f.Datacenter)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// wantBad wants exactly these to have the status.
func wantBad(t *testing.T, findings []check.Finding, status check.Status, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := bad(findings, status); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", status, got, want)
	}
}

// one is the only finding of a code and datacenter with the status.
func one(t *testing.T, findings []check.Finding, status check.Status, code check.Code, dc string) check.Finding {
	t.Helper()
	var out []check.Finding
	for _, f := range findings {
		if f.Code == code && f.Datacenter == dc && f.Status == status {
			out = append(out, f)
		}
	}
	if len(out) != 1 {
		t.Fatalf("%d findings %s %s of %s: %v", len(out), status, code, dc, out)
	}
	return out[0]
}

// serveMesh listens as proxies do: with a service's leaf of the agent, asking for a
// certificate. It is a sidecar, and, since it answers to the name with the leaf of
// what is behind, for whoever asks a mesh gateway too. Names that begin in one of
// the ways are not passed on.
func serveMesh(t *testing.T, a *devagent.Agent, service string, refused ...string) int {
	t.Helper()
	var leaf struct{ CertPEM, PrivateKeyPEM string }
	if err := a.Call(patient(t), http.MethodGet, "/v1/agent/connect/ca/leaf/"+service, nil, &leaf); err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.PrivateKeyPEM))
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(c net.Conn) {
		config := &tls.Config{ClientAuth: tls.RequireAnyClientCert, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if slices.ContainsFunc(refused, func(begin string) bool { return strings.HasPrefix(hello.ServerName, begin) }) {
				return nil, errors.New("the name is not passed on")
			}
			return &certificate, nil
		}}
		_ = tls.Server(c, config).HandshakeContext(t.Context())
	})
}

// serve accepts connections on a port of 127.0.0.1 for the time of the test.
func serve(t *testing.T, handle func(net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		group.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// registerMesh registers the service api with a sidecar, and a mesh gateway, both
// served, each with a check that passes.
func registerMesh(t *testing.T, a *devagent.Agent) {
	t.Helper()
	port := serveMesh(t, a, "api")
	put(t, a, "/v1/agent/service/register", map[string]any{"Name": "api", "Port": 80})
	put(t, a, "/v1/agent/service/register", map[string]any{
		"Name": "api-sidecar-proxy", "Kind": "connect-proxy", "Address": "127.0.0.1", "Port": port,
		"Proxy": map[string]any{"DestinationServiceName": "api"},
	})
	registerGateway(t, a, port)
}

func registerGateway(t *testing.T, a *devagent.Agent, port int) {
	t.Helper()
	put(t, a, "/v1/agent/service/register", map[string]any{
		"Name": "mesh-gateway", "Kind": "mesh-gateway", "Address": "127.0.0.1", "Port": port,
		"TaggedAddresses": map[string]any{"wan": map[string]any{"Address": "127.0.0.1", "Port": port}},
		"Check":           map[string]any{"TTL": "1h", "Status": "passing"},
	})
	awaitCatalog(t, a, "mesh-gateway")
}

// awaitCatalog waits until the servers have a service, which the agent syncs.
func awaitCatalog(t *testing.T, a *devagent.Agent, service string) {
	t.Helper()
	client := target(t, a, "", a.Token).Client
	var index uint64
	for {
		state, answer, err := client.Node(patient(t), a.Node, consul.Query{Index: index, Wait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range state.Instances {
			if i.GetName() == service && (len(i.GetChecks()) == 0 || i.GetChecks()[0].GetStatus() == "passing") {
				return
			}
		}
		index = answer.Index
	}
}

// awaitJoined waits until two servers of different datacenters answer through each
// other.
func awaitJoined(t *testing.T, a, b *devagent.Agent) {
	t.Helper()
	await(t, func() bool {
		return a.Call(patient(t), http.MethodGet, "/v1/catalog/nodes?dc="+b.Datacenter, nil, nil) == nil &&
			b.Call(patient(t), http.MethodGet, "/v1/catalog/nodes?dc="+a.Datacenter, nil, nil) == nil
	})
}

// awaitWAN waits until a server is in the agent's WAN pool.
func awaitWAN(t *testing.T, a *devagent.Agent, name string) {
	t.Helper()
	client := target(t, a, "", a.Token).Client
	await(t, func() bool {
		members, _, err := client.Members(patient(t), true)
		return err == nil && slices.ContainsFunc(members, func(m consul.Member) bool { return m.Name == name && m.Alive })
	})
}

// awaitCritical waits until a gateway's check in the catalog is critical.
func awaitCritical(t *testing.T, a *devagent.Agent) {
	t.Helper()
	await(t, func() bool {
		var checks []struct{ ServiceID string }
		err := a.Call(patient(t), http.MethodGet, "/v1/health/state/critical", nil, &checks)
		return err == nil && len(checks) > 0
	})
}

// await asks again until an agent that cannot be waited on by an index is ready.
func await(t *testing.T, ready func() bool) {
	t.Helper()
	ctx := patient(t)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ready() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
}

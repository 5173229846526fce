package consul_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// patience bounds every wait for something that must come.
const patience = 2 * time.Minute

func named(service, datacenter string) identity.Name {
	return identity.Name{Service: &isthmusv1.ServiceRef{Name: service}, Datacenter: datacenter}
}

func opened(t *testing.T, agent *devagent.Agent, token string) *consul.Client {
	t.Helper()
	client, err := consul.Open(consul.Options{Address: agent.HTTP, Token: token, Environment: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// followed is a service's identity, followed for the time of the test.
type followed struct {
	*identity.Live

	mu     sync.Mutex
	events []string
}

func followLeaves(t *testing.T, client *consul.Client, name identity.Name) *followed {
	t.Helper()
	f := &followed{Live: identity.NewLive(nil)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- client.Leaves().Follow(ctx, name, f.take) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("following ended with %v", err)
		}
		t.Logf("%s: %s", name, strings.Join(f.events, "; "))
	})
	return f
}

func (f *followed) take(i *identity.Identity, err error) {
	f.mu.Lock()
	if err != nil {
		f.events = append(f.events, "trouble: "+err.Error())
	} else {
		f.events = append(f.events, i.String())
	}
	f.mu.Unlock()
	f.Take(i, err)
}

// until waits for an identity and trouble that are as wanted.
func (f *followed) until(t *testing.T, what string, want func(*identity.Identity, error) bool) *identity.Identity {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		i, changed := f.Changed()
		if want(i, f.Trouble()) {
			return i
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("%s: %v, %v", what, i, f.Trouble())
		}
	}
}

func (f *followed) first(t *testing.T) *identity.Identity {
	t.Helper()
	return f.until(t, "no leaf", func(i *identity.Identity, err error) bool { return i != nil && err == nil })
}

func call(t *testing.T, agent *devagent.Agent, method, path string, body, answer any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := agent.Call(ctx, method, path, body, answer); err != nil {
		t.Fatal(err)
	}
}

// shake makes one handshake between two services, and says who sees what.
func shake(ctx context.Context, client, server *identity.Live, want string) error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- tls.Server(b, server.ServerConfig(identity.Parameters{})).HandshakeContext(ctx) }()
	err := tls.Client(a, client.ClientConfig("", []string{want}, identity.Parameters{})).HandshakeContext(ctx)
	if err != nil {
		b.Close()
		return errors.Join(err, <-served)
	}
	return <-served
}

// shaking makes handshakes both ways until it is called, and returns how many.
func shaking(t *testing.T, web, api *followed) func() int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	n := 0
	go func() {
		for ctx.Err() == nil {
			err := shake(ctx, web.Live, api.Live, api.Current().URI().String())
			if err == nil {
				err = shake(ctx, api.Live, web.Live, web.Current().URI().String())
			}
			if err != nil && ctx.Err() == nil {
				ended <- fmt.Errorf("after %d: %w", n, err)
				return
			}
			n += 2
		}
		ended <- nil
	}()
	return func() int {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("a handshake failed: %v", err)
		}
		return n
	}
}

// rotate replaces the root of the primary datacenter by one of another key.
func rotate(t *testing.T, agent *devagent.Agent, bits int) {
	t.Helper()
	call(t, agent, http.MethodPut, "/v1/connect/ca/configuration", map[string]any{
		"Provider": "consul", "Config": map[string]any{"PrivateKeyType": "ec", "PrivateKeyBits": bits},
	}, nil)
}

// Leaves of two datacenters of one federation: each knows the other, and goes on
// knowing it while the root is replaced, and while an agent is away.
func TestLeavesOfAFederation(t *testing.T) {
	t.Parallel()
	agents := agenttest.StartFederation(t, devagent.Config{Durable: true}, "dc1", "dc2")
	web := followLeaves(t, opened(t, agents[0], ""), named("web", "dc1"))
	api := followLeaves(t, opened(t, agents[1], ""), named("api", "dc2"))
	before := map[*followed]*identity.Identity{web: web.first(t), api: api.first(t)}
	trustDomain, err := agents[0].TrustDomain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := before[web].URI().String(), named("web", "dc1").In(trustDomain); got != want {
		t.Errorf("web is %s, want %s", got, want)
	}
	if n := strings.Count(string(before[api].ChainPEM()), "BEGIN"); n < 2 {
		t.Errorf("the chain of a secondary's leaf has %d certificates", n)
	}

	t.Run("rotation", func(t *testing.T) { // Agents spread the new leaves over 30 s (Consul's caChangeJitterWindow).
		done := shaking(t, web, api)
		began := time.Now()
		rotate(t, agents[0], 384)
		for f, old := range before {
			now := f.until(t, "no new leaf", func(i *identity.Identity, err error) bool {
				return err == nil && i.Leaf().SerialNumber.Cmp(old.Leaf().SerialNumber) != 0 &&
					strings.Count(string(i.RootsPEM()), "BEGIN") == 2
			})
			t.Logf("after %s: %s", time.Since(began).Round(time.Millisecond), now)
			before[f] = now
		}
		t.Logf("%d handshakes, none failed", done())
	})
	t.Run("agent killed and started again", func(t *testing.T) {
		done := shaking(t, web, api)
		agents[1].Kill()
		api.until(t, "trouble is not told", func(_ *identity.Identity, err error) bool { return errors.Is(err, consul.ErrUnavailable) })
		if api.Current() != before[api] {
			t.Error("the last good leaf did not stay")
		}
		if err := agents[1].Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		api.until(t, "no new leaf", func(i *identity.Identity, err error) bool { return err == nil && i != before[api] })
		t.Logf("%d handshakes, none failed", done())
	})
}

// An agent that forgets everything is another CA, and followed to it.
func TestLeafOfAnAgentThatForgets(t *testing.T) {
	t.Parallel()
	agent := agenttest.Start(t, devagent.Config{})
	client := opened(t, agent, "")
	web, wrong := followLeaves(t, client, named("web", "dc1")), followLeaves(t, client, named("web", "dc9"))
	old := web.first(t)
	wrong.until(t, "a leaf of another datacenter", func(i *identity.Identity, err error) bool {
		return i == nil && errors.Is(err, identity.ErrWrongName)
	})
	if err := agent.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	web.until(t, "no new leaf", func(i *identity.Identity, err error) bool { return err == nil && i.URI().Host != old.URI().Host })
}

// Whose token may not write the service gets no leaf, and is told which right is
// missing; once it has the right, the leaf comes.
func TestLeafNeedsServiceWrite(t *testing.T) {
	t.Parallel()
	agent := agenttest.Start(t, devagent.Config{ACL: devagent.NewACL()})
	policy := map[string]any{"Name": "web", "Rules": `service "web" { policy = "read" }`}
	var made struct{ ID, SecretID string }
	call(t, agent, http.MethodPut, "/v1/acl/policy", policy, &made)
	id := made.ID
	call(t, agent, http.MethodPut, "/v1/acl/token", map[string]any{"Policies": []any{map[string]any{"ID": id}}}, &made)

	for what, token := range map[string]string{"anonymous": "", "unknown": "11111111-2222-3333-4444-555555555555", "reads": made.SecretID} {
		f := followLeaves(t, opened(t, agent, token), named("web", "dc1"))
		f.until(t, what, func(i *identity.Identity, err error) bool {
			return i == nil && errors.Is(err, consul.ErrDenied) && strings.Contains(err.Error(), `service:write on "web"`) &&
				(token == "" || !strings.Contains(err.Error(), token))
		})
	}
	web := followLeaves(t, opened(t, agent, made.SecretID), named("web", "dc1"))
	web.until(t, "no trouble", func(_ *identity.Identity, err error) bool { return errors.Is(err, consul.ErrDenied) })
	policy["ID"], policy["Rules"] = id, `service "web" { policy = "write" }`
	call(t, agent, http.MethodPut, "/v1/acl/policy/"+id, policy, nil)
	web.first(t)
}

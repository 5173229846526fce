package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul"
)

// proxyAgent is a Consul agent that knows some proxies.
type proxyAgent struct {
	sidecars map[string]string
	services map[string]consul.LocalService
	self     consul.Self
	selfErr  error
	// away is how often it does not answer yet.
	away int
}

func (a *proxyAgent) SidecarFor(_ context.Context, id string) (string, error) {
	if a.away > 0 {
		a.away--
		return "", fmt.Errorf("the test: %w", consul.ErrUnavailable)
	}
	switch found := a.sidecars[id]; {
	case found == "":
		return "", fmt.Errorf("sidecar of %s: %w", id, consul.ErrNotFound)
	case strings.Contains(found, ","):
		return "", fmt.Errorf("sidecar of %s: %w: %s", id, consul.ErrSeveralProxies, found)
	default:
		return found, nil
	}
}

func (a *proxyAgent) LocalService(_ context.Context, id, _ string, _ time.Duration) (consul.LocalService, error) {
	if s, ok := a.services[id]; ok {
		return s, nil
	}
	return consul.LocalService{}, fmt.Errorf("service %s: %w", id, consul.ErrNotFound)
}

func (a *proxyAgent) Self(context.Context) (consul.Self, error) { return a.self, a.selfErr }

func newProxyAgent() *proxyAgent {
	return &proxyAgent{
		sidecars: map[string]string{"web-1": "proxy-of-web", "api": "a, b"},
		services: map[string]consul.LocalService{
			"proxy-of-web": {ID: "proxy-of-web", Name: "web-sidecar-proxy", Kind: "connect-proxy", Destination: "web", Datacenter: "dc1", Config: map[string]any{"protocol": "http"}},
			"mg":           {ID: "mg", Name: "mesh-gateway", Kind: "mesh-gateway", Datacenter: "dc1"},
			"web-1":        {ID: "web-1", Name: "web", Datacenter: "dc1"},
			"tg":           {ID: "tg", Name: "tg", Kind: "terminating-gateway", Datacenter: "dc1"},
			"old":          {ID: "old", Name: "old", Kind: "mesh-gateway"},
		},
		self: consul.Self{NodeName: "n1", Datacenter: "dc1"},
	}
}

// Which proxy it is, and whose certificate it has, is what the agent has registered.
func TestProxyByAgent(t *testing.T) {
	denied := fmt.Errorf("self: %w", consul.ErrDenied)
	for name, c := range map[string]struct {
		flags proxyFlags
		self  error
		// want is "NODE/ID of SERVICE@DATACENTER"; a line without @ is in the error or its
		// next step.
		want string
	}{
		"a sidecar by its service":    {proxyFlags{sidecarFor: "web-1"}, nil, "n1/proxy-of-web of web@dc1"},
		"a sidecar by its own ID":     {proxyFlags{id: "proxy-of-web"}, nil, "n1/proxy-of-web of web@dc1"},
		"one of several":              {proxyFlags{sidecarFor: "api", id: "proxy-of-web"}, nil, "n1/proxy-of-web of web@dc1"},
		"a gateway":                   {proxyFlags{gateway: "mg", node: "N1"}, nil, "n1/mg of mesh-gateway@dc1"},
		"no right to know the node":   {proxyFlags{gateway: "mg"}, denied, "/mg of mesh-gateway@dc1"},
		"an agent of old":             {proxyFlags{gateway: "old"}, nil, "n1/old of old@dc1"},
		"nor which datacenter":        {proxyFlags{gateway: "old"}, denied, "give --datacenter, or a token with agent:read"},
		"several":                     {proxyFlags{sidecarFor: "api"}, nil, "a, b"},
		"several, and what to do":     {proxyFlags{sidecarFor: "api"}, nil, "with --proxy-id"},
		"none":                        {proxyFlags{sidecarFor: "db"}, nil, "register its sidecar"},
		"a kind instead of an ID":     {proxyFlags{gateway: "mesh"}, nil, `as Consul's "-gateway=mesh" is`},
		"a service":                   {proxyFlags{id: "web-1"}, nil, "not that of a sidecar or of a mesh gateway, but of the service web"},
		"another gateway":             {proxyFlags{id: "tg"}, nil, "but of the terminating-gateway tg"},
		"an agent of another node":    {proxyFlags{gateway: "mg", node: "n2"}, nil, "--node-name is n2, and the agent is that of n1"},
		"an agent that does not know": {proxyFlags{gateway: "mg"}, consul.ErrUnavailable, "no answer from Consul"},
	} {
		agent := newProxyAgent()
		agent.selfErr = c.self
		p, err := c.flags.byAgent(t.Context(), agent)
		if got := fmt.Sprintf("%s/%s of %s", p.node, p.id, p.name()); err == nil && got != c.want {
			t.Errorf("%s: %s", name, got)
		}
		if err != nil && !strings.Contains(err.Error()+" next: "+nextStep(err), c.want) {
			t.Errorf("%s: %v, next: %s", name, err, nextStep(err))
		}
	}
}

// What flags say is not asked for, and what they leave open is.
func TestProxyByFlagsAndAgent(t *testing.T) {
	nobody := &proxyAgent{self: consul.Self{NodeName: "n1", Datacenter: "dc9"}}
	p, err := (&leafFlags{service: "web", datacenter: "dc2"}).askOnce(t.Context(), proxyFlags{sidecarFor: "web"}, nobody)
	if err != nil || p.id != "web-sidecar-proxy" || p.name().String() != "web@dc2" {
		t.Errorf("by flags alone: %v, %v", p, err)
	}
	p, err = (&leafFlags{service: "web"}).askOnce(t.Context(), proxyFlags{sidecarFor: "web"}, nobody)
	if err != nil || p.name().String() != "web@dc9" {
		t.Errorf("the agent's datacenter: %v, %v", p, err)
	}
	p, err = (&leafFlags{datacenter: "dc2"}).askOnce(t.Context(), proxyFlags{sidecarFor: "web-1"}, newProxyAgent())
	if err != nil || p.name().String() != "web@dc2" || p.config["protocol"] != "http" {
		t.Errorf("another datacenter: %v, %v", p, err)
	}
}

// An agent that does not answer is waited for, which is said once; other trouble is not.
func TestAnAgentIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		a := newApp(nil, nil, nil)
		a.logger = slog.New(slog.NewTextHandler(&said, nil))
		agent := newProxyAgent()
		agent.away = 3
		var leaf leafFlags
		ask := func(id string) (envoyProxy, error) {
			return leaf.retry(t.Context(), a, func(ctx context.Context) (envoyProxy, error) {
				return leaf.askOnce(ctx, proxyFlags{sidecarFor: id}, agent)
			})
		}
		if p, err := ask("web-1"); err != nil || p.service != "web" {
			t.Errorf("%v, %v", p, err)
		}
		if n := strings.Count(said.String(), "waiting for the Consul agent"); n != 1 {
			t.Errorf("it is said %d times: %s", n, said.String())
		}
		if _, err := ask("api"); !errors.Is(err, consul.ErrSeveralProxies) {
			t.Errorf("several: %v", err)
		}
	})
}

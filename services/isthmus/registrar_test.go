package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul"
)

// fakeAgent is an agent with one service.
type fakeAgent struct {
	mu      sync.Mutex
	service *consul.LocalService
	changed chan struct{}
	// refusal answers registrations, away everything, hidden agent/self.
	refusal, away, hidden error
	registered            int
	// slow is how long a registration takes, fails whether its checks are critical.
	slow  time.Duration
	fails bool
	// datacenter is the agent's; empty: it does not say.
	datacenter string
}

func newFakeAgent() *fakeAgent { return &fakeAgent{changed: make(chan struct{})} }

// change changes the agent, and wakes who waits.
func (f *fakeAgent) change(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeAgent) RegisterGateway(ctx context.Context, r consul.GatewayRegistration) error {
	select {
	case <-time.After(f.slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	f.mu.Lock()
	refusal := errors.Join(f.away, f.refusal)
	f.mu.Unlock()
	if refusal != nil {
		return refusal
	}
	f.change(func() {
		f.registered++
		f.service = &consul.LocalService{ID: r.ID, Name: r.Name, Kind: "mesh-gateway", Address: r.LAN, Datacenter: f.datacenter, Hash: fmt.Sprint("h", f.registered)}
	})
	return nil
}

// times is how often the gateway was registered.
func (f *fakeAgent) times() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.registered
}

func (f *fakeAgent) LocalFails(context.Context, string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fails, nil
}

func (f *fakeAgent) Deregister(context.Context, string) error {
	f.change(func() { f.service = nil })
	return nil
}

func (f *fakeAgent) LocalService(ctx context.Context, id, hash string, wait time.Duration) (consul.LocalService, error) {
	deadline := time.After(wait)
	for {
		f.mu.Lock()
		away, service, changed := f.away, f.service, f.changed
		f.mu.Unlock()
		switch {
		case away != nil:
			return consul.LocalService{}, away
		case service == nil:
			return consul.LocalService{}, fmt.Errorf("%s: %w", id, consul.ErrNotFound)
		case hash != service.Hash:
			return *service, nil
		}
		select {
		case <-changed:
		case <-deadline:
			return *service, nil
		case <-ctx.Done():
			return consul.LocalService{}, ctx.Err()
		}
	}
}

func (f *fakeAgent) Self(context.Context) (consul.Self, error) {
	if f.hidden != nil {
		return consul.Self{}, f.hidden
	}
	return consul.Self{NodeName: "n1", Datacenter: f.datacenter}, nil
}

// keeping runs a registrar in a bubble, and returns where its nodes and its end
// are heard.
func keeping(t *testing.T, r *registrar) (nodes *[]string, stop func() error) {
	t.Helper()
	r.registration = consul.GatewayRegistration{ID: "mg", Name: "edge"}
	r.logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	nodes = new([]string)
	go func() { ended <- r.Keep(ctx, func(node string) { *nodes = append(*nodes, node) }) }()
	synctest.Wait()
	return nodes, func() error {
		cancel()
		return <-ended
	}
}

func TestRegistrarKeepsTheRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := newFakeAgent()
		r := &registrar{agent: agent}
		nodes, stop := keeping(t, r)
		if agent.registered != 1 || strings.Join(*nodes, ",") != "n1" || r.Trouble() != "" {
			t.Errorf("registered %d times on %v: %s", agent.registered, *nodes, r.Trouble())
		}
		// Lost.
		agent.change(func() { agent.service = nil })
		synctest.Wait()
		if agent.registered != 2 {
			t.Errorf("registered %d times after it was lost", agent.registered)
		}
		// Away, and back with nothing.
		agent.change(func() { agent.away, agent.service = consul.ErrUnavailable, nil })
		pass(5 * time.Second)
		if !strings.Contains(r.Trouble(), "no answer") {
			t.Errorf("away: %q", r.Trouble())
		}
		agent.change(func() { agent.away = nil })
		pass(2 * time.Second)
		if agent.registered != 3 || r.Trouble() != "" {
			t.Errorf("registered %d times after the agent was away: %q", agent.registered, r.Trouble())
		}
		// A right that is taken away ends nothing.
		agent.change(func() { agent.refusal, agent.service = consul.ErrDenied, nil })
		pass(5 * time.Second)
		if !strings.Contains(r.Trouble(), `needs service:write on "edge"`) {
			t.Errorf("denied: %q", r.Trouble())
		}
		agent.change(func() { agent.refusal = nil })
		pass(2 * time.Second)
		// A change by somebody else is let be.
		agent.change(func() { agent.service.Hash = "other" })
		pass(time.Hour)
		if agent.registered != 4 {
			t.Errorf("registered %d times in the end", agent.registered)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if err := r.Withdraw(t.Context()); err != nil || agent.service != nil {
			t.Errorf("withdrawn with %v, the agent has %v", err, agent.service)
		}
	})
}

// A gateway that is told to stop while it registers leaves nothing behind.
func TestRegistrarStoppedWhileItRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := newFakeAgent()
		agent.slow = time.Second
		r := &registrar{agent: agent}
		_, stop := keeping(t, r)
		if err := stop(); err != nil || agent.registered != 1 {
			t.Errorf("error %v, registered %d times", err, agent.registered)
		}
		if err := r.Withdraw(t.Context()); err != nil || agent.service != nil {
			t.Errorf("withdrawn with %v, the agent has %v", err, agent.service)
		}
	})
}

// A gateway in whose place another one was registered says so and lets it be, until
// that one has failed its checks for a while.
func TestRegistrarReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := newFakeAgent()
		r := &registrar{agent: agent}
		_, stop := keeping(t, r)
		other := &consul.LocalService{ID: "mg", Kind: "mesh-gateway", Hash: "other", Address: consul.HostPort{Host: "10.0.0.9", Port: 8443}}
		agent.change(func() { agent.service = other })
		synctest.Wait()
		if !strings.Contains(r.Trouble(), "mg is at 10.0.0.9:8443 now") {
			t.Errorf("trouble %q", r.Trouble())
		}
		agent.change(func() { agent.away = consul.ErrUnavailable })
		pass(time.Minute)
		agent.change(func() { agent.away = nil })
		pass(time.Hour)
		if agent.times() != 1 {
			t.Errorf("registered %d times while the other one is well", agent.times())
		}
		agent.change(func() { agent.fails = true })
		pass(watchAgent / 2)
		if agent.times() != 1 {
			t.Error("taken back at once")
		}
		pass(2 * watchAgent)
		if agent.times() != 2 || r.Trouble() != "" {
			t.Errorf("registered %d times after the other one failed: %q", agent.times(), r.Trouble())
		}
		agent.change(func() { agent.service, agent.fails = other, false })
		pass(time.Minute)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if err := r.Withdraw(t.Context()); err != nil || agent.service != other {
			t.Errorf("withdrawn with %v, the agent has %v", err, agent.service)
		}
	})
}

func TestRegistrarRefusals(t *testing.T) {
	other := &consul.LocalService{ID: "mg", Name: "web", Kind: "connect-proxy", Hash: "h"}
	cases := []struct {
		name    string
		agent   *fakeAgent
		node    string
		want    string // empty: it is registered
		wantsAs string
	}{
		{name: "another kind", agent: &fakeAgent{service: other}, want: "mg is a connect-proxy named web"},
		{name: "no right", agent: &fakeAgent{refusal: consul.ErrDenied}, want: `the token may not register the gateway: it needs service:write on "edge"`},
		{name: "another node", agent: newFakeAgent(), node: "n2", want: "--proxy-id names the node n2, and the agent is that of n1"},
		{name: "a gateway of an earlier start", agent: &fakeAgent{service: &consul.LocalService{ID: "mg", Kind: "mesh-gateway", Hash: "old"}}, wantsAs: "n1"},
		{name: "the node cannot be read", agent: &fakeAgent{hidden: consul.ErrDenied}, node: "n2", wantsAs: "n2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.agent.changed = make(chan struct{})
				r := &registrar{agent: c.agent, node: c.node}
				nodes, stop := keeping(t, r)
				err := stop()
				if c.want == "" && (err != nil || c.agent.registered != 1 || strings.Join(*nodes, ",") != c.wantsAs) {
					t.Errorf("registered %d times on %v: %v", c.agent.registered, *nodes, err)
				}
				if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("got %v, want %s", err, c.want)
				}
				// What was not registered here is nobody's to take back.
				before := c.agent.service
				if err := r.Withdraw(t.Context()); err != nil || c.want != "" && c.agent.service != before {
					t.Errorf("withdrawn with %v", err)
				}
			})
		})
	}
}

// pass lets time go by, and what is due be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// An agent of another datacenter is refused, with what to give instead, and nothing
// there is replaced or left behind; also where agent/self is not readable.
func TestRegistrarWantsAnAgentOfItsDatacenter(t *testing.T) {
	for name, prepare := range map[string]func(*fakeAgent){
		"it says so": func(*fakeAgent) {},
		"a service says so": func(f *fakeAgent) {
			f.hidden = consul.ErrDenied
			f.service = &consul.LocalService{ID: "mg", Kind: "mesh-gateway", Datacenter: "dc2", Hash: "h"}
		},
		"only the registered gateway says so": func(f *fakeAgent) { f.hidden = consul.ErrDenied },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				agent := newFakeAgent()
				agent.datacenter = "dc2"
				prepare(agent)
				before := agent.service
				_, stop := keeping(t, &registrar{agent: agent, datacenter: "dc1"})
				if err := stop(); !errors.Is(err, errOtherDatacenter) || !strings.Contains(err.Error(), "--datacenter dc2") {
					t.Errorf("error %v", err)
				}
				if agent.service != before {
					t.Errorf("the agent has %+v", agent.service)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		agent := newFakeAgent()
		agent.datacenter = "DC1" // Consul takes names in any case.
		_, stop := keeping(t, &registrar{agent: agent, datacenter: "dc1"})
		if err := stop(); err != nil || agent.registered != 1 {
			t.Errorf("error %v, registered %d times", err, agent.registered)
		}
	})
}

package consul_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// registered is what the catalog has of one service: all of it but its identity,
// its indexes and the state of its checks.
func registered(t *testing.T, agent *devagent.Agent, id string) any {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, agent.HTTP+"/v1/agent/health/service/id/"+id, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := new(http.Client).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Service map[string]any
		Checks  []map[string]any
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	delete(out.Service, "ID")
	delete(out.Service, "ContentHash")
	for _, c := range out.Checks {
		for _, key := range []string{"CheckID", "ServiceID", "Status", "Output"} {
			delete(c, key)
		}
	}
	return out
}

// TestRegisterAsConsulDoes registers gateways by Consul's own command and by
// ours, and compares what the agent has of them.
func TestRegisterAsConsulDoes(t *testing.T) {
	agent := agenttest.Start(t, devagent.Config{})
	client, err := consul.Open(consul.Options{Address: agent.HTTP, Environment: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		flags []string
		ours  consul.GatewayRegistration
	}{
		{"tagged", []string{"-address", "127.0.0.1:8443", "-wan-address", "127.0.0.1:8444"}, consul.GatewayRegistration{
			LAN: consul.HostPort{Host: "127.0.0.1", Port: 8443}, WAN: consul.HostPort{Host: "127.0.0.1", Port: 8444}, BindTagged: true,
		}},
		{
			"binds",
			[]string{"-address", "198.51.100.1:443", "-wan-address", "gw.example.com:443", "-bind-address", "a=127.0.0.1:1", "-bind-address", "b=127.0.0.2:2"},
			consul.GatewayRegistration{
				LAN: consul.HostPort{Host: "198.51.100.1", Port: 443}, WAN: consul.HostPort{Host: "gw.example.com", Port: 443},
				Binds: map[string]netip.AddrPort{"a": netip.MustParseAddrPort("127.0.0.1:1"), "b": netip.MustParseAddrPort("127.0.0.2:2")},
			},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			theirs := exec.CommandContext(t.Context(), agenttest.Need(t), append([]string{
				"connect", "envoy", "-gateway=mesh", "-register", "-service", "edge", "-proxy-id", "theirs-" + c.name, "-bootstrap",
				"-http-addr", agent.HTTP, "-grpc-addr", agent.GRPC, "-ignore-envoy-compatibility",
			}, c.flags...)...)
			if out, err := theirs.CombinedOutput(); err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			c.ours.ID, c.ours.Name = "ours-"+c.name, "edge"
			if err := client.RegisterGateway(t.Context(), c.ours); err != nil {
				t.Fatal(err)
			}
			t.Logf("%v", registered(t, agent, "ours-"+c.name))
			if diff := cmp.Diff(registered(t, agent, "theirs-"+c.name), registered(t, agent, "ours-"+c.name)); diff != "" {
				t.Errorf("(-Consul's command +ours):\n%s", diff)
			}
		})
	}
}

// TestLocalService follows a registration by its hash, to its end.
func TestLocalService(t *testing.T) {
	agent := agenttest.Start(t, devagent.Config{})
	client, err := consul.Open(consul.Options{Address: agent.HTTP, Environment: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := client.LocalService(ctx, "mg", "", 0); !errors.Is(err, consul.ErrNotFound) {
		t.Errorf("unregistered: %v", err)
	}
	if err := client.Deregister(ctx, "mg"); !errors.Is(err, consul.ErrNotFound) {
		t.Errorf("deregistered though not there: %v", err)
	}
	g := consul.GatewayRegistration{ID: "mg", Name: "edge", LAN: consul.HostPort{Host: "127.0.0.1", Port: 8443}}
	if err := client.RegisterGateway(ctx, g); err != nil {
		t.Fatal(err)
	}
	first, err := client.LocalService(ctx, "mg", "", 0)
	if err != nil || first.Kind != "mesh-gateway" || first.Name != "edge" || first.Hash == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	// The wait ends with the same hash, then with a change, then with the end.
	if again, err := client.LocalService(ctx, "mg", first.Hash, time.Millisecond); err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("%+v, %v", again, err)
	}
	type answer struct {
		service consul.LocalService
		err     error
	}
	wait := func(hash string) <-chan answer {
		out := make(chan answer, 1)
		go func() {
			s, err := client.LocalService(ctx, "mg", hash, time.Minute)
			out <- answer{s, err}
		}()
		return out
	}
	changed := wait(first.Hash)
	g.LAN.Port++
	if err := client.RegisterGateway(ctx, g); err != nil {
		t.Fatal(err)
	}
	second := <-changed
	if second.err != nil || second.service.Hash == first.Hash {
		t.Fatalf("%+v", second)
	}
	gone := wait(second.service.Hash)
	if err := client.Deregister(ctx, "mg"); err != nil {
		t.Fatal(err)
	}
	if last := <-gone; !errors.Is(last.err, consul.ErrNotFound) {
		t.Errorf("%+v", last)
	}
}

// A gateway that is starting fails its check until it listens; one that serves does not.
func TestAGatewayThatStarts(t *testing.T) {
	agent := agenttest.Start(t, devagent.Config{})
	client, err := consul.Open(consul.Options{Address: agent.HTTP, Environment: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	r := consul.GatewayRegistration{Name: "mesh-gateway", LAN: consul.HostPort{Host: "127.0.0.1", Port: 1}}
	for id, starting := range map[string]bool{"a": true, "b": false} {
		r.ID, r.Starting = id, starting
		if err := client.RegisterGateway(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if fails, err := client.LocalFails(t.Context(), id); err != nil || fails != starting {
			t.Errorf("starting is %v, and it fails is %v, %v", starting, fails, err)
		}
	}
}

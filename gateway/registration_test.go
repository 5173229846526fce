package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/freeport"
	"github.com/isthmus-mesh/isthmus/gateway"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// registration is that of the gateway n1/mg with these binds.
func registration(addresses ...string) value {
	p := &isthmusv1.ProxyRoutes{Node: "n1", Id: "mg", Kind: isthmusv1.InstanceKindMeshGateway, Gateway: new(isthmusv1.GatewaySettings)}
	for i, a := range addresses {
		host, port, _ := net.SplitHostPort(a)
		var n uint32
		_, _ = fmt.Sscan(port, &n)
		p.Gateway.Binds = append(p.Gateway.Binds, &isthmusv1.GatewayBind{Name: fmt.Sprint(i), Address: host, Port: n})
	}
	return value{isthmusv1.ProxyKey("", "n1", "", "mg"), p}
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	return freeport.Hold(t).String()
}

// awaitListeners waits until a gateway reports these addresses.
func awaitListeners(t *testing.T, r *routes, addresses ...string) *isthmusv1.GatewayStatus {
	t.Helper()
	return awaitStatus(t, r.log, func(g *isthmusv1.GatewayStatus) bool { return slices.Equal(g.GetListenAddresses(), addresses) })
}

func TestListenersFollowTheRegistration(t *testing.T) {
	r := newRoutes(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	g := run(t, gateway.Config{Log: r.log, Proxy: "mg", Listen: []string{}})
	awaitStatus(t, r.log, func(s *isthmusv1.GatewayStatus) bool {
		return len(s.GetProblems()) == 1 && s.GetProblems()[0].GetCode() == gateway.CodeNoRegistration
	})
	if g.State() != gateway.StateStarting || !strings.Contains(g.Waiting(), "no gateway mg is registered") {
		t.Errorf("it is %s, waiting for %s", g.State(), g.Waiting())
	}
	one, two := free(t), free(t)
	r.publish(t, registration(one))
	if s := awaitListeners(t, r, one); s.GetProxy() != "n1/mg" {
		t.Errorf("it reports %v", s)
	}
	mustAsk(t, g, "one")
	before := halfAsk(t, g)

	r.publish(t, registration(two))
	awaitListeners(t, r, two)
	mustAsk(t, g, "one")
	if _, err := net.Dial("tcp", one); err == nil {
		t.Error("the address that is gone is still listened on")
	}

	// Last good: without a registration, or with one that is nowhere, it goes on.
	r.publish(t, value{key: registration().key})
	awaitStatus(t, r.log, func(s *isthmusv1.GatewayStatus) bool {
		return len(s.GetProblems()) == 1 && strings.Contains(s.GetProblems()[0].GetText(), "it goes on by its last registration")
	})
	mustAsk(t, g, "one")
	r.publish(t, registration())
	r.publish(t, registration(two, one))
	awaitListeners(t, r, two, one)
	if got := before(); got != "one" {
		t.Errorf("the connection from before all changes is answered %q", got)
	}
}

func TestAnAddressThatIsTakenIsTriedAgain(t *testing.T) {
	r := newRoutes(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, other := taken.Addr().String(), free(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName(), registration(address, other))
	g := run(t, gateway.Config{Log: r.log, Proxy: "n1/mg", Listen: []string{}})
	s := awaitListeners(t, r, other)
	if len(s.GetProblems()) != 1 || s.GetProblems()[0].GetCode() != gateway.CodeBadListener {
		t.Errorf("it reports %v", s.GetProblems())
	}
	mustAsk(t, g, "one")
	_ = taken.Close()
	if s := awaitListeners(t, r, other, address); len(s.GetProblems()) != 0 {
		t.Errorf("it reports %v", s.GetProblems())
	}
}

// A port that moves from one address to all of them is free only when the first
// is closed.
func TestAPortMovesToAllAddresses(t *testing.T) {
	r := newRoutes(t)
	one := free(t)
	_, port, _ := net.SplitHostPort(one)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName(), registration(one))
	g := run(t, gateway.Config{Log: r.log, Proxy: "mg", Listen: []string{}})
	awaitListeners(t, r, one)
	before := halfAsk(t, g)
	r.publish(t, registration("0.0.0.0:"+port))
	awaitListeners(t, r, "0.0.0.0:"+port)
	if got := before(); got != "one" {
		t.Errorf("the connection from before is answered %q", got)
	}
}

func TestASavedRegistrationIsEnough(t *testing.T) {
	r, dir, one := newRoutes(t), t.TempDir(), free(t)
	sequence := r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName(), registration(one))
	first := run(t, gateway.Config{Log: r.log, Proxy: "mg", Listen: []string{}, StateDir: dir})
	awaitApplied(t, r.log, sequence)
	awaitListeners(t, r, one)
	first.stop()
	<-first.ended
	// A log without the stream: the bus has nothing to say yet.
	empty := &routes{log: newRoutes(t).log}
	second := run(t, gateway.Config{Log: empty.log, Proxy: "mg", Listen: []string{}, StateDir: dir})
	awaitListeners(t, empty, one)
	mustAsk(t, second, "one")
	if second.State() != gateway.StateSaved {
		t.Errorf("it is %s", second.State())
	}
}

// registrar writes down what is asked of it.
type registrar struct {
	mu      sync.Mutex
	asked   []string
	kept    chan struct{}
	failure error
	// seen is called at each step.
	seen func()
}

func (r *registrar) note(what string) {
	r.mu.Lock()
	r.asked = append(r.asked, what)
	r.mu.Unlock()
	if r.seen != nil {
		r.seen()
	}
}

func (r *registrar) Keep(ctx context.Context, registered func(string)) error {
	r.note("keep")
	if r.failure != nil {
		return r.failure
	}
	registered("n1")
	close(r.kept)
	<-ctx.Done()
	return nil
}

func (r *registrar) Withdraw(context.Context) error { r.note("withdraw"); return nil }
func (r *registrar) Trouble() string                { return "" }

// It is registered once it serves, and not any more before its listeners close.
func TestRegisteredWhileItServes(t *testing.T) {
	r := newRoutes(t)
	register := &registrar{kept: make(chan struct{})}
	g := run(t, gateway.Config{Log: r.log, Registrar: register, Proxy: "mg"})
	register.seen = func() { mustAsk(t, g, "one") }
	// Another node has a gateway of this ID: it is the registrar that knows.
	other := &isthmusv1.ProxyRoutes{Node: "n2", Id: "mg", Kind: isthmusv1.InstanceKindMeshGateway}
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName(), registration(), value{isthmusv1.ProxyKey("", "n2", "", "mg"), other})
	<-register.kept
	awaitStatus(t, r.log, func(s *isthmusv1.GatewayStatus) bool { return s.GetProxy() == "n1/mg" })
	g.stop()
	if err := <-g.ended; err != nil {
		t.Error(err)
	}
	if got := strings.Join(register.asked, " "); got != "keep withdraw" {
		t.Errorf("it was asked to %s", got)
	}
}

func TestNotRegisteredBeforeThereIsATable(t *testing.T) {
	register := &registrar{kept: make(chan struct{})}
	g := run(t, gateway.Config{Log: newRoutes(t).log, Registrar: register})
	g.stop()
	<-g.ended
	if len(register.asked) > 0 {
		t.Errorf("it was asked to %v", register.asked)
	}
}

func TestARegistrationThatCannotBeMadeEndsTheStart(t *testing.T) {
	r := newRoutes(t)
	failure := errors.New("refused by the test")
	g := run(t, gateway.Config{Log: r.log, Registrar: &registrar{failure: failure}})
	r.publish(t, apiName())
	if err := <-g.ended; !errors.Is(err, failure) {
		t.Errorf("it ended with %v", err)
	}
}

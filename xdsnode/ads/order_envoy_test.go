package ads_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// backend is an instance of a service, that answers whoever the roots vouch for; its
// endpoint set leads to it.
func backend(t *testing.T, ca *identity.DevCA, service string) values {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It blocks on nothing.
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, service) })} //nolint:gosec // Its clients are the test's.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(tls.NewListener(listener, holding(issue(t, ca, service, "dc1")).ServerConfig(identity.Parameters{}))) // It is closed below.
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return values{ref(service).ID().Key(0): &isthmusv1.EndpointSet{Ref: ref(service), Chunks: 1, Endpoints: []*isthmusv1.Endpoint{{
		Address: "127.0.0.1", Port: uint32(listener.Addr().(*net.TCPAddr).Port), Health: isthmusv1.Health_HEALTH_HEALTHY, Weight: 1, //nolint:gosec // It is a port.
	}}}}
}

// callerOf is a sidecar with one upstream of requests, at a port.
func callerOf(port uint32) values {
	out := proxyOf("n1", "edge", isthmusv1.InstanceKindProxy, "edge")
	for _, v := range out {
		p := v.(*isthmusv1.ProxyRoutes)
		p.Address, p.Port, p.RoutesetHash, p.Local = "127.0.0.1", 1, "h", &isthmusv1.Local{Protocol: "tcp"}
		p.Binds = []*isthmusv1.Bind{{Route: "up", Address: "127.0.0.1", Port: port}}
	}
	return out
}

// leading is the upstream's route to services, to each as much.
func leading(services ...string) values {
	edge := &isthmusv1.ServiceRef{Name: "edge"}
	route := &isthmusv1.Route{Id: "up", Destination: &isthmusv1.ServiceRef{Name: "up"}, Datacenter: "dc1", Protocol: "http", Chain: &isthmusv1.Chain{Start: "splitter:up"}}
	splitter := &isthmusv1.ChainSplitter{}
	for _, s := range services {
		service := &isthmusv1.ServiceRef{Name: s}
		route.Targets = append(route.Targets, &isthmusv1.Target{
			Id: s, Service: service, Datacenter: "dc1", Sni: s + ".default.dc1.internal." + testDomain,
			SpiffeIds: []string{isthmusv1.SPIFFEID(service, "dc1", testDomain)}, EndpointSets: []*isthmusv1.EndpointSetRef{ref(s)},
		})
		splitter.Splits = append(splitter.Splits, &isthmusv1.ChainSplit{Weight: 1, Next: "resolver:" + s})
		route.Chain.Nodes = append(route.Chain.Nodes, &isthmusv1.ChainNode{
			Name: "resolver:" + s, Node: &isthmusv1.ChainNode_Resolver{Resolver: &isthmusv1.ChainResolver{Target: s}},
		})
	}
	route.Chain.Nodes = append(route.Chain.Nodes, &isthmusv1.ChainNode{Name: "splitter:up", Node: &isthmusv1.ChainNode_Splitter{Splitter: splitter}})
	return values{isthmusv1.RouteSetKey(edge, "h"): &isthmusv1.RouteSet{Service: edge, Hash: "h", Routes: []*isthmusv1.Route{route}}}
}

// listening waits until somebody listens at an address.
func listening(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = c.Close()
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// load asks an address without a pause, and counts what is answered; what is not is an
// error of the test.
func load(t *testing.T, address string) *atomic.Int64 {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var answered atomic.Int64
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			by := &http.Transport{}
			defer by.CloseIdleConnections()
			for ctx.Err() == nil {
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address, nil)
				if err != nil {
					t.Error(err)
					return
				}
				response, err := by.RoundTrip(request)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				text, _ := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusOK && ctx.Err() == nil {
					t.Errorf("after %d requests: %s %s", answered.Load(), response.Status, text)
					return
				}
				answered.Add(1)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		clients.Wait()
	})
	return &answered
}

// Routes go from service to service under load, and no request fails: clusters come before
// the routes that lead to them, and go after. So it is by both protocols, also when the
// next change comes before the last was taken in.
func TestEnvoyOrder(t *testing.T) {
	for _, protocol := range []string{"DELTA_GRPC", "GRPC"} {
		t.Run(protocol, func(t *testing.T) {
			ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
			w := newWords()
			n, address, _ := secureNode(t, ca, w, 0)
			port, leaf := freePort(t), issue(t, ca, "edge", "dc1")
			n.change(all(callerOf(port), leading("a"), backend(t, ca, "a"), backend(t, ca, "b"), backend(t, ca, "c")))
			n.client = n.as(address.String(), grpc.WithTransportCredentials(showing(holding(leaf), "dc1")))
			whole := n.wholeVersion("edge", w)
			startEnvoyAs(t, "edge", protocol, address, leaf)
			w.until(t, "it has begun", func(s *isthmusv1.ProxyStatus, _ int) bool { return s.GetCurrent() && s.GetVersion() == whole })
			current := func(s *isthmusv1.ProxyStatus, _ int) bool { return s.GetCurrent() }
			listening(t, fmt.Sprintf("127.0.0.1:%d", port))
			answered := load(t, fmt.Sprintf("127.0.0.1:%d", port))
			ways := [][]string{{"b"}, {"a", "b"}, {"c"}, {"a"}, {"b", "c"}}
			for i := range 40 {
				n.change(leading(ways[i%len(ways)]...))
				if i%3 > 0 {
					w.until(t, "it has followed", current)
				}
			}
			w.until(t, "it has all", current)
			if answered.Load() == 0 {
				t.Error("nothing was asked")
			}
		})
	}
}

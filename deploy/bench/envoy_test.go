package main

import (
	"io"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// The envoy part fits together: each kind of change is acknowledged by both Envoys.
func TestEnvoy(t *testing.T) {
	agenttest.Need(t)
	t.Setenv("ISTHMUS_ENVOY", envoytest.Need(t))
	t.Chdir("../..") // The program is built from there.
	var out strings.Builder
	verdicts, err := envoyPlan{rounds: 2, gap: time.Millisecond}.measure(t.Context(), settings{required: true}, t.TempDir(), &out)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	if len(verdicts) != 2 {
		t.Errorf("verdicts: %+v", verdicts)
	}
}

// A change that is not acknowledged so much sooner than Consul's does not hold, and
// neither does none at all.
func TestEnvoyVerdicts(t *testing.T) {
	took := func(ms ...int) map[string][]time.Duration {
		var out []time.Duration
		for _, n := range ms {
			out = append(out, time.Duration(n)*time.Millisecond)
		}
		return map[string][]time.Duration{"register": out}
	}
	for name, test := range map[string]struct {
		consul, ours map[string][]time.Duration
		median, tail bool
	}{
		"both":      {took(200, 200, 210), took(10, 10, 30), true, true},
		"median":    {took(200, 200, 210), took(11, 11, 30), false, true},
		"tail":      {took(200, 200, 210), took(10, 10, 31), true, false},
		"unordered": {took(210, 200, 200), took(30, 10, 10), true, true},
		"nothing":   {took(), took(), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			verdicts := fullEnvoy.report(envoyResult{test.consul, test.ours}, io.Discard)
			if len(verdicts) != 2 || verdicts[0].ok != test.median || verdicts[1].ok != test.tail {
				t.Errorf("%+v", verdicts)
			}
		})
	}
}

// What an Envoy has is what it has acknowledged: neither what is on its way, nor what it
// refuses.
func TestBetween(t *testing.T) {
	b := &between{pending: map[string][]*endpointv3.ClusterLoadAssignment{}, has: map[string]map[string]core.HealthStatus{}}
	sent := func(nonce string, ports ...uint32) {
		a := &endpointv3.ClusterLoadAssignment{ClusterName: "api", Endpoints: []*endpointv3.LocalityLbEndpoints{{}}}
		for _, port := range ports {
			a.Endpoints[0].LbEndpoints = append(a.Endpoints[0].LbEndpoints, &endpointv3.LbEndpoint{
				HealthStatus: core.HealthStatus_HEALTHY,
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &core.Address{Address: &core.Address_SocketAddress{
					SocketAddress: &core.SocketAddress{Address: "10.0.0.1", PortSpecifier: &core.SocketAddress_PortValue{PortValue: port}},
				}}}},
			})
		}
		body, err := anypb.New(a)
		if err != nil {
			t.Fatal(err)
		}
		b.response(wire(t, &discovery.DeltaDiscoveryResponse{
			TypeUrl: string(xdsnode.Assignment), Nonce: nonce, Resources: []*discovery.Resource{{Name: "api", Resource: body}},
		}), time.Time{})
	}
	says := func(r *discovery.DeltaDiscoveryRequest, at time.Time) {
		r.TypeUrl = string(xdsnode.Assignment)
		b.request(wire(t, r), at)
	}
	waiting := b.await(func(of health) bool { h, there := of("10.0.0.1:2"); return there && h == core.HealthStatus_HEALTHY })
	acknowledged := time.Now()
	sent("a", 1)
	says(&discovery.DeltaDiscoveryRequest{ResponseNonce: "a"}, acknowledged.Add(-2))
	sent("b", 1, 2)
	says(&discovery.DeltaDiscoveryRequest{ResponseNonce: "b", ErrorDetail: &status.Status{Message: "no"}}, acknowledged.Add(-1))
	says(&discovery.DeltaDiscoveryRequest{ResponseNonce: "a"}, acknowledged.Add(-1))
	sent("c", 1, 2)
	select {
	case <-waiting.at:
		t.Fatal("it is on its way")
	default:
	}
	says(&discovery.DeltaDiscoveryRequest{ResponseNonce: "c"}, acknowledged)
	if at, err := waiting.wait(t.Context()); err != nil || !at.Equal(acknowledged) {
		t.Errorf("%v, %v; want %v", at, err, acknowledged)
	}
	if got := b.refusals(); len(got) != 1 || got[0] != "no" {
		t.Errorf("refused: %q", got)
	}
}

func wire(t *testing.T, m proto.Message) []byte {
	t.Helper()
	content, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

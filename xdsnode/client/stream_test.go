package client_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/xdsnode/client"
)

const (
	typePrefix     = "type.googleapis.com/"
	typeCluster    = typePrefix + "envoy.config.cluster.v3.Cluster"
	typeListener   = typePrefix + "envoy.config.listener.v3.Listener"
	typeAssignment = typePrefix + "envoy.config.endpoint.v3.ClusterLoadAssignment"
)

// server is a control plane that does as a test tells it.
type server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	t        *testing.T
	address  string
	requests chan *discovery.DeltaDiscoveryRequest
	answers  chan *discovery.DeltaDiscoveryResponse
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, requests: make(chan *discovery.DeltaDiscoveryRequest, 100), answers: make(chan *discovery.DeltaDiscoveryResponse)}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // A test.
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	g := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(listener)
	}()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
	return s
}

// DeltaAggregatedResources implements the service. A closed channel of answers
// ends the stream.
func (s *server) DeltaAggregatedResources(stream grpc.BidiStreamingServer[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]) error {
	go func() {
		for {
			request, err := stream.Recv()
			if err != nil {
				return
			}
			s.requests <- request
		}
	}()
	for {
		select {
		case answer, ok := <-s.answers:
			if !ok {
				return errors.New("the server has had enough")
			}
			if err := stream.Send(answer); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

// request is the next one.
func (s *server) request() *discovery.DeltaDiscoveryRequest {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	select {
	case request := <-s.requests:
		return request
	case <-ctx.Done():
		s.t.Fatal("no request came")
		return nil
	}
}

// answer sends resources, and returns the client's reply to it.
func (s *server) answer(url, nonce string, removed []string, resources ...*discovery.Resource) *discovery.DeltaDiscoveryRequest {
	s.t.Helper()
	s.answers <- &discovery.DeltaDiscoveryResponse{TypeUrl: url, Nonce: nonce, RemovedResources: removed, Resources: resources}
	reply := s.request()
	if reply.GetTypeUrl() != url || reply.GetResponseNonce() != nonce {
		s.t.Fatalf("the reply to %s %s is %v", url, nonce, reply)
	}
	return reply
}

// packed is a resource under a name.
func packed(t *testing.T, name string, m proto.Message) *discovery.Resource {
	t.Helper()
	value, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &discovery.Resource{Name: name, Version: "1", Resource: value}
}

func edsCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}}
}

func assignment(name string, addresses ...string) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{}}}
	for _, address := range addresses {
		at := &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
			Address: address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: 80},
		}}}
		out.Endpoints[0].LbEndpoints = append(out.Endpoints[0].LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: at}},
		})
	}
	return out
}

// begun is a client that has asked, and a server that was asked.
func begun(t *testing.T) (*server, *client.Client) {
	t.Helper()
	s := serve(t)
	c := follow(t, client.Config{Address: s.address, ID: "web-proxy", Node: "n1"})
	for i, url := range []string{typeCluster, typeListener} {
		first := s.request()
		if first.GetTypeUrl() != url || len(first.GetResourceNamesSubscribe()) != 0 {
			t.Errorf("request %d is %v", i, first)
		}
		if introduced := first.GetNode() != nil; introduced != (i == 0) {
			t.Errorf("request %d names the node: %v", i, introduced)
		}
		if i == 0 {
			got := first.GetNode().GetMetadata().AsMap()
			want := map[string]any{"namespace": "default", "partition": "default", "node_name": "n1"}
			if diff := cmp.Diff(want, got); diff != "" || first.GetNode().GetId() != "web-proxy" {
				t.Errorf("node %v; metadata (-want +got):\n%s", first.GetNode(), diff)
			}
		}
	}
	return s, c
}

// TestConversation: each answer is acknowledged, endpoints are asked for by the
// names that clusters give them, and left when those are gone.
func TestConversation(t *testing.T) {
	s, c := begun(t)
	if ack := s.answer(typeCluster, "1", nil, packed(t, "a", edsCluster("a")), packed(t, "b", edsCluster("b"))); ack.GetErrorDetail() != nil {
		t.Errorf("refused: %v", ack)
	}
	if got := s.request(); got.GetTypeUrl() != typeAssignment || !cmp.Equal(got.GetResourceNamesSubscribe(), []string{"a", "b"}) {
		t.Errorf("asked for %v", got)
	}
	s.answer(typeListener, "2", nil, packed(t, "l", &listenerv3.Listener{Name: "l"}))
	s.answer(typeAssignment, "3", nil, packed(t, "a", assignment("a", "10.0.0.2", "10.0.0.1")))
	got := await(t, c, "one is assigned", func(s *client.Snapshot) bool { return s.Answered() && len(s.Endpoints) == 1 })
	if got.Complete() || !cmp.Equal(got.Unassigned(), []string{"b"}) {
		t.Errorf("complete %v, without endpoints: %v", got.Complete(), got.Unassigned())
	}
	s.answer(typeAssignment, "4", nil, packed(t, "b", assignment("b")))
	got = await(t, c, "both are", (*client.Snapshot).Complete)
	want := map[string][]client.Endpoint{
		"a": {{Address: "10.0.0.1", Port: 80, Health: "UNKNOWN", Weight: 1}, {Address: "10.0.0.2", Port: 80, Health: "UNKNOWN", Weight: 1}},
		"b": nil,
	}
	if diff := cmp.Diff(want, got.Endpoints); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}

	s.answer(typeCluster, "5", []string{"a"})
	if got := s.request(); !cmp.Equal(got.GetResourceNamesUnsubscribe(), []string{"a"}) || len(got.GetResourceNamesSubscribe()) != 0 {
		t.Errorf("left %v", got)
	}
	got = await(t, c, "one is gone", func(s *client.Snapshot) bool { return len(s.Clusters) == 1 })
	if _, ok := got.Endpoints["a"]; ok {
		t.Errorf("endpoints without a cluster: %v", got.Endpoints)
	}
}

// TestAggregate: the members of an aggregate stand in their order, and it has no
// endpoints of its own to wait for.
func TestAggregate(t *testing.T) {
	s, c := begun(t)
	config, err := anypb.New(&aggregate.ClusterConfig{Clusters: []string{"b", "a"}})
	if err != nil {
		t.Fatal(err)
	}
	s.answer(typeCluster, "1", nil, packed(t, "both", &clusterv3.Cluster{
		Name: "both", ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{
			ClusterType: &clusterv3.Cluster_CustomClusterType{Name: "envoy.clusters.aggregate", TypedConfig: config},
		},
	}))
	s.answer(typeListener, "2", nil)
	got := await(t, c, "complete", (*client.Snapshot).Complete).Clusters["both"]
	if diff := cmp.Diff(client.Cluster{Name: "both", Type: "envoy.clusters.aggregate", Members: []string{"b", "a"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRefused: an answer that cannot be taken is refused as a whole with the
// reason, what was there stays, and the conversation goes on.
func TestRefused(t *testing.T) {
	garbage := &discovery.Resource{Name: "bad", Resource: &anypb.Any{TypeUrl: typeCluster, Value: []byte{0xff}}}
	badSet := &endpointv3.ClusterLoadAssignment{
		ClusterName: "a", Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{}}}},
	}
	for _, test := range []struct {
		name, url string
		resource  *discovery.Resource
		why       string
	}{
		{"bytes that are no message", typeCluster, garbage, "bad: proto:"},
		{"another type inside", typeCluster, packed(t, "bad", &listenerv3.Listener{Name: "bad"}), "envoy.config.listener.v3.Listener instead of"},
		{"another name inside", typeCluster, packed(t, "bad", edsCluster("good")), `calls itself "good"`},
		{"no name", typeCluster, packed(t, "", edsCluster("")), `calls itself ""`},
		{"nothing inside", typeCluster, &discovery.Resource{Name: "bad"}, "the resource is empty"},
		{"an endpoint without an address", typeAssignment, packed(t, "a", badSet), "an endpoint has no address"},
		{"a type that was not asked for", typePrefix + "x", packed(t, "bad", edsCluster("bad")), "were not asked for"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, c := begun(t)
			s.answer(typeCluster, "1", nil, packed(t, "a", edsCluster("a")))
			s.request() // for the endpoints of a
			nack := s.answer(test.url, "2", []string{"a"}, test.resource, packed(t, "b", edsCluster("b")))
			if nack.GetErrorDetail().GetCode() == 0 || !strings.Contains(nack.GetErrorDetail().GetMessage(), test.why) {
				t.Errorf("the reply is %v", nack)
			}
			got := await(t, c, "refused", func(s *client.Snapshot) bool { return len(s.Refused) == 1 })
			if r := got.Refused[0]; r.TypeURL != test.url || r.Nonce != "2" || !strings.Contains(r.Why, test.why) {
				t.Errorf("refused %+v", r)
			}
			if len(got.Clusters) != 1 || got.Clusters["a"].Name != "a" {
				t.Errorf("clusters %+v", got.Clusters)
			}
			if ack := s.answer(typeCluster, "3", nil, packed(t, "c", edsCluster("c"))); ack.GetErrorDetail() != nil {
				t.Errorf("refused: %v", ack)
			}
		})
	}
}

// TestEnded: who waits is told that the stream has ended, and why.
func TestEnded(t *testing.T) {
	s, c := begun(t)
	close(s.answers)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := c.Await(ctx, (*client.Snapshot).Complete)
	if !errors.Is(err, client.ErrEnded) || !strings.Contains(err.Error(), "had enough") {
		t.Errorf("error %v", err)
	}
}

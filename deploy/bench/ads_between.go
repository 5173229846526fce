package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// between stands between one Envoy and its server: it forwards each message as it is, and
// notes when the Envoy acknowledges which endpoints.
type between struct {
	listener net.Listener
	server   *grpc.Server
	behind   *grpc.ClientConn

	mu sync.Mutex // guards what follows
	// pending are the endpoints of responses that were not answered yet, by nonce.
	pending map[string][]*endpointv3.ClusterLoadAssignment
	// has is the health of each endpoint that the Envoy has, by assignment and address.
	has map[string]map[string]core.HealthStatus
	// sought is what somebody waits for; nil: nobody does.
	sought *awaited
	// refused is what the Envoy has refused.
	refused []string
}

// awaited is a state of the endpoints that somebody waits for.
type awaited struct {
	reached func(health func(address string) (core.HealthStatus, bool)) bool
	at      chan time.Time
}

// startBetween listens for an Envoy of the server at an address.
func startBetween(address string) (*between, error) {
	b := &between{pending: map[string][]*endpointv3.ClusterLoadAssignment{}, has: map[string]map[string]core.HealthStatus{}}
	var err error
	b.behind, err = grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	if b.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, errors.Join(err, b.behind.Close())
	}
	b.server = grpc.NewServer(grpc.ForceServerCodecV2(asIs{}), grpc.UnknownServiceHandler(b.forward))
	go func() { _ = b.server.Serve(b.listener) }()
	return b, nil
}

func (b *between) close() error {
	b.server.Stop()
	return b.behind.Close()
}

// address is where the Envoy connects.
func (b *between) address() string { return b.listener.Addr().String() }

// forward passes one stream on.
func (b *between) forward(_ any, envoy grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(envoy.Context())
	defer cancel()
	method, _ := grpc.MethodFromServerStream(envoy)
	server, err := b.behind.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodecV2(asIs{}))
	if err != nil {
		return err
	}
	go func() {
		defer cancel()
		_ = pass(envoy.RecvMsg, server.SendMsg, b.request)
	}()
	return pass(server.RecvMsg, envoy.SendMsg, b.response)
}

// pass passes messages on until one of the two ends.
func pass(from, to func(any) error, note func(content []byte, at time.Time)) error {
	for {
		var content []byte
		if err := from(&content); err != nil {
			return err
		}
		note(content, time.Now()) // First, so that no answer comes before it.
		if err := to(&content); err != nil {
			return err
		}
	}
}

// response notes which endpoints a response has.
func (b *between) response(content []byte, _ time.Time) {
	var r discovery.DeltaDiscoveryResponse
	if err := proto.Unmarshal(content, &r); err != nil || xdsnode.Type(r.GetTypeUrl()) != xdsnode.Assignment {
		return
	}
	var assignments []*endpointv3.ClusterLoadAssignment
	for _, resource := range r.GetResources() {
		a := &endpointv3.ClusterLoadAssignment{}
		if err := resource.GetResource().UnmarshalTo(a); err != nil {
			continue // The Envoy refuses it, and that is noted.
		}
		assignments = append(assignments, a)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending[r.GetNonce()] = assignments
}

// request notes what an Envoy answers.
func (b *between) request(content []byte, at time.Time) {
	var r discovery.DeltaDiscoveryRequest
	if err := proto.Unmarshal(content, &r); err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if why := r.GetErrorDetail(); why != nil {
		b.refused = append(b.refused, why.GetMessage())
		return
	}
	assignments, ok := b.pending[r.GetResponseNonce()]
	if !ok || xdsnode.Type(r.GetTypeUrl()) != xdsnode.Assignment {
		return
	}
	delete(b.pending, r.GetResponseNonce())
	for _, a := range assignments {
		endpoints := map[string]core.HealthStatus{}
		for _, locality := range a.GetEndpoints() {
			for _, e := range locality.GetLbEndpoints() {
				socket := e.GetEndpoint().GetAddress().GetSocketAddress()
				endpoints[fmt.Sprintf("%s:%d", socket.GetAddress(), socket.GetPortValue())] = e.GetHealthStatus()
			}
		}
		b.has[a.GetClusterName()] = endpoints
	}
	b.check(at)
}

// await tells when the Envoy has acknowledged a state; it is asked before that is brought
// about.
func (b *between) await(reached func(health func(address string) (core.HealthStatus, bool)) bool) *awaited {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &awaited{reached: reached, at: make(chan time.Time, 1)}
	b.sought = a
	b.check(time.Now())
	return a
}

func (b *between) check(at time.Time) {
	if b.sought != nil && b.sought.reached(b.health) {
		b.sought.at <- at
		b.sought = nil
	}
}

// health is that of an endpoint, in whichever assignment.
func (b *between) health(address string) (core.HealthStatus, bool) {
	for _, endpoints := range b.has {
		if h, ok := endpoints[address]; ok {
			return h, true
		}
	}
	return 0, false
}

// refusals are what the Envoy has refused so far.
func (b *between) refusals() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// asIs is a codec that leaves messages as they are: bytes.
type asIs struct{}

var _ encoding.CodecV2 = asIs{}

func (asIs) Name() string { return "proto" }

func (asIs) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (asIs) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

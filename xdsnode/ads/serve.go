package ads

import (
	"context"
	"net"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

const (
	// pingsPermitted is how often an Envoy may ping: more often than those that ping every
	// 5 s, whose streams grpc ends with what it permits by itself.
	pingsPermitted = 2 * time.Second
	// pingEvery and pongWithin find an Envoy that is gone without a word.
	pingEvery  = 30 * time.Second
	pongWithin = 20 * time.Second
	// endWithin is how long streams may take to end. Those of Envoys that do not read, or
	// have not said a word yet, end with their connections.
	endWithin = 2 * time.Second
	// greetWithin is how long a connection may take to speak the protocol; a stop waits for
	// one that says nothing.
	greetWithin = 5 * time.Second
	// introducedWithin is how long a stream may take to say whom it is for: an Envoy does so
	// at once.
	introducedWithin = 15 * time.Second
	// readBuffer is that of each Envoy's connection: requests are small.
	readBuffer = 4 << 10
	// largestRequest is larger than what an Envoy with 100,000 resources says it has.
	largestRequest = 64 << 20
)

// Serve serves Envoys that connect to the listener, until the context ends; then it ends
// their streams, so that they find another node, and returns the context's cause.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	options := []grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingsPermitted, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: pingEvery, Timeout: pongWithin, MaxConnectionAge: s.cfg.connectionAge(),
		}),
		grpc.MaxRecvMsgSize(largestRequest), grpc.ConnectionTimeout(greetWithin),
		grpc.ReadBufferSize(readBuffer),
	}
	if known := s.cfg.Identity; known != nil {
		options = append(options, grpc.Creds(newHandshakes(known.TLS, s.log)))
	}
	g := grpc.NewServer(options...)
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.end()
		late := time.AfterFunc(endWithin, g.Stop)
		defer late.Stop()
		g.GracefulStop()
	})
	err := g.Serve(listener)
	if stop() {
		return err // Nobody has told it to.
	}
	<-stopped
	return context.Cause(ctx)
}

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
	// pingsPermitted is how often an Envoy may ping. What grpc permits by itself ends the
	// stream of an Envoy that pings every 5 s.
	pingsPermitted = 5 * time.Second
	// largestRequest is larger than what an Envoy with 100,000 resources says it has.
	largestRequest = 64 << 20
)

// Serve serves Envoys that connect to the listener, until the context ends; then it ends
// their streams, so that they find another node, and returns the context's cause.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	g := grpc.NewServer(
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingsPermitted, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(largestRequest),
	)
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.end()
		g.GracefulStop()
	})
	err := g.Serve(listener)
	if stop() {
		return err // Nobody has told it to.
	}
	<-stopped
	return context.Cause(ctx)
}

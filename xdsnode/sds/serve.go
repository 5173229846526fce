package sds

import (
	"context"
	"net"
	"time"

	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
)

const (
	// endWithin is how long streams may take to end. Those of Envoys that do not read
	// end with their connections.
	endWithin = 2 * time.Second
	// greetWithin is how long a connection may take to speak the protocol; a stop waits for
	// one that says nothing.
	greetWithin = 2 * time.Second
)

// Serve serves Envoys that connect to the listener until the context ends, and returns
// its cause; it closes the listener, and has ended every stream within seconds.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	g := grpc.NewServer(grpc.ConnectionTimeout(greetWithin))
	secretservice.RegisterSecretDiscoveryServiceServer(g, s)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		close(s.closed)
		late := time.AfterFunc(endWithin, g.Stop)
		defer late.Stop()
		g.GracefulStop()
	})
	err := g.Serve(listener)
	if stop() {
		g.Stop()
		return err // Nobody has told it to.
	}
	<-stopped
	return context.Cause(ctx)
}

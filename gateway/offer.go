package gateway

import "context"

// offer waits for a successor, if there is a socket for that. The channel is
// closed when one has taken over.
func (g *Gateway) offer(ctx context.Context) (taken <-chan struct{}, stop func()) {
	if g.cfg.HandoverSocket == "" {
		return nil, func() {}
	}
	socket, err := listenHandover(g.cfg.HandoverSocket)
	if err != nil {
		g.cfg.Logger.Error("no hand-over is possible", "socket", g.cfg.HandoverSocket, "err", err)
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	server := &handoverServer{socket: socket, listeners: g.listeners.all, logger: g.cfg.Logger, done: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.run(ctx)
	}()
	return server.done, func() {
		cancel()
		<-ended
	}
}

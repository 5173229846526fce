package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// answerHeader names who answered a request, so that the demo sees that the
// right service did.
const answerHeader = "Isthmus-Service"

// application is a stand-in for a user's application beside a sidecar: it answers every
// HTTP request with the name of its service, datacenter and node.
type application struct {
	service, datacenter, node string
	// address is where it listens: the proxy's local service address.
	address string
}

// name is how the app names itself in answers.
func (a application) name() string { return a.service + "@" + a.datacenter }

// ServeHTTP answers one request.
func (a application) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set(answerHeader, a.name())
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "%s in %s on %s\n", a.service, a.datacenter, a.node)
}

// run serves until ctx ends. started is called when the address is bound.
func (a application) run(ctx context.Context, started func()) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", a.address)
	if err != nil {
		return fmt.Errorf("application %s: %w", a.name(), err)
	}
	server := &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}
	started()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = errors.Join(server.Close(), <-ended)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

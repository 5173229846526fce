package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/envoy"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
	"github.com/isthmus-mesh/isthmus/xdsnode/sds"
)

// envoyRun is one Envoy, and what is done beside it.
type envoyRun struct {
	*envoyFlags
	a *app
	// registrar is nil where the proxy is registered otherwise.
	registrar *registrar
	args      []string

	mu sync.Mutex
	// unkeep ends the registrar's work, and waits for that; nil before it has begun.
	unkeep func()
}

// errToldToStop says that somebody has ended the wait for what an Envoy needs.
var errToldToStop = errors.New("told to stop")

// run runs it until Envoy ends.
func (r *envoyRun) run(ctx context.Context) error {
	signals, release := envoy.Signals()
	defer release()
	ctx, end := context.WithCancelCause(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer end(nil)

	dir, err := os.MkdirTemp("", "isthmus-sds-")
	if err != nil {
		return fmt.Errorf("directory of the socket: %w", err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "sds.sock")
	listener, err := sds.Listen(socket)
	if err != nil {
		return hint{err, "set TMPDIR to a directory of this user's with a short path"}
	}
	s := newSecrets(r.a.logger)
	// What fails beside Envoy ends it too.
	besides := func(what func(context.Context) error) {
		beside.Go(func() {
			if err := what(ctx); ctx.Err() == nil {
				end(err)
			}
		})
	}
	besides(func(ctx context.Context) error { return s.serve(ctx, listener) })
	prepared := make(chan []byte, 1)
	besides(func(ctx context.Context) error { return r.prepare(ctx, s, socket, besides, prepared) })
	for {
		select {
		case signal := <-signals:
			if envoy.Ends(signal) {
				r.a.logger.Info("stopping before Envoy was started", "signal", signal.String())
				r.withdraw(context.WithoutCancel(ctx))
				return nil
			}
		case <-ctx.Done():
			r.withdraw(context.WithoutCancel(ctx))
			return context.Cause(ctx)
		case text := <-prepared:
			status, err := envoy.Command{
				Binary: r.binary, Bootstrap: text, Args: r.args, Stdout: r.a.stdout, Stderr: r.a.stderr,
				Signals: signals, DrainWithin: r.drain, StopWithin: r.stop, Stopping: r.withdraw, Logger: r.a.logger,
			}.Run(ctx)
			r.withdraw(context.WithoutCancel(ctx)) // It may have ended by itself.
			switch cause := context.Cause(ctx); {
			case err != nil:
				return err
			case cause != nil:
				return cause // Envoy was stopped because of it.
			case status != 0:
				return finding{status}
			}
			return nil
		}
	}
}

// prepare finds out who the proxy is, has its certificate followed, and makes the
// bootstrap once there is one.
func (r *envoyRun) prepare(ctx context.Context, s *secrets, socket string, beside func(func(context.Context) error), out chan<- []byte) error {
	source, p, err := r.leaf.open(ctx, r.a, r.proxy)
	if err != nil {
		return err
	}
	beside(func(ctx context.Context) error { return s.follow(ctx, source, p.name()) })
	if r.registrar != nil {
		if p, err = r.register(ctx, p, beside); err != nil {
			return err
		}
	}
	i, err := awaitIdentity(ctx, s.live)
	if err != nil {
		return err
	}
	text, err := r.render(p, i, socket)
	if err != nil {
		return err
	}
	out <- text
	<-ctx.Done()
	return context.Cause(ctx)
}

// register keeps the gateway registered, and reads what the agent has made of the
// registration: it merges in what proxy-defaults say.
func (r *envoyRun) register(ctx context.Context, p envoyProxy, beside func(func(context.Context) error)) (envoyProxy, error) {
	r.registrar.datacenter = p.datacenter
	registered := make(chan struct{})
	first := sync.OnceFunc(func() { close(registered) })
	kept := make(chan struct{})
	keeping, end := context.WithCancelCause(ctx)
	r.mu.Lock()
	r.unkeep = func() {
		end(errToldToStop)
		<-kept
	}
	r.mu.Unlock()
	beside(func(ctx context.Context) error {
		err := r.registrar.Keep(keeping, func(string) { first() })
		close(kept)
		if err != nil {
			return err
		}
		<-ctx.Done() // It was ended since Envoy stops.
		return context.Cause(ctx)
	})
	select {
	case <-registered:
	case <-ctx.Done():
		return p, context.Cause(ctx)
	}
	client, err := r.leaf.consul.open(r.a)
	if err != nil {
		return p, err
	}
	return r.leaf.retry(ctx, r.a, func(ctx context.Context) (envoyProxy, error) { return r.proxy.byAgent(ctx, client) })
}

// withdrawWithin is how long taking the registration back may take.
const withdrawWithin = 5 * time.Second

// withdraw takes the registration back, before Envoy stops to listen, and lets nobody
// make it anew. Where somebody cannot wait for it, ctx ends, and it is done afterwards.
func (r *envoyRun) withdraw(ctx context.Context) {
	r.mu.Lock()
	unkeep := r.unkeep
	r.mu.Unlock()
	if unkeep == nil {
		return
	}
	unkeep()
	within, cancel := context.WithTimeout(ctx, withdrawWithin)
	defer cancel()
	if err := r.registrar.Withdraw(within); err != nil && ctx.Err() == nil {
		r.a.logger.Error("the gateway stays registered", "err", err)
	}
}

// awaitIdentity waits for the first certificate.
func awaitIdentity(ctx context.Context, live *identity.Live) (*identity.Identity, error) {
	for {
		i, changed := live.Changed()
		if i != nil {
			return i, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// render makes the bootstrap of a proxy that has a certificate: the xds nodes are of its
// trust domain and datacenter.
func (r *envoyRun) render(p envoyProxy, i *identity.Identity, socket string) ([]byte, error) {
	c, err := r.bootstrap.read(r.a, p)
	if err != nil {
		return nil, err
	}
	id, ok := isthmusv1.ParseSPIFFEID(i.URI())
	if !ok {
		return nil, fmt.Errorf("%s: %w", i.URI(), identity.ErrWrongName)
	}
	c.SDS, c.TrustDomain, c.Datacenter = socket, id.TrustDomain, id.Datacenter
	return bootstrap.Render(c)
}

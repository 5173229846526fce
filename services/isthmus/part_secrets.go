package main

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/services/role"
	"github.com/isthmus-mesh/isthmus/xdsnode/sds"
)

// secrets serve the Envoy beside them the certificate and the roots of one service.
type secrets struct {
	live   *identity.Live
	server *sds.Server
	logger *slog.Logger
	// found: it is known whose certificate it is.
	found atomic.Bool
}

func newSecrets(logger *slog.Logger) *secrets {
	live := identity.NewLive(nil)
	return &secrets{live: live, server: sds.NewServer(live, logger), logger: logger}
}

// waiting says what they wait for.
func (s *secrets) waiting() string {
	if !s.found.Load() {
		return "the registration, which says whose certificate it is"
	}
	return s.server.Waiting()
}

// follow keeps the newest certificate of a service.
func (s *secrets) follow(ctx context.Context, source identity.Source, name identity.Name) error {
	s.found.Store(true)
	s.logger.Info("waiting for the certificate", "of", name.String())
	return source.Follow(ctx, name, func(i *identity.Identity, err error) {
		s.live.Take(i, err)
		if err != nil {
			s.logger.Warn("there is no new certificate", "of", name.String(), "err", err)
			return
		}
		s.logger.Info("there is a new certificate or new roots", "identity", i)
	})
}

// serve serves at the listener until the context ends.
func (s *secrets) serve(ctx context.Context, listener net.Listener) error {
	return s.server.Serve(ctx, listener)
}

// secretsPart serves the secrets of a proxy at a socket; open says whose they are.
func secretsPart(logger *slog.Logger, socket string, open func(context.Context) (identity.Source, identity.Name, error)) role.Component {
	s := newSecrets(logger)
	return role.Component{
		Name:    "secrets",
		Waiting: s.waiting,
		Run: func(ctx context.Context, started func()) error {
			listener, err := sds.Listen(socket)
			if err != nil {
				return err
			}
			logger.Info("the socket is there", "socket", socket)
			started()
			return together(ctx,
				func(ctx context.Context) error { return s.serve(ctx, listener) },
				func(ctx context.Context) error {
					source, name, err := open(ctx)
					if err != nil {
						return err
					}
					return s.follow(ctx, source, name)
				})
		},
	}
}

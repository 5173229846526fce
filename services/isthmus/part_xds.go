package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/services/role"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
)

// xdsSettings are those of an xds node.
type xdsSettings struct {
	datacenter, listen string
	// listener is one at that address; nil: it is made when the node starts.
	listener net.Listener
	// identity is where the node's certificate comes from; nil: it has none, and serves in
	// plain text.
	identity identity.Source
	// streamAge is how long streams live, about; 0: for ever.
	streamAge time.Duration
	// silent: nothing is reported, as nobody would read it.
	silent bool
}

// xdsPart serves Envoys what the routes of a datacenter come to.
func xdsPart(p parts, s xdsSettings) (role.Component, error) {
	if err := s.checkListen(); err != nil {
		return role.Component{}, err
	}
	p = p.in("xds", s.datacenter, s.listen)
	cfg := ads.Config{Logger: p.logger, StreamAge: s.streamAge}
	var reporter *bus.Reporter
	if !s.silent {
		var err error
		reporter, err = bus.NewReporter(bus.ReporterConfig{
			Log: p.log, Datacenter: s.datacenter, Role: "xds", Name: hostName() + "/" + s.listen, Logger: p.logger,
		})
		if err != nil {
			return role.Component{}, err
		}
		cfg.Reports = reporter
	}
	live := identity.NewLive(nil)
	if s.identity != nil {
		cfg.Identity = xdsIdentity(live)
	}
	server := ads.NewServer(cfg)
	drive := &bus.Drive{
		Log: p.log, Streams: []string{isthmusv1.StreamName(isthmusv1.ClassRoutes, s.datacenter)},
		Machine: bus.MachineFunc(server.Apply), Emit: server.Emit, Logger: p.logger, Registerer: p.registerer,
	}
	return p.aware(role.Component{
		Name: "xds " + s.datacenter,
		Waiting: func() string {
			if s.identity != nil && live.Current() == nil {
				return fmt.Sprintf("its own certificate, as the service %s: %v", isthmusv1.ServiceXDS, live.Trouble())
			}
			return waiting(drive.Ready)()
		},
		Run: func(ctx context.Context, started func()) error {
			listener, err := s.open(ctx)
			if err != nil {
				return err
			}
			p.logger.Info("xds node listens", "address", listener.Addr(), "tls", s.identity != nil)
			started()
			runs := []func(context.Context) error{drive.Run, func(ctx context.Context) error { return server.Serve(ctx, listener) }}
			if s.identity != nil {
				runs = append(runs, func(ctx context.Context) error { return s.follow(ctx, p, live, server.Recheck) })
			}
			return reporting(ctx, reporter, p, func(ctx context.Context) error { return together(ctx, runs...) })
		},
	}), nil
}

// open listens.
func (s xdsSettings) open(ctx context.Context) (net.Listener, error) {
	if s.listener != nil {
		return s.listener, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return nil, hint{fmt.Errorf("xds node of %s: %w", s.datacenter, err), "give another --listen"}
	}
	return listener, nil
}

// lastReportWithin bounds what a node waits for at its end so that its report is read.
const lastReportWithin = 2 * time.Second

// reporting runs a node beside its reporter, nil for none, which then tells how it ended.
func reporting(ctx context.Context, reporter *bus.Reporter, p parts, run func(context.Context) error) error {
	if reporter == nil {
		return run(ctx)
	}
	reports, stop := context.WithCancel(context.WithoutCancel(ctx))
	var told sync.WaitGroup
	told.Go(func() { _ = reporter.Run(reports) }) // It ends with its context alone.
	err := run(ctx)
	stop()
	told.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastReportWithin)
	defer cancel()
	if err := reporter.End(last); err != nil {
		p.logger.Warn("the end is not reported", "err", err)
	}
	return err
}

// follow keeps the node's certificate and roots, and has the clients checked anew when
// the roots are others.
func (s xdsSettings) follow(ctx context.Context, p parts, live *identity.Live, recheck func()) error {
	name := identity.Name{Service: &isthmusv1.ServiceRef{Name: isthmusv1.ServiceXDS}, Datacenter: s.datacenter}
	return s.identity.Follow(ctx, name, func(next *identity.Identity, err error) {
		before := live.Current()
		live.Take(next, err)
		switch {
		case err != nil:
			p.logger.Warn("there is no newer certificate", "err", err)
		case next != nil:
			p.logger.Info("certificate", "identity", next)
			if before != nil && string(before.RootsPEM()) != string(next.RootsPEM()) {
				recheck()
			}
		}
	})
}

// xdsIdentity is how a node knows Envoys: by the leaves that its own roots vouch for.
func xdsIdentity(live *identity.Live) *ads.Identity {
	return &ads.Identity{
		TLS: live.ServerConfig(identity.Parameters{}),
		Client: func(state tls.ConnectionState) (string, time.Time, error) {
			uri, until, err := live.Client(state)
			if err != nil {
				return "", until, err
			}
			return uri.String(), until, nil
		},
	}
}

// errPlain says that what is served in plain text may be reached from elsewhere.
var errPlain = errors.New("without TLS an xds node listens on loopback only; give it a certificate with --consul or --ca-dir")

// checkListen wants an address; in plain text one of this machine that no other reaches.
func (s xdsSettings) checkListen() error {
	at, err := netip.ParseAddrPort(s.listen)
	if err != nil {
		return usageError{fmt.Errorf("--listen %q is not IP:PORT", s.listen)}
	}
	if s.identity == nil && !at.Addr().IsLoopback() {
		return usageError{fmt.Errorf("--listen %s: %w", s.listen, errPlain)}
	}
	return nil
}

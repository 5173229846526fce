package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/role"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
)

// xdsSettings are those of an xds node.
type xdsSettings struct {
	datacenter, listen string
}

// xdsPart serves Envoys what the routes of a datacenter come to.
func xdsPart(p parts, s xdsSettings) (role.Component, error) {
	if err := loopbackOnly(s.listen); err != nil {
		return role.Component{}, err
	}
	p = p.in("xds", s.datacenter, s.listen)
	server := ads.NewServer(p.logger)
	drive := &bus.Drive{
		Log: p.log, Streams: []string{isthmusv1.StreamName(isthmusv1.ClassRoutes, s.datacenter)},
		Machine: bus.MachineFunc(server.Apply), Emit: server.Emit, Logger: p.logger, Registerer: p.registerer,
	}
	return p.aware(role.Component{
		Name:    "xds " + s.datacenter,
		Waiting: waiting(drive.Ready),
		Run: func(ctx context.Context, started func()) error {
			listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.listen)
			if err != nil {
				return hint{fmt.Errorf("xds node of %s: %w", s.datacenter, err), "give another --listen"}
			}
			p.logger.Info("xds node listens", "address", listener.Addr())
			started()
			return together(ctx, drive.Run, func(ctx context.Context) error { return server.Serve(ctx, listener) })
		},
	}), nil
}

// errPlain says that what is served in plain text may be reached from elsewhere.
var errPlain = errors.New("without TLS an xds node listens on loopback only")

// loopbackOnly wants an address of this machine that no other reaches.
func loopbackOnly(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return usageError{fmt.Errorf("--listen %q is not IP:PORT", address)}
	}
	if !at.Addr().IsLoopback() {
		return usageError{fmt.Errorf("--listen %s: %w", address, errPlain)}
	}
	return nil
}

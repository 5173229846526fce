package main

import (
	"context"
	"log/slog"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/gateway/sidecar"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/services/role"
)

// sidecarSettings are those of a Go sidecar.
type sidecarSettings struct {
	datacenter string
	// proxy is NODE/ID, or an ID that is unique in its datacenter.
	proxy     string
	identity  identity.Source
	stateFile string
	accessLog *slog.Logger
	access    func(sidecar.Record)
	// silent: nothing is reported, as nobody would read it.
	silent bool
}

// sidecarPart carries the connections of one proxy's service.
func sidecarPart(p parts, s sidecarSettings) (role.Component, *sidecar.Sidecar, error) {
	p = p.in("sidecar", s.datacenter, s.proxy)
	config := sidecar.Config{
		Log:        p.log,
		Datacenter: s.datacenter,
		Proxy:      s.proxy,
		Identity:   s.identity,
		StateFile:  s.stateFile,
		Version:    version,
		Access:     s.access,
		AccessLog:  s.accessLog,
		Logger:     p.logger,
		Registerer: p.registerer,
	}
	var reporter *bus.Reporter
	if !s.silent {
		var err error
		reporter, err = bus.NewReporter(bus.ReporterConfig{
			Log: p.log, Datacenter: s.datacenter, Role: "sidecar", Name: s.proxy, Logger: p.logger,
		})
		if err != nil {
			return role.Component{}, nil, err
		}
		config.Status = reporter.Proxy
	}
	car, err := sidecar.New(config)
	if err != nil {
		return role.Component{}, nil, err
	}
	return p.aware(role.Component{
		Name:    "sidecar " + s.datacenter + " " + s.proxy,
		Waiting: car.Waiting,
		Run: func(ctx context.Context, started func()) error {
			started()
			if reporter == nil {
				return car.Run(ctx)
			}
			return together(ctx, car.Run, reporter.Run)
		},
	}), car, nil
}

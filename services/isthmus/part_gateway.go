package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	"github.com/isthmus-mesh/isthmus/services/role"
)

// gatewaySettings are those of a Go gateway.
type gatewaySettings struct {
	datacenter, name string
	listen           []string
	// proxy is the registration to run by: NODE/ID, or ID where that is unique.
	proxy string
	// registrar registers it; nil: nobody does, or somebody else.
	registrar *registrar
	// connectTimeout is that of the registration where it is zero.
	connectTimeout time.Duration
	// stateDir keeps the last good table; empty: none is kept.
	stateDir string
	// handover is the socket on which a successor asks for the listeners.
	handover string
	// handedOver is called when a successor has taken over; may be nil.
	handedOver    func()
	admin         string
	drain         time.Duration
	proxyNetworks []netip.Prefix
	// maxConnections and helloTimeout are the engine's own where they are zero.
	maxConnections, maxPerRoute, maxPerNetwork, openAhead int
	idleTimeout                                           time.Duration
	helloTimeout                                          time.Duration
	// congestionControl is auto where it is empty.
	congestionControl string
	// engine is the name of the engine; empty: the system's own.
	engine string
	// metricRoutes is the gateway's own where it is zero.
	metricRoutes int
	accessLog    io.Writer
	record       func(*table.Record)
}

// gatewayPart moves bytes by server name.
func gatewayPart(p parts, s gatewaySettings) (role.Component, *gateway.Gateway, error) {
	config := gateway.Config{
		Datacenter:     s.datacenter,
		Name:           s.name,
		Log:            p.log,
		Listen:         s.listen,
		Proxy:          s.proxy,
		StateDir:       s.stateDir,
		HandoverSocket: s.handover,
		OnHandedOver:   s.handedOver,
		AdminAddress:   s.admin,
		DrainTimeout:   s.drain,
		Limits: engine.Config{
			ProxyNetworks: s.proxyNetworks, MaxConnections: s.maxConnections, HelloTimeout: s.helloTimeout,
			ConnectTimeout: s.connectTimeout, MaxPerRoute: s.maxPerRoute, MaxPerNetwork: s.maxPerNetwork, OpenAhead: s.openAhead, IdleTimeout: s.idleTimeout,
		},
		CongestionControl: s.congestionControl,
		AccessLog:         s.accessLog,
		OnRecord:          s.record,
		MetricRoutes:      s.metricRoutes,
	}
	if s.engine != "" {
		var err error
		if config.NewEngine, err = gateway.EngineNamed(s.engine); err != nil {
			return role.Component{}, nil, usageError{fmt.Errorf("--engine: %w", err)}
		}
	}
	// Logs and metrics carry the name that reports do.
	name := config.ReportName()
	p = p.in("gateway", s.datacenter, name)
	config.Registerer, config.Logger = p.registerer, p.logger
	if s.registrar != nil {
		s.registrar.datacenter, s.registrar.logger = s.datacenter, p.logger
		config.Registrar = s.registrar
	}
	g, err := gateway.New(config)
	if err != nil {
		return role.Component{}, nil, err
	}
	return p.aware(role.Component{Name: "gateway " + s.datacenter + " " + name, Waiting: g.Waiting, Run: g.Run}), g, nil
}

// endingHandedOver makes a gateway whose successor has taken over the end of its
// role, which is no failure.
func endingHandedOver(run func(context.Context, func()) error, end context.CancelCauseFunc) func(context.Context, func()) error {
	return func(ctx context.Context, started func()) error {
		err := run(ctx, started)
		if !errors.Is(err, gateway.ErrHandedOver) {
			return err
		}
		end(err)
		<-ctx.Done()
		return nil
	}
}

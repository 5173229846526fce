package main

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/bus"
)

// parts is what every part of a role is made with. A part is one row of a
// role's table: the same whether a role runs alone in its process or many of
// them run in one, as in dev.
type parts struct {
	log bus.Log
	// owner says who writes a stream, for people: host, role and process.
	owner      string
	logger     *slog.Logger
	registerer prometheus.Registerer
}

// in narrows what parts of one datacenter report, so that several of a kind may
// stand in one process.
func (p parts) in(role, datacenter, name string) parts {
	// Every part has the same labels, as one registry may hold several kinds.
	labels := prometheus.Labels{"role": role, "datacenter": datacenter, "name": name}
	p.registerer = prometheus.WrapRegistererWith(labels, p.registerer)
	p.logger = p.logger.With("role", role, "dc", datacenter)
	if name != "" {
		p.logger = p.logger.With("name", name)
	}
	p.owner += "/" + role
	return p
}

// waiting turns a readiness error into the sentence of a component.
func waiting(ready func() error) func() string {
	return func() string {
		if err := ready(); err != nil {
			return err.Error()
		}
		return ""
	}
}

package main

import (
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/services/role"
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
	// away says that the bus cannot be reached, if it cannot; nil: it is in this
	// process.
	away func() string
}

// in narrows what parts of one datacenter report, so that several of a kind may
// stand in one process.
func (p parts) in(kind, datacenter, name string) parts {
	// Every part has the same labels, as one registry may hold several kinds.
	labels := prometheus.Labels{"role": kind, "datacenter": datacenter, "name": name}
	p.registerer = prometheus.WrapRegistererWith(labels, p.registerer)
	p.logger = p.logger.With("role", kind, "dc", datacenter)
	if name != "" {
		p.logger = p.logger.With("name", name)
	}
	p.owner += "/" + kind
	return p
}

// aware makes what a component waits for say also that the bus is away: whatever
// else it waits for cannot come until the bus is there.
func (p parts) aware(c role.Component) role.Component {
	own := c.Waiting
	if own == nil || p.away == nil {
		return c
	}
	c.Waiting = func() string {
		said := own()
		if strings.Contains(said, bus.ErrNoStream.Error()) {
			said += " (nobody has written it yet: start the watcher and the resolver of that datacenter, or see that --datacenter names it rightly)"
		}
		if away := p.away(); said != "" && away != "" {
			return away + "; " + said
		}
		return said
	}
	return c
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

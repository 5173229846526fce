package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/services/role"
)

// demoDeadline bounds the whole demo: something that never comes is a failure.
const demoDeadline = 3 * time.Minute

func newDemoCommand(a *app) *cobra.Command {
	var d demoRun
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run two datacenters, send real requests in every mode, and prove each fact",
		Long: `Runs two datacenters on loopback, sends real requests from web in dc1 to four
services in dc2, and proves from gateway counters and access logs which way each
went. Then it flips the global mode by rewriting a file while requests run, stops
a gateway, explains a route and replays its own log.

Where there is an Envoy (--envoy-binary, ISTHMUS_ENVOY, envoy on the PATH), the
sidecars and one gateway of dc2 are Envoys, beside Go gateways: --dataplane mixed.
With --dataplane envoy all are Envoys; with go, or without an Envoy, none is. What
Envoys did is read from their access logs and admin servers.

Every line is a fact that was measured in this run. The first one that does not
hold ends the demo with exit code 1 and says what was seen instead.

With --consul the same is done beside real Consul: two federated servers are
started as child processes, the catalog is written into them through Consul's own
API, certificates come from their agents, and the mode is flipped by writing a
config entry. It needs the consul binary: the one that ISTHMUS_CONSUL_BINARY
names, the one that deploy/tools/install.sh builds, or the one in PATH.`,
		Example: `  isthmus demo
  isthmus demo --dataplane envoy
  isthmus demo --consul
  isthmus demo --json`,
		GroupID: "start",
		Args:    exactly(0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("log-level") {
				// The demo talks to a person; a fact that fails says why.
				a.logLevel = "error"
				if err := a.makeLogger(); err != nil {
					return err
				}
			}
			d.app = a
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&d.json, "json", false, "print the facts as one JSON array")
	cmd.Flags().BoolVar(&d.consul, "consul", false, "with two real Consul servers as the catalog, started for the demo (by flag only)")
	onlyByFlag(cmd, "consul")
	d.dataplane.register(cmd, "", "what sidecars and gateways are: go, envoy, or mixed, which is Envoy sidecars and one Envoy gateway; else mixed if there is an Envoy, and go if not")
	cmd.Flags().StringVar(&d.catalog, "catalog", "", "catalog with these datacenters and services; else the built-in one")
	return cmd
}

// demoRun is one run of the demo.
type demoRun struct {
	app     *app
	json    bool
	catalog string
	// dataplane is what the user asks for.
	dataplane dataplaneFlags
	// consul: the catalog is in Consul, of which agents are started.
	consul bool
	agents devagent.Group
	// spoil lets a test break the cause of a fact: it is called with the fact's
	// name before its work is done.
	spoil func(d *demoRun, fact string)
	// patience, if set, takes the place of demoWait.
	patience time.Duration

	world   *world
	printer *factPrinter
	load    *load
	began   time.Time
}

// wait bounds the wait for one thing to be seen.
func (d *demoRun) wait() time.Duration { return cmp.Or(d.patience, demoWait) }

// demoSteps are the facts, in the order in which they are shown.
var demoSteps = []struct {
	name string
	run  func(*demoRun, context.Context) []fact
}{
	{"everything is up", (*demoRun).up},
	{"each mode takes its path", (*demoRun).paths},
	{"the global mode flips", (*demoRun).flip},
	{"the next gateway carries on", (*demoRun).nextGateway},
	{"the route explains itself", (*demoRun).explain},
	{"the log replays", (*demoRun).replay},
}

func (d *demoRun) run(ctx context.Context) (err error) {
	// Whoever reads no further ends the demo by an error, which cleans up.
	signal.Ignore(syscall.SIGPIPE)
	told, stop := role.Signals(ctx)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(told, demoDeadline, errors.New("the demo took too long"))
	defer cancel()
	d.began = time.Now()
	d.printer = &factPrinter{out: d.app.stdout, json: d.json}
	dir, err := os.MkdirTemp("", "isthmus-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	defer func() { err = errors.Join(err, d.agents.Close()) }()
	if d.consul {
		if _, err := devagent.Find(); err != nil {
			return noConsul(err)
		}
	}
	plane, err := d.dataplane.settle(d.app.environment)
	if err != nil {
		return err
	}
	if err := d.prepare(dir); err != nil {
		return err
	}
	d.world.choose(plane)
	if err := d.addAccessLogs(); err != nil {
		d.world.close()
		return err
	}
	if d.consul {
		if err := d.startConsul(ctx, dir); err != nil {
			d.world.close()
			return err
		}
	}
	return d.live(ctx, func() error { return context.Cause(told) })
}

// prepare copies the catalog, which the demo is going to change, and makes the
// world.
func (d *demoRun) prepare(dir string) error {
	catalog := filepath.Join(dir, "catalog")
	ca, err := identity.NewDevCA(identity.DevCAConfig{})
	if err != nil {
		return err
	}
	if d.catalog == "" {
		d.world, err = newBuiltInWorld(d.app, catalog, dir, ca)
		return err
	}
	// Problems are told of the user's own files, not of the copy.
	if _, err := loadCatalog(d.catalog, ca); err != nil {
		return err
	}
	if err := os.CopyFS(catalog, os.DirFS(d.catalog)); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	d.world, err = newWorld(d.app, catalog, dir, ca)
	return err
}

// live runs the world and the steps in it. told is why the demo was told to end.
func (d *demoRun) live(ctx context.Context, told func() error) error {
	defer d.world.close()
	table, err := d.world.table()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := role.Run(ctx, table, role.Options{Logger: d.app.logger})
		if err != nil {
			cancel(err) // A part failed: the steps stop too.
		}
		ended <- err
	}()
	err = d.steps(ctx, told)
	if d.load != nil {
		d.load.end()
	}
	cancel(nil)
	return errors.Join(err, <-ended, d.printer.close())
}

func (d *demoRun) steps(ctx context.Context, told func() error) error {
	d.heading()
	for _, step := range demoSteps {
		if d.spoil != nil {
			d.spoil(d, step.name)
		}
		for _, f := range step.run(d, ctx) {
			switch {
			case f.Holds:
			case told() != nil: // Nothing was found out about the fact.
				return fmt.Errorf("ended before it was seen that %s: %w", step.name, told())
			case ctx.Err() != nil:
				f.Saw = fmt.Sprintf("%v; %s", context.Cause(ctx), f.Saw)
			}
			if err := d.printer.show(f); err != nil {
				return err
			}
			if !f.Holds {
				return finding{exitFailure}
			}
		}
	}
	next := "Keep it running and ask it things: isthmus dev"
	if d.consul {
		next = "Beside a Consul of your own: isthmus dev --help"
	}
	d.printer.text("\n%d facts held in %s. %s\n", len(d.printer.all), time.Since(d.began).Round(10*time.Millisecond), next)
	return d.printer.err
}

func (d *demoRun) heading() {
	what := "two datacenters on loopback"
	if d.consul {
		what = "two Consul datacenters"
	}
	d.printer.text("Isthmus: %s, one NATS JetStream log, mutual TLS all the way\n", what)
	d.printer.text(`
  dc1                                            dc2
  web ── sidecar ══ gateways 1, 2 ══════════════ gateways 1, 2 ══ sidecars ── api, db, logging, search

`)
	d.printer.text("  data plane: %s\n\n", d.world.dataplaneText())
}

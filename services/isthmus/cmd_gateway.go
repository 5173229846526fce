package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/services/role"
	"github.com/isthmus-mesh/isthmus/watcher/file"
)

// routesFlags say where a data plane role has its routes from: the bus, or files
// through the same machines in this process.
type routesFlags struct {
	bus        busFlags
	files      fileFlags
	datacenter string
}

func (f *routesFlags) register(cmd *cobra.Command) {
	f.bus.register(cmd)
	f.files.register(cmd)
	cmd.Flags().StringVar(&f.datacenter, "datacenter", "", "name of the own datacenter")
}

// check finds what is missing or too much.
func (f *routesFlags) check() error {
	switch {
	case f.files.catalog != "" && f.bus.url != "":
		return usageError{errors.New("--catalog and --nats exclude each other: take the routes from files or from the bus")}
	case f.files.catalog == "" && f.bus.url == "":
		return usageError{errors.New("--nats or --catalog is missing: where the routes come from")}
	}
	return required("datacenter", f.datacenter)
}

// open returns what parts are made with: the bus, or a log in memory and the
// parts that fill it from files. Close it with done.
func (f *routesFlags) open(a *app, name string, registry prometheus.Registerer) (p parts, table []role.Component, done func(), err error) {
	if err := f.check(); err != nil {
		return parts{}, nil, nil, err
	}
	if f.bus.url != "" {
		log, err := f.bus.connect(a, name)
		if err != nil {
			return parts{}, nil, nil, err
		}
		return a.parts(log, registry), nil, log.Close, nil
	}
	p = a.parts(memlog.New(memlog.Options{}), registry)
	table, err = f.fromFiles(a, p)
	return p, table, func() {}, err
}

// fromFiles is the watchers of every datacenter, and then the resolver of the own.
func (f *routesFlags) fromFiles(a *app, p parts) ([]role.Component, error) {
	loaded, err := f.files.read(a, file.LoadOptions{})
	if err != nil {
		return nil, err
	}
	if _, err := pick(datacenterNames(loaded), f.datacenter); err != nil {
		return nil, err
	}
	trust, err := a.openTrust(f.files.trustDomain, f.files.caDir)
	if err != nil {
		return nil, err
	}
	var table []role.Component
	for _, d := range loaded.Datacenters {
		w, err := watcherPart(p, watcherSettings{datacenter: d.Name, catalog: f.files.catalog, trustDomain: trust.domain, ca: trust.ca})
		if err != nil {
			return nil, err
		}
		table = append(table, w)
	}
	// Without the catalogs part, the first routes, and so readiness, would be of
	// a world in which other datacenters are still missing.
	table = append(table, catalogsPart(p, datacenterNames(loaded)))
	r, err := resolverPart(p, f.datacenter, 1)
	return append(table, r), err
}

func newGatewayCommand(a *app) *cobra.Command {
	var (
		f         roleFlags
		r         routesFlags
		s         gatewaySettings
		register  registerFlags
		networks  []string
		accessLog string
	)
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Carry connections between datacenters by server name",
		Long: `Runs a mesh gateway. It reads the server name of each TLS connection, passes the
connection on to an endpoint of that name, and never decrypts.

Its routes come from the bus (--nats), or from files alone (--catalog). The last
good table is kept in --state-dir and used at the next start until the bus is
there. With --handover, a second process started with the same path takes over
the listeners of the first, which drains and ends: no connection is lost. Sockets
that systemd gives (LISTEN_FDS) are served, with or without --listen.

With --proxy-id it runs by a registration: without --listen it listens where that
says (envoy_gateway_bind_addresses and the like), and follows its changes; connect
timeout, keepalive and limits are taken from there too. Flags win. What it does
not honour is logged, and listed by "isthmus gateways".

With --admin-bind, "isthmus gateways top" shows its routes live from there; metrics of
their own have up to --metrics-routes routes, those first that are used most.

With --register it registers itself with the local Consul agent (--consul) as
"consul connect envoy -gateway=mesh -register" does: once it serves, again when
the agent has lost it, and no longer when it is told to stop.`,
		Example: `  isthmus gateway --datacenter dc1 --nats nats://127.0.0.1:4222 --listen 10.0.0.1:8443
  isthmus gateway --datacenter dc2 --catalog ./catalog --listen 127.0.0.1:8443
  isthmus gateway --datacenter dc1 --nats nats://127.0.0.1:4222 --proxy-id node-1/mesh-gateway
  isthmus gateway --datacenter dc1 --nats nats://127.0.0.1:4222 --register --consul http://127.0.0.1:8500 \
      --service mesh-gateway --address 10.0.0.1:8443 --wan-address 198.51.100.1:8443 --bind-address default=10.0.0.1:8443`,
		Args: exactly(0, "only flags"),
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&s.listen, "listen", nil, "address to accept connections at; may be repeated")
	flags.StringVar(&s.proxy, "proxy-id", "", "registration to run by: NODE/ID, or ID where that is unique")
	register.add(cmd)
	flags.StringVar(&s.name, "name", "", "name in reports; else that of the registration, or the first address")
	flags.StringVar(&s.stateDir, "state-dir", "", "directory that keeps the last good table")
	flags.StringVar(&s.handover, "handover", "", "path of the socket on which a successor takes over")
	flags.DurationVar(&s.drain, "drain", 30*time.Second, "how long connections may go on after the stop")
	flags.IntVar(&s.maxConnections, "max-connections", engine.DefaultMaxConnections, "how many connections may be open; one more is reset")
	flags.IntVar(&s.maxPerRoute, "max-per-route", 0, "how many connections each server name may have, where the registration does not say; one more is refused; 0: any number")
	flags.IntVar(&s.maxPerNetwork, "max-per-network", 0, "how many connections may come from one network (/24 of IPv4, /64 of IPv6); 0: any number. Other gateways bring all of their datacenter")
	flags.DurationVar(&s.helloTimeout, "hello-timeout", engine.DefaultHelloTimeout, "how long a client may take for its ClientHello")
	flags.DurationVar(&s.connectTimeout, "connect-timeout", 0, "how long an endpoint may take to answer, unless its service says; else that of the registration, or 2 s")
	flags.DurationVar(&s.idleTimeout, "idle-timeout", 0, "how long a connection may move no byte; then it is reset; 0: for ever")
	flags.StringVar(&s.congestionControl, "congestion-control", engine.CongestionAuto, "congestion control within the own datacenter: system, or auto: that too, unless it is BBR")
	flags.StringVar(&s.engine, "engine", gateway.Engines()[0], "what moves the bytes: "+strings.Join(gateway.Engines(), " or "))
	flags.IntVar(&s.metricRoutes, "metrics-routes", gateway.DefaultMetricRoutes, "how many routes have metrics of their own")
	flags.IntVar(&s.openAhead, "open-ahead", 0, "how many connections are kept open to each gateway of another datacenter before a client asks for one, so that it need not wait for a round trip")
	flags.StringSliceVar(&networks, "proxy-protocol-from", nil, "networks whose PROXY headers are read")
	flags.StringVar(&accessLog, "access-log", "", "file that gets a line per connection; - is standard output")
	_ = cmd.RegisterFlagCompletionFunc("congestion-control", cobra.FixedCompletions([]string{engine.CongestionAuto, engine.CongestionSystem}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("engine", cobra.FixedCompletions(gateway.Engines(), cobra.ShellCompDirectiveNoFileComp))
	r.register(cmd)
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := register.settle(a, &s); err != nil {
			return err
		}
		if len(s.listen) == 0 && s.proxy == "" && a.environment("LISTEN_FDS") == "" {
			return usageError{errors.New("--listen is missing: an address like 127.0.0.1:8443, several by repeating it; or --proxy-id, a registration that says where; or a socket by systemd's activation")}
		}
		if s.maxConnections < 1 || s.helloTimeout <= 0 || s.connectTimeout < 0 || s.idleTimeout < 0 || s.maxPerRoute < 0 || s.maxPerNetwork < 0 || s.openAhead < 0 {
			return usageError{errors.New("--max-connections and --hello-timeout must be above zero; --connect-timeout, --idle-timeout, --max-per-route, --max-per-network and --open-ahead not below")}
		}
		if s.metricRoutes < 1 {
			return usageError{errors.New("--metrics-routes must be above zero")}
		}
		if s.openAhead > 0 && s.engine == "relay" {
			return usageError{errors.New("--open-ahead: the relay engine opens no connections ahead; leave one of --open-ahead and --engine out")}
		}
		if _, err := engine.CongestionControl(s.congestionControl); err != nil {
			return usageError{fmt.Errorf("--congestion-control: %w", err)}
		}
		for _, text := range networks {
			network, err := netip.ParsePrefix(text)
			if err != nil {
				return usageError{fmt.Errorf("--proxy-protocol-from: %q is not a network like 10.0.0.0/8", text)}
			}
			s.proxyNetworks = append(s.proxyNetworks, network)
		}
		registry := newRegistry()
		p, table, done, err := r.open(a, "gateway "+r.datacenter, registry)
		if err != nil {
			return err
		}
		defer done()
		if err := a.prepareGateway(&s, accessLog); err != nil {
			return err
		}
		s.datacenter, s.admin = r.datacenter, f.adminBind
		if s.handover != "" {
			done := make(chan struct{})
			f.handover, s.handedOver = done, func() { close(done) }
		}
		component, running, err := gatewayPart(p, s)
		if err != nil {
			return err
		}
		f.serveCounters(func() []*gateway.Gateway { return []*gateway.Gateway{running} })
		f.stopDeadline = max(f.stopDeadline, s.drain+drainMargin)
		ctx, end := context.WithCancelCause(cmd.Context())
		defer end(nil)
		component.Run = endingHandedOver(component.Run, end)
		return a.runRole(ctx, f, registry, append(table, component)...)
	}
	return cmd
}

// drainMargin is what stopping takes beside the drain.
const drainMargin = 5 * time.Second

// prepareGateway makes the places that a gateway writes to.
func (a *app) prepareGateway(s *gatewaySettings, accessLog string) (err error) {
	if s.accessLog, err = a.openAccessLog(accessLog); err != nil {
		return err
	}
	if s.stateDir == "" {
		return nil
	}
	if err := os.MkdirAll(s.stateDir, 0o700); err != nil {
		return hint{err, "give another --state-dir"}
	}
	return nil
}

// openAccessLog opens where access-log lines go; nil for none.
func (a *app) openAccessLog(path string) (io.Writer, error) {
	switch path {
	case "":
		return nil, nil
	case "-":
		return a.stdout, nil
	}
	log, err := os.OpenFile(filepath.Clean(path), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, hint{err, "give another --access-log"}
	}
	return log, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/services/role"
)

// roleFlags are those of every role.
type roleFlags struct {
	adminBind    string
	pprof        bool
	stopDeadline time.Duration
	// A role that can be handed over waits for the admin address while its
	// predecessor holds it, and lets go of it when this is closed.
	handover <-chan struct{}
	// handlers are more paths of the admin server, and bound hears its address.
	// Both may be nil.
	handlers map[string]http.Handler
	bound    func(net.Addr)
}

func (f *roleFlags) register(cmd *cobra.Command) {
	cmd.GroupID = "role"
	cmd.Flags().StringVar(&f.adminBind, "admin-bind", "", "serve /healthz, /readyz and /metrics at this address")
	cmd.Flags().BoolVar(&f.pprof, "pprof", false, "also serve /debug/pprof there")
	cmd.Flags().DurationVar(&f.stopDeadline, "stop-deadline", 30*time.Second, "how long a stop may take")
}

// busFlags say where the log is.
type busFlags struct {
	url, domain, credentials, nkey string
}

func (f *busFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.url, "nats", "", "URL of the NATS servers, several by commas")
	cmd.Flags().StringVar(&f.domain, "nats-domain", "", "JetStream domain, if not the servers' own")
	cmd.Flags().StringVar(&f.credentials, "nats-creds", "", "file with the user's credentials")
	cmd.Flags().StringVar(&f.nkey, "nats-nkey", "", "file with the user's nkey seed")
}

// connect opens the log; a server that is away is waited for by whoever uses it.
func (f *busFlags) connect(a *app, name string) (*bus.JetStream, error) {
	if f.url == "" {
		return nil, usageError{fmt.Errorf("--nats is missing: the URL of the NATS servers, like nats://127.0.0.1:4222")}
	}
	return bus.Connect(f.url, bus.Options{
		Name: name, Domain: f.domain, CredentialsFile: f.credentials, NkeySeedFile: f.nkey, Logger: a.logger,
	})
}

// owner names this process, for people.
func owner() string { return fmt.Sprintf("%s/%d", hostName(), os.Getpid()) }

// hostName names this machine, for people.
func hostName() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}

// newRegistry makes the metrics of a process.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// parts makes what the parts of this process are made with.
func (a *app) parts(log bus.Log, registry prometheus.Registerer) parts {
	p := parts{log: log, owner: owner(), logger: a.logger, registerer: registry}
	if connection, ok := log.(*bus.JetStream); ok {
		p.away = func() string {
			if connection.Connected() {
				return ""
			}
			return bus.ErrDisconnected.Error()
		}
	}
	return p
}

// runRole runs a table until it is told to stop, with the admin server before
// everything else.
func (a *app) runRole(ctx context.Context, f roleFlags, registry prometheus.Gatherer, table ...role.Component) error {
	ctx, stop := role.Signals(ctx)
	defer stop()
	health := new(role.Health)
	if f.adminBind != "" {
		admin := role.Admin{
			Bind: f.adminBind, Health: health, Metrics: registry, Pprof: f.pprof, Logger: a.logger,
			Wait: f.handover != nil, Release: f.handover, Handlers: f.handlers, Bound: f.bound,
		}
		table = append([]role.Component{admin.Component()}, table...)
	}
	var announcer sync.WaitGroup
	defer announcer.Wait()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	announcer.Go(func() { announce(ctx, health, a.logger) })
	return role.Run(ctx, table, role.Options{Logger: a.logger, Health: health, StopDeadline: f.stopDeadline})
}

// announceEvery is how often a role that waits looks whether it still does.
const announceEvery = time.Second

// announce logs what a role waits for, each time that this changes, and that it
// is ready, which ends it.
func announce(ctx context.Context, health *role.Health, logger *slog.Logger) {
	ticker := time.NewTicker(announceEvery)
	defer ticker.Stop()
	said := ""
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if health.Ready() {
			logger.Info("ready")
			return
		}
		var waits []string
		for _, s := range health.States() {
			if s.Waiting != "" {
				waits = append(waits, s.Component+": "+s.Waiting)
			}
		}
		if now := strings.Join(waits, "; "); now != said {
			said = now
			logger.Info("waiting", "for", now)
		}
	}
}

func newWatcherCommand(a *app) *cobra.Command {
	var (
		f roleFlags
		b busFlags
		c consulFlags
		s watcherSettings
		d string
	)
	cmd := &cobra.Command{
		Use:   "watcher",
		Short: "Keep CATALOG_<dc> equal to a datacenter's source",
		Example: "  isthmus watcher --datacenter dc1 --consul https://127.0.0.1:8501 --nats nats://127.0.0.1:4222\n" +
			"  isthmus watcher --datacenter dc1 --catalog ./catalog --nats nats://127.0.0.1:4222",
		Args: exactly(0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required("datacenter", s.datacenter); err != nil {
				return err
			}
			if s.catalog == "" {
				c.fromEnvironment(a)
			}
			switch {
			case c.url == "" && s.catalog == "":
				return usageError{errors.New("--consul (or CONSUL_HTTP_ADDR) or --catalog is missing: where the catalog comes from")}
			case c.url != "" && s.catalog != "":
				return usageError{errors.New("--consul and --catalog exclude each other: a catalog has one source")}
			case c.url != "":
				client, err := c.open(a)
				if err != nil {
					return err
				}
				s.consul = client
			}
			return a.runWatcher(cmd.Context(), f, b, s, d)
		},
	}
	cmd.Flags().StringVar(&s.datacenter, "datacenter", "", "name of the datacenter")
	cmd.Flags().StringVar(&s.catalog, "catalog", "", "directory with one directory per datacenter")
	cmd.Flags().StringVar(&s.trustDomain, "trust-domain", "", "trust domain; else that of the dev CA")
	cmd.Flags().StringVar(&d, "ca-dir", "", "directory of PEM files or of the dev CA; else the user's own")
	cmd.Flags().IntVar(&s.replicas, "replicas", 1, "servers that hold the stream")
	f.register(cmd)
	b.register(cmd)
	c.register(cmd)
	return cmd
}

func (a *app) runWatcher(ctx context.Context, f roleFlags, b busFlags, s watcherSettings, caDir string) error {
	log, err := b.connect(a, "watcher "+s.datacenter)
	if err != nil {
		return err
	}
	defer log.Close()
	if s.consul == nil {
		trust, err := a.openTrust(s.trustDomain, caDir)
		if err != nil {
			return err
		}
		s.trustDomain, s.ca = trust.domain, trust.ca
	}
	registry := newRegistry()
	w, err := watcherPart(a.parts(log, registry), s)
	if err != nil {
		return err
	}
	return a.runRole(ctx, f, registry, w)
}

func newResolverCommand(a *app) *cobra.Command {
	var (
		f          roleFlags
		b          busFlags
		datacenter string
		replicas   int
	)
	cmd := &cobra.Command{
		Use:     "resolver",
		Short:   "Keep ROUTES_<dc> equal to what the catalogs resolve to",
		Example: "  isthmus resolver --datacenter dc1 --nats nats://127.0.0.1:4222",
		Args:    exactly(0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required("datacenter", datacenter); err != nil {
				return err
			}
			log, err := b.connect(a, "resolver "+datacenter)
			if err != nil {
				return err
			}
			defer log.Close()
			registry := newRegistry()
			r, err := resolverPart(a.parts(log, registry), datacenter, replicas)
			if err != nil {
				return err
			}
			return a.runRole(cmd.Context(), f, registry, r)
		},
	}
	cmd.Flags().StringVar(&datacenter, "datacenter", "", "name of the datacenter")
	cmd.Flags().IntVar(&replicas, "replicas", 1, "servers that hold the stream")
	f.register(cmd)
	b.register(cmd)
	return cmd
}

// required wants flags to be set, given as name, value, name, value.
func required(flags ...string) error {
	for i := 0; i < len(flags); i += 2 {
		if flags[i+1] == "" {
			return usageError{fmt.Errorf("--%s is missing", flags[i])}
		}
	}
	return nil
}

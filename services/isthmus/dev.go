package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/services/role"
)

// devSettings are those of dev.
type devSettings struct {
	catalog, dir, caDir string
	// consul are the agents of existing datacenters; none: the catalog is files.
	consul []consulDatacenter
	agents consulFlags
	// dataplane is what the user asks for.
	dataplane dataplaneFlags
}

func newDevCommand(a *app) *cobra.Command {
	var (
		f      roleFlags
		s      devSettings
		consul []string
	)
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run two datacenters that keep running, for the other commands to find",
		Long: `Runs every role of every datacenter of a catalog in one process over loopback:
a NATS server, watchers, resolvers, the registered gateways and sidecars, and an
application beside each sidecar that answers with its name.

Edit the catalog's files while it runs. Every other command finds it without
flags: isthmus explain web, isthmus log --follow, isthmus gateways, …

With --consul it runs beside existing, federated Consul datacenters instead: it
follows their catalogs, and runs the gateways and sidecars that are registered on
the named agents' nodes, if their addresses are of this machine and free. The
sidecars' certificates come from those agents. Nothing is written to Consul.

With --dataplane envoy or mixed, sidecars and gateways are Envoys (mixed: all sidecars
and the last gateway), beside an xds node of each datacenter on loopback. Then the
agents' token needs service:write on isthmus-xds and on the gateways' service too.`,
		Example: `  isthmus dev
  isthmus dev --catalog ./catalog
  isthmus dev --dataplane envoy
  isthmus dev --consul dc1=http://127.0.0.1:8500,dc2=http://127.0.0.2:8500`,
		Args: exactly(0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if s.consul, err = parseConsulDatacenters(consul); err != nil {
				return err
			}
			if len(s.consul) > 0 && (s.catalog != "" || s.caDir != "") {
				return usageError{errors.New("--consul excludes --catalog and --ca-dir: catalog and certificates have one source")}
			}
			if !cmd.Flags().Changed("log-level") {
				a.logLevel = "warn"
				if err := a.makeLogger(); err != nil {
					return err
				}
			}
			return a.dev(cmd.Context(), f, s)
		},
	}
	cmd.Flags().StringVar(&s.catalog, "catalog", "", "directory with one directory per datacenter; else the built-in one")
	cmd.Flags().StringVar(&s.dir, "dir", "", "directory to keep the log and tables in; else a temporary one")
	cmd.Flags().StringVar(&s.caDir, "ca-dir", "", "directory of the dev CA; else the user's own")
	cmd.Flags().StringSliceVar(&consul, "consul", nil, "run beside Consul: DATACENTER=URL of an agent of each datacenter (by flag only)")
	onlyByFlag(cmd, "consul")
	s.dataplane.register(cmd, dataplaneGo, "what sidecars and gateways are: go, envoy, or mixed, which is Envoy sidecars and one Envoy gateway")
	s.agents.registerOptions(cmd)
	f.register(cmd)
	cmd.GroupID = "start"
	return cmd
}

func (a *app) dev(ctx context.Context, f roleFlags, s devSettings) (err error) {
	// Its page may be read by a program that ends sooner: that ends nothing here.
	signal.Ignore(syscall.SIGPIPE)
	if running, err := findDev(a.environment); err == nil {
		return hint{fmt.Errorf("process %d: %w", running.PID, errDevRuns), "use it, or end it first"}
	}
	if _, err := devStateDir(a.environment); err != nil {
		return hint{err, "set one of them, so that other commands find what runs"}
	}
	plane, err := s.dataplane.settle(a.environment)
	if err != nil {
		return err
	}
	dir := s.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "isthmus-dev-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	w, caDir, err := a.openDevWorld(ctx, dir, s)
	if err != nil {
		return err
	}
	defer w.close()
	w.choose(plane)
	table, err := w.table()
	if err != nil {
		return err
	}
	// Without an address of the user's own, other commands still find its counters.
	f.adminBind = cmp.Or(f.adminBind, "127.0.0.1:0")
	f.serveCounters(w.goGateways)
	return a.runRole(ctx, f, w.registry, append(table, w.statePart(caDir))...)
}

// openDevWorld is the world that is asked for, and the directory of its dev CA.
func (a *app) openDevWorld(ctx context.Context, dir string, s devSettings) (*world, string, error) {
	if len(s.consul) > 0 {
		w, err := newConsulWorld(ctx, a, dir, s.agents, s.consul)
		return w, "", err
	}
	caDir := cmp.Or(s.caDir, a.userCADir())
	ca, err := identity.OpenDevCA(caDir, identity.DevCAConfig{})
	if err != nil {
		return nil, "", hint{err, "give another --ca-dir"}
	}
	w, err := devWorld(a, s.catalog, dir, ca)
	return w, caDir, err
}

// devWorld is the world of the catalog that is asked for, else of the directory's
// own copy of the built-in one, which is made if there is none.
func devWorld(a *app, asked, dir string, ca *identity.DevCA) (*world, error) {
	if asked != "" {
		return newWorld(a, asked, dir, ca)
	}
	catalog := filepath.Join(dir, "catalog")
	switch _, err := os.Stat(catalog); {
	case errors.Is(err, os.ErrNotExist):
		return newBuiltInWorld(a, catalog, dir, ca)
	case err != nil:
		return nil, err
	}
	return newWorld(a, catalog, dir, ca)
}

// statePart tells where dev is: other commands by a file, a person by a page.
func (w *world) statePart(caDir string) role.Component {
	return role.Component{
		Name: "state file",
		Run: func(ctx context.Context, started func()) (err error) {
			if err := writeDevState(w.app.environment, w.devState(caDir)); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, removeDevState(w.app.environment, os.Getpid())) }()
			started()
			w.introduce()
			return w.introduceEnvoys(ctx)
		},
	}
}

func (w *world) devState(caDir string) devState {
	state := devState{
		PID: os.Getpid(), Started: time.Now(), NATS: w.server.URL(), Catalog: w.catalog,
		TrustDomain: w.trustDomain, CADir: caDir,
	}
	for _, dc := range w.datacenters {
		d := devDatacenter{Name: dc}
		for _, g := range w.gateways {
			if g.datacenter == dc {
				node := devNode{Name: g.name, Address: g.listen[0]}
				if g.running != nil {
					node.Admin = g.running.AdminAddress()
				}
				d.Gateways = append(d.Gateways, node)
			}
		}
		for _, s := range w.sidecars {
			if s.datacenter == dc {
				d.Sidecars = append(d.Sidecars, devNode{Name: s.proxy(), Address: s.public})
			}
		}
		state.Datacenters = append(state.Datacenters, d)
	}
	return state
}

// introduce prints what runs where, and what to do with it.
func (w *world) introduce() {
	if w.agents != nil {
		w.introduceConsul()
		return
	}
	out := w.app.stdout
	fmt.Fprintf(out, "isthmus dev runs: NATS at %s, catalog in %s\n", w.server.URL(), w.catalog)
	for _, dc := range w.datacenters {
		fmt.Fprintf(out, "\n  %s\n", dc)
		w.introduceGateways(dc)
		for _, a := range w.apps {
			if a.datacenter == dc {
				fmt.Fprintf(out, "    service   %-28s %s\n", a.service+" on "+a.node, a.address)
			}
		}
		w.introduceUpstreams(dc)
	}
	fmt.Fprintf(out, "\nTry: isthmus explain web · isthmus log --follow · isthmus gateways · edit %s\n", filepath.Join(w.catalog, "dc1", "proxy-defaults.hcl"))
}

func (w *world) introduceGateways(dc string) {
	for _, g := range w.gateways {
		if g.datacenter == dc {
			fmt.Fprintf(w.app.stdout, "    gateway   %-28s %s\n", g.name, strings.Join(g.listen, ", "))
		}
	}
}

// introduceEnvoys says of each Envoy where its admin server is, once it is live, until
// ctx ends.
func (w *world) introduceEnvoys(ctx context.Context) error {
	for _, e := range w.envoys() {
		if err := e.wait(ctx); err != nil {
			return err
		}
		fmt.Fprintf(w.app.stdout, "Envoy is live: %s %s in %s, admin server http://%s\n", e.kind(), e.proxy(), e.datacenter, e.adminAddress())
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (w *world) introduceUpstreams(dc string) {
	for _, s := range w.sidecars {
		for _, u := range s.instance.GetProxy().GetUpstreams() {
			if s.datacenter == dc {
				fmt.Fprintf(w.app.stdout, "    upstream  %-28s http://%s\n", s.instance.GetProxy().GetDestinationServiceName()+" → "+
					u.GetDestinationName()+"@"+cmp.Or(u.GetDatacenter(), dc), hostPort(cmp.Or(u.GetLocalBindAddress(), "127.0.0.1"), u.GetLocalBindPort()))
			}
		}
	}
}

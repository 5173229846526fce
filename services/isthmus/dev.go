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
}

func newDevCommand(a *app) *cobra.Command {
	var (
		f roleFlags
		s devSettings
	)
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run two datacenters that keep running, for the other commands to find",
		Long: `Runs every role of every datacenter of a catalog in one process over loopback:
a NATS server, watchers, resolvers, the registered gateways and sidecars, and an
application beside each sidecar that answers with its name.

Edit the catalog's files while it runs. Every other command finds it without
flags: isthmus explain web, isthmus log --follow, isthmus gateways, …`,
		Example: `  isthmus dev
  isthmus dev --catalog ./catalog`,
		Args: exactly(0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
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
	dir := s.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "isthmus-dev-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	caDir := cmp.Or(s.caDir, a.userCADir())
	ca, err := identity.OpenDevCA(caDir, identity.DevCAConfig{})
	if err != nil {
		return hint{err, "give another --ca-dir"}
	}
	w, err := devWorld(a, s.catalog, dir, ca)
	if err != nil {
		return err
	}
	defer w.close()
	table, err := w.table()
	if err != nil {
		return err
	}
	return a.runRole(ctx, f, w.registry, append(table, w.statePart(caDir))...)
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
			<-ctx.Done()
			return context.Cause(ctx)
		},
	}
}

func (w *world) devState(caDir string) devState {
	state := devState{
		PID: os.Getpid(), Started: time.Now(), NATS: w.server.URL(), Catalog: w.catalog,
		TrustDomain: w.ca.TrustDomain(), CADir: caDir,
	}
	for _, dc := range w.datacenters {
		d := devDatacenter{Name: dc}
		for _, g := range w.gateways {
			if g.datacenter == dc {
				d.Gateways = append(d.Gateways, devNode{Name: g.name, Address: g.listen[0]})
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
	out := w.app.stdout
	fmt.Fprintf(out, "isthmus dev runs: NATS at %s, catalog in %s\n", w.server.URL(), w.catalog)
	for _, dc := range w.datacenters {
		fmt.Fprintf(out, "\n  %s\n", dc)
		for _, g := range w.gateways {
			if g.datacenter == dc {
				fmt.Fprintf(out, "    gateway   %-28s %s\n", g.name, strings.Join(g.listen, ", "))
			}
		}
		for _, a := range w.apps {
			if a.datacenter == dc {
				fmt.Fprintf(out, "    service   %-28s %s\n", a.service+" on "+a.node, a.address)
			}
		}
		for _, s := range w.sidecars {
			for _, u := range s.instance.GetProxy().GetUpstreams() {
				if s.datacenter == dc {
					fmt.Fprintf(out, "    upstream  %-28s http://%s\n", s.instance.GetProxy().GetDestinationServiceName()+" → "+
						u.GetDestinationName()+"@"+cmp.Or(u.GetDatacenter(), dc), hostPort(cmp.Or(u.GetLocalBindAddress(), "127.0.0.1"), u.GetLocalBindPort()))
				}
			}
		}
	}
	fmt.Fprintf(out, "\nTry: isthmus explain web · isthmus log --follow · isthmus gateways · edit %s\n", filepath.Join(w.catalog, "dc1", "proxy-defaults.hcl"))
}

package main

import (
	"github.com/spf13/cobra"
)

func newXDSCommand(a *app) *cobra.Command {
	var (
		f roleFlags
		r routesFlags
		s xdsSettings
	)
	cmd := &cobra.Command{
		Use:   "xds",
		Short: "Serve Envoys what the routes of a datacenter come to",
		Long: `Runs an xds node: it reads ROUTES_<dc>, and serves Envoys by their aggregated
discovery service, as Consul's agents do. Any number of nodes may run; each gives the
same version to the same resource, so that an Envoy may go from one to another and is
sent nothing that it has.

Served are Envoys that are mesh gateways, by the incremental protocol that
"isthmus bootstrap" configures. A node listens on loopback only.`,
		Example: `  isthmus xds --datacenter dc1 --nats nats://127.0.0.1:4222 --listen 127.0.0.1:9510
  isthmus xds --datacenter dc1 --catalog ./catalog --listen 127.0.0.1:9510`,
		Args: exactly(0, "only flags"),
	}
	cmd.Flags().StringVar(&s.listen, "listen", "127.0.0.1:9510", "address where Envoys connect, IP:PORT")
	r.register(cmd)
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		registry := newRegistry()
		p, table, done, err := r.open(a, "xds "+r.datacenter, registry)
		if err != nil {
			return err
		}
		defer done()
		s.datacenter = r.datacenter
		component, err := xdsPart(p, s)
		if err != nil {
			return err
		}
		return a.runRole(cmd.Context(), f, registry, append(table, component)...)
	}
	return cmd
}

package main

import (
	"time"

	"github.com/spf13/cobra"
)

func newXDSCommand(a *app) *cobra.Command {
	var (
		f roleFlags
		r routesFlags
		c consulFlags
		s xdsSettings
	)
	cmd := &cobra.Command{
		Use:   "xds",
		Short: "Serve Envoys what the routes of a datacenter come to",
		Long: `Runs an xds node: it reads ROUTES_<dc>, and serves Envoys by their aggregated
discovery service, as Consul's agents do. Any number of nodes may run; each gives the
same version to the same resource, so that an Envoy may go from one to another and is
sent nothing that it has.

Served are Envoys that are sidecars or mesh gateways, by the incremental protocol,
which "isthmus envoy" and "isthmus bootstrap" configure, or by state of the world.

With --consul or --ca-dir a node shows itself as the service isthmus-xds, and serves
those alone that show a certificate: a proxy's resources go to the identity of its
service, and to nobody else. The certificate comes from the local Consul agent, with a
token that has service:write on isthmus-xds and nothing else, or from PEM files or the
dev CA of a directory. Once it is there, nothing is asked of Consul. Without either a
node listens on loopback only, and serves whoever connects.`,
		Example: `  isthmus xds --datacenter dc1 --nats nats://127.0.0.1:4222 --consul http://127.0.0.1:8500 --listen 0.0.0.0:9510
  isthmus xds --datacenter dc1 --nats nats://127.0.0.1:4222 --listen 127.0.0.1:9510
  isthmus xds --datacenter dc1 --catalog ./catalog --listen 127.0.0.1:9510`,
		Args: exactly(0, "only flags"),
	}
	cmd.Flags().StringVar(&s.listen, "listen", "127.0.0.1:9510", "address where Envoys connect, IP:PORT")
	cmd.Flags().DurationVar(&s.streamAge, "stream-age", 30*time.Minute, "how long an Envoy's stream lives, more or less; it then connects anew, so that added nodes get their share; 0: for ever")
	r.register(cmd)
	c.register(cmd)
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if c.url != "" || r.files.caDir != "" {
			source, err := a.certificates(r, c)
			if err != nil {
				return err
			}
			s.identity = source
		}
		registry := newRegistry()
		p, table, done, err := r.open(a, "xds "+r.datacenter, registry)
		if err != nil {
			return err
		}
		defer done()
		s.datacenter, s.silent = r.datacenter, r.files.catalog != ""
		component, err := xdsPart(p, s)
		if err != nil {
			return err
		}
		return a.runRole(cmd.Context(), f, registry, append(table, component)...)
	}
	return cmd
}

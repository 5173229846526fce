package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
)

func newBootstrapCommand(a *app) *cobra.Command {
	var (
		proxy   proxyFlags
		f       bootstrapFlags
		c       consulFlags
		service string
	)
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Print what an Envoy starts with",
		Long: `Prints the configuration that an Envoy starts with: who it is, and which xds nodes
it asks for the rest. "envoy -c" takes it. The proxy must be registered with Consul,
or stand in the catalog's files.

Nothing is asked of Consul, unless --consul names the local agent: then that says
which proxy is the sidecar, and the keys of the registration's proxy.config that
concern the bootstrap count where no flag does. Without it, the sidecar of the
service web is web-sidecar-proxy, as Consul names it.

With --sds, the socket of "isthmus sds" or of your own, the xds nodes are spoken to
over mutual TLS, and must be the service isthmus-xds of --datacenter in
--trust-domain. Without, they are spoken to in plain text.`,
		Example: `  isthmus bootstrap --gateway mesh-gateway --xds 127.0.0.1:9510 > gateway.json
  isthmus bootstrap --sidecar-for web --xds xds.internal:9510 --sds /run/isthmus/web.sock \
      --datacenter dc1 --trust-domain 11111111-2222-3333-4444-555555555555.consul > web.json
  envoy -c web.json`,
		GroupID: "role",
		Args:    exactly(0, "only flags"),
	}
	flags := cmd.Flags()
	proxy.register(cmd)
	f.register(cmd)
	flags.StringVar(&f.config.SDS, "sds", "", "socket where Envoy gets its certificate and the roots; empty: none, and no TLS")
	flags.StringVar(&service, "service", "", "name of the service, for tags; else that of the registration, or the ID")
	flags.StringVar(&f.config.Datacenter, "datacenter", "", "name of the own datacenter")
	flags.StringVar(&f.config.TrustDomain, "trust-domain", "", "trust domain of the mesh")
	c.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := proxy.check(); err != nil {
			return err
		}
		p := proxy.byName()
		p.service = proxy.sidecarFor
		if c.url != "" {
			client, err := c.open(a)
			if err != nil {
				return err
			}
			if p, err = proxy.byAgent(cmd.Context(), client); err != nil {
				return err
			}
		}
		if service != "" {
			p.service = service
		}
		if f.config.Datacenter != "" {
			p.datacenter = f.config.Datacenter
		}
		config, err := f.read(a, p)
		if err != nil {
			return err
		}
		text, err := bootstrap.Render(config)
		if err != nil {
			return err
		}
		if _, err = a.stdout.Write(text); err != nil {
			return err
		}
		if proxy.sidecarFor != "" && config.SDS == "" && config.Template.Text == "" && config.Clusters.Text == "" {
			fmt.Fprintln(a.stderr, `next: without its certificate a sidecar waits for it, and listens nowhere; serve it with "isthmus sds", and give that socket with --sds`)
		}
		return nil
	}
	return cmd
}

package main

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/identity"
)

func newSDSCommand(a *app) *cobra.Command {
	var (
		f      roleFlags
		c      consulFlags
		proxy  proxyFlags
		leaf   = leafFlags{consul: &c}
		socket string
	)
	cmd := &cobra.Command{
		Use:   "sds",
		Short: "Serve the Envoy beside it its certificate and the roots",
		Long: `Serves one Envoy, over a unix socket that only this user may connect to, the two
secrets that its bootstrap and its resources name: leaf (certificate and key) and
roots. They are renewed while it runs; the key stays in memory. It is for those who
start Envoy themselves; "isthmus envoy" does both.

The certificate is that of the service of the registration --for: a sidecar's
destination, a mesh gateway's own name. The local Consul agent knows it (--consul),
and hands out the certificate for a token with service:write on the service. An
agent that has lost its servers goes on doing so. Without Consul the certificate
comes from --ca-dir: PEM files (cert.pem, key.pem, roots.pem), or a dev CA, which is
made there if there is none; --service and --datacenter then say whose it is. Give
them with Consul, and the registration is not asked for.`,
		Example: `  isthmus sds --for web-sidecar-proxy --consul http://127.0.0.1:8500 --socket /run/isthmus/web.sock
  isthmus sds --service web --datacenter dc1 --ca-dir ./certificates --socket /run/isthmus/web.sock`,
		Args: exactly(0, "only flags"),
	}
	flags := cmd.Flags()
	flags.StringVar(&proxy.id, "for", "", "the proxy: NODE/ID, or ID")
	flags.StringVar(&proxy.node, "node-name", "", "node that the agent must be of")
	flags.StringVar(&leaf.service, "service", "", "name of the service whose certificate it is; else that of the registration")
	flags.StringVar(&socket, "socket", "", "path of the socket; else isthmus/sds-ID.sock in the directory of the user's running programs")
	leaf.register(cmd)
	c.register(cmd)
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if proxy.id == "" && leaf.service == "" {
			return usageError{errors.New("--for or --service is missing: whose certificate to serve")}
		}
		if node, id, ok := strings.Cut(proxy.id, "/"); ok {
			proxy.id, proxy.node = id, cmp.Or(proxy.node, node)
		}
		if err := leaf.check(a); err != nil {
			return err
		}
		if socket == "" {
			var err error
			if socket, err = a.secretsSocket(proxy.id + leaf.service); err != nil {
				return err
			}
		}
		part := secretsPart(a.logger, socket, func(ctx context.Context) (identity.Source, identity.Name, error) {
			source, p, err := leaf.open(ctx, a, proxy)
			return source, p.name(), err
		})
		return a.runRole(cmd.Context(), f, newRegistry(), part)
	}
	return cmd
}

// secretsSocket is where the secrets of a proxy are served unless a flag says it.
func (a *app) secretsSocket(of string) (string, error) {
	dir, err := devStateDir(a.environment)
	if err != nil {
		return "", hint{err, "give --socket"}
	}
	return filepath.Join(dir, "sds-"+url.PathEscape(of)+".sock"), nil
}

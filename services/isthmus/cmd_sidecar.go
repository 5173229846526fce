package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/identity"
)

func newSidecarCommand(a *app) *cobra.Command {
	var (
		f         roleFlags
		r         routesFlags
		c         consulFlags
		s         sidecarSettings
		accessLog string
	)
	cmd := &cobra.Command{
		Use:   "sidecar",
		Short: "Carry one service's connections over mutual TLS",
		Long: `Runs the Go sidecar (layer 4) of one registered proxy: a local listener for each
upstream, and the public listener where callers must show a certificate and be
let in by intentions.

Its routes come from the bus (--nats), or from files alone (--catalog). Its
certificate comes from the local Consul agent (--consul), with a token that has
service:write on the service and nothing else; the key stays in memory. Without
Consul it comes from --ca-dir: PEM files (cert.pem, key.pem, roots.pem), or a dev
CA, which is made there if there is none.`,
		Example: `  isthmus sidecar --datacenter dc1 --nats nats://127.0.0.1:4222 --consul http://127.0.0.1:8500 --for web-sidecar-proxy
  isthmus sidecar --datacenter dc1 --nats nats://127.0.0.1:4222 --for web-sidecar-proxy
  isthmus sidecar --datacenter dc1 --catalog ./catalog --for node-1/web-sidecar-proxy`,
		Args: exactly(0, "only flags"),
	}
	flags := cmd.Flags()
	flags.StringVar(&s.proxy, "for", "", "the proxy: NODE/ID, or ID where that is unique")
	flags.StringVar(&s.stateFile, "state-file", "", "file that keeps the last good routes")
	flags.StringVar(&accessLog, "access-log", "", "file that gets a line per connection; - is standard output")
	r.register(cmd)
	c.register(cmd)
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := required("for", s.proxy); err != nil {
			return err
		}
		source, err := a.certificates(r, c)
		if err != nil {
			return err
		}
		s.identity = source
		registry := newRegistry()
		p, table, done, err := r.open(a, "sidecar "+s.proxy, registry)
		if err != nil {
			return err
		}
		defer done()
		out, err := a.openAccessLog(accessLog)
		if err != nil {
			return err
		}
		if out != nil {
			s.accessLog = slog.New(slog.NewJSONHandler(out, nil))
		}
		s.datacenter, s.silent = r.datacenter, r.files.catalog != ""
		component, _, err := sidecarPart(p, s)
		if err != nil {
			return err
		}
		return a.runRole(cmd.Context(), f, registry, append(table, component)...)
	}
	return cmd
}

// certificates is where the certificate of a role comes from.
func (a *app) certificates(r routesFlags, c consulFlags) (identity.Source, error) {
	switch {
	case c.url == "":
		if err := r.check(); err != nil { // Before a dev CA is made.
			return nil, err
		}
		return a.openIdentity(r.files.trustDomain, r.files.caDir)
	case r.files.catalog != "":
		return nil, usageError{errors.New("--consul and --catalog exclude each other: the certificates of files are not those of Consul")}
	case r.files.caDir != "" || r.files.trustDomain != "":
		return nil, usageError{errors.New("--consul excludes --ca-dir and --trust-domain: certificates have one source")}
	}
	client, err := c.open(a)
	if err != nil {
		return nil, err
	}
	return client.Leaves(), nil
}

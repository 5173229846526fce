package main

import (
	"log/slog"

	"github.com/spf13/cobra"
)

func newSidecarCommand(a *app) *cobra.Command {
	var (
		f         roleFlags
		r         routesFlags
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
certificate comes from --ca-dir: PEM files (cert.pem, key.pem, roots.pem), or a
dev CA, which is made there if there is none.`,
		Example: `  isthmus sidecar --datacenter dc1 --nats nats://127.0.0.1:4222 --for web-sidecar-proxy
  isthmus sidecar --datacenter dc1 --catalog ./catalog --for node-1/web-sidecar-proxy`,
		Args: exactly(0, "only flags"),
	}
	flags := cmd.Flags()
	flags.StringVar(&s.proxy, "for", "", "the proxy: NODE/ID, or ID where that is unique")
	flags.StringVar(&s.stateFile, "state-file", "", "file that keeps the last good routes")
	flags.StringVar(&accessLog, "access-log", "", "file that gets a line per connection; - is standard output")
	r.register(cmd)
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := required("for", s.proxy); err != nil {
			return err
		}
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
		if s.identity, err = a.openIdentity(r.files.trustDomain, r.files.caDir); err != nil {
			return err
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

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bus/embed"
	"github.com/isthmus-mesh/isthmus/services/role"
)

func newBusCommand(a *app) *cobra.Command {
	var (
		f      roleFlags
		listen string
		o      embed.Options
	)
	cmd := &cobra.Command{
		Use:   "bus",
		Short: "Run a NATS server with JetStream for the log",
		Long: `Runs one embedded nats-server. It suits one machine and tests; in production run
your own NATS servers, three to a datacenter, and give their URLs to the roles.`,
		Example: "  isthmus bus --listen 127.0.0.1:4222 --store-dir ./nats",
		Args:    exactly(0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, port, err := net.SplitHostPort(listen)
			if err != nil {
				return usageError{fmt.Errorf("--listen: %w", err)}
			}
			if o.Port, err = strconv.Atoi(port); err != nil {
				return usageError{fmt.Errorf("--listen: the port %q is not a number", port)}
			}
			o.Host, o.Logger = host, a.logger
			return a.runRole(cmd.Context(), f, newRegistry(), busPart(o, func(url string) {
				a.logger.Info("the bus is ready", "url", url)
			}))
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:4222", "address to listen on")
	cmd.Flags().StringVar(&o.StoreDir, "store-dir", filepath.Join(stateDir(a.environment), "nats"), "directory of the streams")
	cmd.Flags().StringVar(&o.Domain, "domain", "", "JetStream domain; needed to link datacenters")
	cmd.Flags().IntVar(&o.LeafPort, "leaf-port", 0, "port where other datacenters' servers may link")
	cmd.Flags().StringSliceVar(&o.LeafRemotes, "leaf-remote", nil, "URL of a datacenter's servers to link to")
	cmd.Flags().BoolVar(&o.SyncAlways, "sync-always", true, "make every write durable before it is answered")
	f.register(cmd)
	return cmd
}

// busPart runs an embedded server. ready is told its URL.
func busPart(o embed.Options, ready func(url string)) role.Component {
	return role.Component{
		Name: "bus",
		Run: func(ctx context.Context, started func()) error {
			server, err := embed.Start(o)
			if err != nil {
				return err
			}
			defer server.Stop()
			ready(server.URL())
			started()
			<-ctx.Done()
			return context.Cause(ctx)
		},
	}
}

// stateDir is where this user's Isthmus keeps what outlives a process.
func stateDir(environment func(string) string) string {
	if dir := environment("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "isthmus")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "isthmus")
	}
	return filepath.Join(os.TempDir(), "isthmus-"+strconv.Itoa(os.Getuid()))
}

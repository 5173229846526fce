package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
)

func newBootstrapCommand(a *app) *cobra.Command {
	var (
		c            bootstrap.Config
		nodes, admin string
	)
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Print what an Envoy starts with",
		Long: `Prints the configuration that an Envoy starts with: who it is, and which xds nodes
it asks for the rest. "envoy -c" takes it. The proxy must be registered, as by
"consul connect envoy -gateway=mesh -register", or stand in the catalog's files.`,
		Example: `  isthmus bootstrap --gateway mesh-gateway --xds 127.0.0.1:9510 > gateway.json
  envoy -c gateway.json`,
		GroupID: "role",
		Args:    exactly(0, "only flags"),
	}
	flags := cmd.Flags()
	flags.StringVar(&c.ID, "gateway", "", "ID of the mesh gateway's registration")
	flags.StringVar(&c.Node, "node-name", "", "node that it is registered on, where the ID stands on several")
	flags.StringVar(&nodes, "xds", "", "addresses of xds nodes, HOST:PORT, several by commas")
	flags.StringVar(&admin, "admin-bind", "127.0.0.1:19000", "where Envoy's admin server listens, IP:PORT; empty: nowhere")
	cmd.RunE = func(*cobra.Command, []string) error {
		if err := errors.Join(required("gateway", c.ID), required("xds", nodes)); err != nil {
			return err
		}
		var err error
		if c.Nodes, err = xdsNodes(nodes); err != nil {
			return err
		}
		if admin != "" {
			if c.Admin, err = netip.ParseAddrPort(admin); err != nil {
				return usageError{fmt.Errorf("--admin-bind %q is not IP:PORT", admin)}
			}
		}
		text, err := bootstrap.JSON(c)
		if err != nil {
			return err
		}
		_, err = a.stdout.Write(text)
		return err
	}
	return cmd
}

// xdsNodes reads --xds.
func xdsNodes(text string) ([]bootstrap.HostPort, error) {
	var out []bootstrap.HostPort
	for part := range strings.SplitSeq(text, ",") {
		host, port, err := net.SplitHostPort(strings.TrimSpace(part))
		n, bad := strconv.ParseUint(port, 10, 16)
		if err != nil || bad != nil || n == 0 || host == "" {
			return nil, usageError{fmt.Errorf("--xds: %q is not HOST:PORT", part)}
		}
		out = append(out, bootstrap.HostPort{Host: host, Port: uint16(n)})
	}
	return out, nil
}

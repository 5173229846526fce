package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/dump"
)

func newProxyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "proxy",
		Short:   "What one proxy is served",
		Example: "  isthmus proxy config n1/web-sidecar-proxy",
		GroupID: "ask",
		Args:    exactly(0, "a command of its own: config"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newProxyConfigCommand(a))
	return cmd
}

func newProxyConfigCommand(a *app) *cobra.Command {
	var (
		flags        sourceFlags
		at           uint64
		kind, output string
	)
	cmd := &cobra.Command{
		Use:   "config PROXY",
		Short: "What xds nodes serve a proxy, by type: listeners, clusters, endpoints, routes",
		Long: `Show the resources that every xds node serves a proxy, out of the routes in the log,
each with its version and what it leads to; as JSON an Envoy config dump by type. A
proxy is NODE/ID, or its ID where that is unique. "isthmus proxies" shows what the
proxy has taken in of that.

With files (--catalog), or at an earlier place of the datacenter's catalog (--at), it
shows what would be served by today's rules.`,
		Example: `  isthmus proxy config n1/web-sidecar-proxy
  isthmus proxy config n1/web-sidecar-proxy --type cluster -o json
  isthmus proxy config --catalog ./catalog n1/mesh-gateway`,
		Args: exactly(1, "PROXY"),
	}
	flags.register(a, cmd, true)
	cmd.GroupID = ""
	cmd.Flags().Uint64Var(&at, "at", 0, "as of this sequence of the datacenter's catalog")
	cmd.Flags().StringVar(&kind, "type", "", "show only this type: "+strings.Join(dump.Words(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(dump.Words(), cobra.ShellCompDirectiveNoFileComp))
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		json, err := asJSON(output)
		if err != nil {
			return err
		}
		types, ok := dump.Types(kind)
		if !ok {
			return usageError{fmt.Errorf("--type is one of %s, not %q", strings.Join(dump.Words(), ", "), kind)}
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		source, err := flags.open(ctx, a)
		if err != nil {
			return err
		}
		defer source.close()
		proxy, err := source.served(ctx, args[0], at)
		if err != nil {
			return err
		}
		if json {
			text, err := dump.JSON(proxy, types)
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(text)
			return err
		}
		return a.printServed(proxy, types)
	}
	return cmd
}

func (a *app) printServed(proxy *xdsnode.Proxy, types []xdsnode.Type) error {
	lines, err := dump.Lines(proxy, types)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		fmt.Fprintf(a.stdout, "%s is served nothing of that\n", proxy.Name())
		return nil
	}
	rows := make([][]string, len(lines))
	for i, l := range lines {
		rows[i] = []string{l.Type, l.Name, l.Version, strings.Join(l.LeadsTo, ", ")}
	}
	a.printTable([]string{"TYPE", "NAME", "VERSION", "LEADS TO"}, rows)
	for _, p := range proxy.Problems() {
		fmt.Fprintf(a.stdout, "problem %s: %s\n", p.GetCode(), p.GetText())
	}
	return nil
}

// served finds a proxy, and what it is served, in the only datacenter that has it.
func (s *source) served(ctx context.Context, name string, at uint64) (*xdsnode.Proxy, error) {
	node, id, qualified := strings.Cut(name, "/")
	if !qualified {
		node, id = "", name
	}
	var (
		found  []*xdsnode.Proxy
		in     []string
		misses []error
	)
	for _, dc := range s.datacenters {
		machine, err := s.servedIn(ctx, dc, at)
		if err != nil {
			return nil, earlier(err, at)
		}
		p, err := machine.Find(node, id)
		switch {
		case err == nil:
			found, in = append(found, p), append(in, dc)
		case errors.Is(err, xdsnode.ErrNoProxy):
			misses = append(misses, fmt.Errorf("%s: %w", dc, err))
		default:
			return nil, fmt.Errorf("%s: %w", dc, err)
		}
	}
	switch len(found) {
	case 0:
		return nil, errors.Join(misses...)
	case 1:
		return found[0], nil
	}
	slices.Sort(in)
	return nil, hint{fmt.Errorf("%q is in several datacenters: %s", name, strings.Join(in, ", ")), "name one with --datacenter"}
}

// servedIn is what the xds nodes of a datacenter serve: by the routes in the log, else by
// those that the catalogs come to.
func (s *source) servedIn(ctx context.Context, datacenter string, at uint64) (*xdsnode.Machine, error) {
	if s.kept && at == 0 {
		return history.Served(ctx, s.log, datacenter)
	}
	moment, err := s.moment(ctx, datacenter, at)
	if err != nil {
		return nil, err
	}
	return history.ServedAt(datacenter, moment), nil
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/history"
)

func newProxiesCommand(a *app) *cobra.Command {
	var (
		flags  sourceFlags
		output string
	)
	cmd := &cobra.Command{
		Use:   "proxies",
		Short: "Every proxy: who runs it, how far it is, what it refused",
		Long: `Show the proxies that the routes serve, beside what their sidecars and xDS nodes
report: whether they are connected, how far behind the routes they are, the last
refusal, and how old the report is.`,
		Example: `  isthmus proxies
  isthmus proxies --datacenter dc1 -o json`,
		Args: exactly(0, "only flags"),
	}
	flags.register(a, cmd, false)
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		proxies := []history.ProxyStatus{}
		asked, err := a.statuses(cmd.Context(), &flags, output, func(s *history.Status) { proxies = append(proxies, s.Proxies...) })
		if err != nil {
			return err
		}
		if asked {
			return printJSON(a.stdout, proxies)
		}
		rows := make([][]string, len(proxies))
		for i, p := range proxies {
			rows[i] = proxyRow(p)
		}
		a.printTable([]string{"DC", "PROXY", "SERVICE", "STATE", "ROUTES", "REPORTED BY", "REPORT", "PROBLEMS"}, rows)
		return nil
	}
	return cmd
}

func proxyRow(p history.ProxyStatus) []string {
	// Whose data plane is another's, as Consul's own Envoy, never reports.
	state := "not reported"
	switch {
	case p.Connected:
		state = "connected"
	case p.Age != nil:
		state = "not running"
	}
	if !p.Registered {
		state += ", not registered"
	}
	problems := ""
	if len(p.Problems) > 0 {
		problems = fmt.Sprintf("%d, first %s", len(p.Problems), p.Problems[0].Code)
	}
	if p.LastNack != nil {
		problems += " refused " + p.LastNack.Resource + ": " + p.LastNack.Detail
	}
	return []string{p.Datacenter, p.Proxy, p.Service, state, progressText(p.Progress), p.Reporter, ageText(p.Age), problems}
}

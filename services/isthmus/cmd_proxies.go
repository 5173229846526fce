package main

import (
	"fmt"
	"time"

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
		Long: `Show the proxies that the routes serve, beside what their sidecars and xds nodes
report: whether they are connected and to whom, the basis that they run and how far
that is behind the routes, the last refusal, and how old the report is. A mesh gateway
is shown when somebody reports of it; "isthmus gateways" shows them all.`,
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
		a.printTable([]string{"DC", "PROXY", "SERVICE", "STATE", "CONNECTED TO", "BASIS", "BEHIND", "REPORT", "LAST NACK", "PROBLEMS"}, rows)
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
	return []string{
		p.Datacenter, p.Proxy, p.Service, state, p.Reporter, p.BasisText(), behindText(p.Behind),
		ageText(p.Age), nackText(p.LastNack), problems,
	}
}

// behindText is how far a proxy is behind the routes.
func behindText(b *history.Behind) string {
	switch {
	case b == nil:
		return ""
	case b.Events == 0:
		return "no"
	}
	return fmt.Sprintf("%s, %s", count(int(b.Events), "event"), time.Duration(b.Milliseconds)*time.Millisecond) //nolint:gosec // A number of messages.
}

// nackText is a refusal, and whether it still stands.
func nackText(n *history.NackStatus) string {
	if n == nil {
		return ""
	}
	text := fmt.Sprintf("%s at #%d: %s", n.Resource, n.Cause, n.Detail)
	if n.Over {
		text += " (over)"
	}
	return text
}

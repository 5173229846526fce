package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/history"
)

func newGatewaysCommand(a *app) *cobra.Command {
	var (
		flags  sourceFlags
		output string
	)
	cmd := &cobra.Command{
		Use:   "gateways",
		Short: "Every mesh gateway: registered, running, how far, what it carries",
		Long: `Show the mesh gateways that the catalogs register, beside what they report: state,
connections, how far behind the routes they are, and how old the report is. Below
that, what is wrong with a gateway's registration, and which of its settings the
gateway does not honour. "isthmus gateways top" shows live what they carry.`,
		Example: `  isthmus gateways
  isthmus gateways --datacenter dc2 -o json
  isthmus gateways top`,
		Args: exactly(0, "only flags, or a command of its own: top"),
	}
	cmd.AddCommand(newGatewaysTopCommand(a))
	flags.register(a, cmd, false)
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		gateways := []history.GatewayStatus{}
		asked, err := a.statuses(cmd.Context(), &flags, output, func(s *history.Status) { gateways = append(gateways, s.Gateways...) })
		if err != nil {
			return err
		}
		if asked {
			return printJSON(a.stdout, gateways)
		}
		rows := make([][]string, len(gateways))
		for i, g := range gateways {
			rows[i] = gatewayRow(g)
		}
		a.printTable([]string{"DC", "GATEWAY", "LAN", "WAN", "CHECKS", "STATE", "ROUTES", "OPEN", "TOTAL", "REFUSED", "REPORT"}, rows)
		for _, g := range gateways {
			a.printGateway(g)
		}
		return nil
	}
	return cmd
}

// printGateway prints what does not fit a row: what is wrong with a gateway, and
// what it does not honour.
func (a *app) printGateway(g history.GatewayStatus) {
	for _, p := range g.Problems {
		fmt.Fprintf(a.stdout, "%s: %s: %s\n", g.Name, p.Code, p.Problem)
		if p.Fix != "" {
			fmt.Fprintf(a.stdout, "  next: %s\n", p.Fix)
		}
	}
	if len(g.NotHonoured) > 0 {
		fmt.Fprintf(a.stdout, "%s: not honoured: %s\n", g.Name, strings.Join(g.NotHonoured, ", "))
	}
}

func gatewayRow(g history.GatewayStatus) []string {
	checks, state := g.Health, g.State
	if !g.Registered {
		checks = "not registered"
	}
	if g.SavedTable {
		state += ", saved table"
	}
	if len(g.Ejected) > 0 {
		state += fmt.Sprintf(", %d ejected", len(g.Ejected))
	}
	return []string{
		g.Datacenter, g.Name, g.LAN, g.WAN, checks, state, progressText(g.Progress),
		fmt.Sprint(g.Open), fmt.Sprint(g.Total), fmt.Sprint(g.Refused), ageText(g.Age),
	}
}

// statuses reads the status of each datacenter of the source, and says whether
// JSON was asked for.
func (a *app) statuses(ctx context.Context, flags *sourceFlags, output string, take func(*history.Status)) (bool, error) {
	json, err := asJSON(output)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	source, err := flags.open(ctx, a)
	if err != nil {
		return false, err
	}
	defer source.close()
	for _, datacenter := range source.datacenters {
		status, err := history.StatusAt(ctx, source.log, datacenter, time.Now())
		if err != nil {
			return false, err
		}
		take(status)
	}
	return json, nil
}

// printTable prints rows in columns; an empty cell is a dash.
func (a *app) printTable(header []string, rows [][]string) {
	columns := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			if cell == "" {
				row[i] = "–"
			}
		}
		fmt.Fprintln(columns, strings.Join(row, "\t"))
	}
	columns.Flush()
}

// progressText is how far a node is: the sequence that it runs, and how many
// messages that is behind.
func progressText(p history.Progress) string {
	switch {
	case p.Age == nil:
		return ""
	case p.Routes >= p.Head:
		return fmt.Sprintf("#%d", p.Routes)
	}
	return fmt.Sprintf("#%d, %d behind", p.Routes, p.Head-p.Routes)
}

func ageText(age *float64) string {
	if age == nil {
		return "never"
	}
	return (time.Duration(*age * float64(time.Second))).Truncate(100*time.Millisecond).String() + " ago"
}

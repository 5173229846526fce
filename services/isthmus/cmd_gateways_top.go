package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/role"
	"github.com/isthmus-mesh/isthmus/services/top"
)

// topFlags say what is shown, and how often.
type topFlags struct {
	interval  time.Duration
	count     int
	once      bool
	sort      string
	limit     int
	byGateway bool
	output    string
}

// leastInterval is as often as it makes sense to look, and costs little.
const leastInterval = 100 * time.Millisecond

func newGatewaysTopCommand(a *app) *cobra.Command {
	var (
		flags sourceFlags
		t     topFlags
	)
	cmd := &cobra.Command{
		Use:   "top [GATEWAY...]",
		Short: "Live table of routes: connections, rates, bytes, refusals, endpoints ejected",
		Long: `Show what gateways carry now, again and again: a line for each gateway and one for each
route that was used. A gateway is its name as "isthmus gateways" has it, or an address that
it listens on; without names it is all of the datacenter, or of all datacenters. A route's line is the sum over them, or
with --by-gateway each has its own.

The numbers are those of the gateways' admin servers (--admin-bind), which have to be
reachable from here. Where one is not, that is said, and the gateway's last report is used:
it comes every 5 seconds and says less. Rates are measured between two readings; – stands
for what is not known, and + for a number that is that and more.

FAILED are attempts at single endpoints, of which clients see nothing while the next one
answers; REFUSED are connections. LIVE is how many endpoints connections may go to, EJECTED
names those that are left out for a while, since they did not answer.

On a terminal it draws in place until Ctrl-C. Elsewhere, and with --count, --once or -o json,
it prints a table or a line of JSON after each interval.`,
		Example: `  isthmus gateways top
  isthmus gateways top --datacenter dc2 --sort bytes --limit 20
  isthmus gateways top dc1-gateway-1 --once -o json`,
	}
	flags.register(a, cmd, false)
	cmd.GroupID = ""
	t.register(cmd)
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return flags.completeGateways(a), cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		asLines, err := t.settle()
		if err != nil {
			return err
		}
		ctx, stop := role.Signals(cmd.Context())
		defer stop()
		draws, onTerminal := terminal(a.stdout, a.environment)
		if onTerminal = onTerminal && !asLines && t.count == 0; onTerminal {
			a.logger = slog.New(slog.DiscardHandler) // Its lines would go through the table.
		}
		opening, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		source, err := flags.open(opening, a)
		if err != nil {
			return err
		}
		defer source.close()
		watch, err := openTop(ctx, opening, source, names)
		if err != nil {
			return err
		}
		defer watch.close()
		run := topRun{topFlags: t, read: watch.read, atOnce: onTerminal}
		switch {
		case asLines:
			return run.run(ctx, func(f *top.Frame) error { return printJSONLine(a.stdout, f) })
		case onTerminal:
			draws.enter()
			defer draws.leave()
			defer draws.suspends()()
			return run.run(ctx, func(f *top.Frame) error { return draws.draw(f.Text(draws.size())) })
		}
		return run.run(ctx, printTables(a.stdout))
	}
	return cmd
}

// printTables prints one table below the other.
func printTables(w io.Writer) func(*top.Frame) error {
	before := ""
	return func(f *top.Frame) error {
		_, err := io.WriteString(w, before+f.Text(top.Size{}))
		before = "\n"
		return err
	}
}

func (t *topFlags) register(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&t.interval, "interval", time.Second, "time between two readings")
	cmd.Flags().IntVar(&t.count, "count", 0, "end after so many tables; 0: go on")
	cmd.Flags().BoolVar(&t.once, "once", false, "end after one table, like --count 1")
	cmd.Flags().StringVar(&t.sort, "sort", string(top.ByConnections), "sort routes by "+orderWords())
	cmd.Flags().IntVar(&t.limit, "limit", 0, "show so many routes; 0: all that a terminal has room for, all elsewhere")
	cmd.Flags().BoolVar(&t.byGateway, "by-gateway", false, "a line for each route of each gateway")
	outputFlag(cmd, &t.output)
	var orders []string
	for _, o := range top.Orders() {
		orders = append(orders, string(o))
	}
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(orders, cobra.ShellCompDirectiveNoFileComp))
}

func orderWords() string {
	var words []string
	for _, o := range top.Orders() {
		words = append(words, string(o))
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// settle checks the flags, and says whether JSON was asked for.
func (t *topFlags) settle() (asLines bool, err error) {
	if asLines, err = asJSON(t.output); err != nil {
		return false, err
	}
	switch {
	case t.interval < leastInterval:
		return false, usageError{fmt.Errorf("--interval is %s at the least, not %s", leastInterval, t.interval)}
	case t.count < 0 || t.limit < 0:
		return false, usageError{errors.New("--count and --limit are not below zero")}
	case t.once && t.count > 1:
		return false, usageError{errors.New("--once and --count exclude each other")}
	case !slices.Contains(top.Orders(), top.Order(t.sort)):
		return false, usageError{fmt.Errorf("--sort is %s, not %q", orderWords(), t.sort)}
	}
	if t.once {
		t.count = 1
	}
	return asLines, nil
}

// completeGateways offers the gateways of a running dev to the shell.
func (f *sourceFlags) completeGateways(a *app) []string {
	dev, err := findDev(a.environment)
	if f.bus.url != "" || err != nil {
		return nil
	}
	var names []string
	for _, d := range dev.Datacenters {
		for _, g := range d.Gateways {
			if f.datacenter == "" || strings.EqualFold(f.datacenter, d.Name) {
				names = append(names, g.Name)
			}
		}
	}
	return names
}

// topRun reads and shows at an interval.
type topRun struct {
	topFlags
	read func(ctx context.Context, now time.Time) ([]top.Reading, string)
	// atOnce: the first reading is shown, though it has no rates.
	atOnce bool
}

// run shows frames until ctx ends or there were as many as asked for.
func (r *topRun) run(ctx context.Context, show func(*top.Frame) error) error {
	again := time.NewTicker(r.interval)
	defer again.Stop()
	state := top.State{ByGateway: r.byGateway}
	shown := 0
	for first := true; ; first = false {
		now := time.Now()
		readings, trouble := r.read(ctx, now)
		if ctx.Err() != nil {
			return nil
		}
		frame := state.Take(now, readings)
		frame.Trouble = trouble
		frame.Arrange(top.Order(r.sort), r.limit)
		if !first || r.atOnce {
			if err := show(&frame); err != nil {
				return err
			}
			if shown++; shown == r.count {
				return nil
			}
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

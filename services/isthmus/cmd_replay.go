package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/role"
)

func newReplayCommand(a *app) *cobra.Command {
	var (
		flags    sourceFlags
		from, to uint64
		output   string
	)
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Resolve history again, and compare with the routes that were written",
		Long: `Drive the resolver through every basis that the routes record, and compare what
it gives with what was written, key by key. The exit code is 1 at the first
difference, which is shown with the events that led there. History is exact as
far back as nothing has left the log.`,
		Example: `  isthmus replay
  isthmus replay --datacenter dc1 --from 100 --to 200 -o json`,
		Args: exactly(0, "only flags"),
	}
	flags.register(a, cmd, false)
	cmd.Flags().Uint64Var(&from, "from", 0, "begin at this sequence of the routes")
	cmd.Flags().Uint64Var(&to, "to", 0, "end at this sequence of the routes")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		json, err := asJSON(output)
		if err != nil {
			return err
		}
		ctx, stop := role.Signals(cmd.Context())
		defer stop()
		source, err := flags.open(ctx, a)
		if err != nil {
			return err
		}
		defer source.close()
		if (from > 0 || to > 0) && len(source.datacenters) > 1 {
			return usageError{errors.New("--from and --to are sequences of one datacenter's routes: name it with --datacenter")}
		}
		results := []*history.ReplayResult{}
		for _, datacenter := range source.datacenters {
			progress := newProgress(a.stderr, "replaying "+datacenter)
			result, err := history.Replay(ctx, history.ReplayOptions{Log: source.log, Datacenter: datacenter, From: from, To: to, Progress: progress.at})
			progress.end()
			if err != nil {
				if errors.Is(err, bus.ErrNoStream) {
					return hint{err, "no resolver has written routes for " + datacenter + ": start one, or name another datacenter"}
				}
				return err
			}
			results = append(results, result)
		}
		return a.printReplays(json, results)
	}
	return cmd
}

func (a *app) printReplays(asJSON bool, results []*history.ReplayResult) error {
	var failed error
	for _, r := range results {
		if r.Difference != nil {
			failed = finding{exitFailure}
		}
	}
	if asJSON {
		return errors.Join(printJSON(a.stdout, results), failed)
	}
	for _, r := range results {
		printReplay(a.stdout, r)
	}
	return failed
}

func printReplay(w io.Writer, r *history.ReplayResult) {
	if d := r.Difference; d != nil {
		fmt.Fprintf(w, "× %s: %s at #%d is not what the rules give\n", r.Stream, d.Key, d.Sequence)
		switch {
		case !d.Recorded:
			fmt.Fprintln(w, "  it is not in the log; the rules give a value")
		case !d.Resolved:
			fmt.Fprintln(w, "  it is in the log; the rules give none")
		}
		for _, detail := range d.Details {
			fmt.Fprintf(w, "  recorded → resolved: %s\n", detail)
		}
		fmt.Fprintf(w, "  basis %s, after\n", d.Basis)
		for _, e := range d.Events {
			fmt.Fprintf(w, "    %s\n", e.LineIn(time.Local))
		}
		return
	}
	fmt.Fprintf(w, "√ %s: %s from #%d to #%d, %s compared, %s applied, no difference\n",
		r.Stream, bases(r.Bases), r.From, r.To, count(r.Keys, "key"), count(r.Events, "event"))
	if r.Skipped > 0 {
		fmt.Fprintf(w, "  ‼ %d not compared, the last because %s\n", r.Skipped, r.Why)
	}
}

func bases(n int) string {
	if n == 1 {
		return "1 basis"
	}
	return fmt.Sprintf("%d bases", n)
}

// count is a number of things in words.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

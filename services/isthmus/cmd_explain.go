package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

func newExplainCommand(a *app) *cobra.Command {
	var (
		flags  sourceFlags
		at     uint64
		output string
	)
	cmd := &cobra.Command{
		Use:   "explain PROXY-OR-SERVICE [UPSTREAM[@DC]]",
		Short: "How an upstream is routed, and why: the mode, the level that set it, the path",
		Long: `Show for each proxy and upstream the effective mesh gateway mode of each target,
the level that set it and all that it hid, with file and line; the path, the names
and addresses; whether intentions let it in; and the basis of the answer.

A proxy is NODE/ID, or its ID where that is unique; a service stands for all its
proxies. Without UPSTREAM all of them are explained. The answer comes from files
(--catalog), from the log (--nats), or from a running "isthmus dev".`,
		Example: `  isthmus explain web api@dc2
  isthmus explain --catalog catalog --datacenter dc1 web api -o json
  isthmus explain --nats nats://127.0.0.1:4222 dc1-web-1/web-sidecar-proxy api --at 42`,
		Args: between(1, 2, "PROXY-OR-SERVICE [UPSTREAM[@DC]]"),
	}
	flags.register(a, cmd, true)
	cmd.Flags().Uint64Var(&at, "at", 0, "answer as of this sequence of the datacenter's catalog")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		json, err := asJSON(output)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		source, err := flags.open(ctx, a)
		if err != nil {
			return err
		}
		defer source.close()
		found, _, err := source.explain(ctx, question(args), at)
		if err != nil {
			return err
		}
		if source.kept && at == 0 {
			history.JudgeAge(ctx, source.log, found.Answers)
		}
		return a.printAnswers(json, found)
	}
	return cmd
}

// question reads PROXY-OR-SERVICE [UPSTREAM[@DC]].
func question(args []string) resolver.Question {
	q := resolver.Question{Proxy: args[0]}
	if len(args) > 1 {
		q.Upstream = args[1]
		if i := strings.LastIndexByte(args[1], '@'); i >= 0 {
			q.Upstream, q.Datacenter = args[1][:i], args[1][i+1:]
		}
	}
	return q
}

// explained is the answer to a question.
type explained struct {
	Answers []history.Answer
	// Found says how the basis was found.
	Found string
}

// explain asks each datacenter of the source, and answers from the only one that
// has the proxy.
func (s *source) explain(ctx context.Context, q resolver.Question, at uint64) (answer explained, datacenter string, err error) {
	var (
		from   []string
		misses []error
	)
	for _, dc := range s.datacenters {
		found, err := s.explainIn(ctx, dc, q, at)
		if len(s.datacenters) > 1 && (errors.Is(err, resolver.ErrUnknownProxy) || errors.Is(err, resolver.ErrNotWhole)) {
			misses = append(misses, fmt.Errorf("%s: %w", dc, err))
			continue
		}
		if err != nil {
			return explained{}, "", earlier(err, at)
		}
		from, answer = append(from, dc), found
	}
	switch {
	case len(from) > 1:
		return explained{}, "", hint{fmt.Errorf("%q is in several datacenters: %s", q.Proxy, strings.Join(from, ", ")), "name one with --datacenter"}
	case len(from) == 0:
		return explained{}, "", earlier(errors.Join(misses...), at)
	}
	return answer, from[0], nil
}

// earlier says what helps when the catalog was not whole at a sequence: a later
// one, while at the head it is the watcher that is missing.
func earlier(err error, at uint64) error {
	if at > 0 && errors.Is(err, resolver.ErrNotWhole) {
		return hint{err, `ask for a later sequence; "isthmus log" shows what is there`}
	}
	return err
}

func (s *source) explainIn(ctx context.Context, datacenter string, q resolver.Question, at uint64) (explained, error) {
	moment, err := s.moment(ctx, datacenter, at)
	if err != nil {
		return explained{}, err
	}
	explanations, err := moment.Machine.Explain(q)
	if err != nil {
		return explained{}, err
	}
	out := explained{Answers: make([]history.Answer, len(explanations)), Found: moment.Found}
	for i, e := range explanations {
		out.Answers[i] = history.NewAnswer(e)
	}
	return out, nil
}

// moment is a datacenter's at a sequence of its catalog, or now.
func (s *source) moment(ctx context.Context, datacenter string, at uint64) (*history.Moment, error) {
	if at > 0 {
		return history.At(ctx, s.log, datacenter, at)
	}
	return history.Head(ctx, s.log, datacenter, s.datacenters...)
}

func (a *app) printAnswers(asJSON bool, found explained) error {
	if asJSON {
		return printJSON(a.stdout, found.Answers)
	}
	for i, answer := range found.Answers {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		history.WriteAnswer(a.stdout, answer)
	}
	if len(found.Answers) == 0 {
		fmt.Fprintln(a.stdout, "the proxy has no upstreams")
		return nil
	}
	fmt.Fprintf(a.stdout, "             %s\n", found.Found)
	return nil
}

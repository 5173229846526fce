package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/services/check"
	"github.com/isthmus-mesh/isthmus/services/history"
)

// checkSettings are those of check.
type checkSettings struct {
	consul      consulFlags
	bus         busFlags
	datacenters []string
	services    []string
	only        []string
	wait        bool
	timeout     time.Duration
	output      string
}

func newCheckCommand(a *app) *cobra.Command {
	var s checkSettings
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Hold the datacenters against every prerequisite, and say what to do",
		Long: `Ask the Consul agents, and with --nats the log, whether all is there that traffic
between datacenters needs: versions, Connect, federation, settings, rights of the
token, clocks, mesh gateways and the ways to them, and the health of our own
parts. Nothing is written or changed.

Network paths are judged from this machine: run it where the paths are used. With
one agent, the other datacenters are asked through it as far as that goes, and the
rest is said to be not judged. Without --nats our own parts are left out.

Each check has a code that stays; deploy/docs/checks.md explains all. The exit code
is 0 when nothing fails (warnings are no failure), else 1.`,
		Example: `  isthmus check
  isthmus check --consul dc1=http://10.1.0.1:8500,dc2=http://10.2.0.1:8500
  isthmus check --consul https://127.0.0.1:8501 --nats nats://127.0.0.1:4222 -o json
  isthmus check --consul dc1=http://10.1.0.1:8500 --service web --wait --timeout 2m
  isthmus check --service web --only ACL_SERVICE_WRITE     # with the sidecar's own token`,
		GroupID: "ask",
		Args:    exactly(0, "only flags"),
	}
	s.consul.register(cmd)
	s.bus.register(cmd)
	flags := cmd.Flags()
	flags.Lookup("consul").Usage = "URL of an agent, or DC=URL of several by commas; without any, the local one. " + flags.Lookup("consul").Usage
	flags.StringSliceVar(&s.datacenters, "datacenter", nil, "show these datacenters only")
	flags.StringSliceVar(&s.services, "service", nil, "also see whether the token may get the certificate of this service")
	flags.StringSliceVar(&s.only, "only", nil, "judge these codes only, like ACL_SERVICE_WRITE for a sidecar's own token")
	flags.BoolVar(&s.wait, "wait", false, "check again until nothing fails")
	flags.DurationVar(&s.timeout, "timeout", 5*time.Minute, "with --wait, give up after this time")
	outputFlag(cmd, &s.output)
	_ = cmd.RegisterFlagCompletionFunc("datacenter", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return completeAgents(s.consul.url), cobra.ShellCompDirectiveNoFileComp
	})
	_ = cmd.RegisterFlagCompletionFunc("only", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return checkCodes(), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.check(cmd.Context(), s) }
	return cmd
}

// agentURL is one agent of --consul.
type agentURL struct{ datacenter, url string }

// splitAgents reads --consul of check: a URL, or DC=URL by commas. Datacenters that
// are named are all named.
func splitAgents(text string) ([]agentURL, error) {
	var agents []agentURL
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		name, url, named := strings.Cut(part, "=")
		// A URL may have a = of its own, behind its scheme.
		if named && strings.ContainsAny(name, ":/") {
			named = false
		}
		switch {
		case !named:
			agents = append(agents, agentURL{url: part})
		case name == "" || url == "":
			return nil, usageError{fmt.Errorf("--consul: %q is not DC=URL", part)}
		default:
			agents = append(agents, agentURL{datacenter: name, url: url})
		}
	}
	if len(agents) > 1 && slices.ContainsFunc(agents, func(g agentURL) bool { return g.datacenter == "" || g.url == "" }) {
		return nil, usageError{errors.New("--consul: several agents are given as DC=URL, by commas")}
	}
	return agents, nil
}

// completeAgents are the datacenters that --consul names.
func completeAgents(text string) []string {
	var names []string
	agents, _ := splitAgents(text)
	for _, g := range agents {
		if g.datacenter != "" {
			names = append(names, g.datacenter)
		}
	}
	return names
}

// checkEvery is the pause between two rounds of waiting.
const checkEvery = time.Second

// checkRound bounds one round.
const checkRound = 2 * time.Minute

func (a *app) check(ctx context.Context, s checkSettings) error {
	json, err := asJSON(s.output)
	if err != nil {
		return err
	}
	for _, code := range s.only {
		if !slices.Contains(checkCodes(), code) {
			return usageError{fmt.Errorf("--only: there is no code %q; deploy/docs/checks.md has all", code)}
		}
	}
	o, closeLog, err := a.checkOptions(s)
	if err != nil {
		return err
	}
	defer closeLog()
	findings, err := a.checkUntil(ctx, s, o)
	if err != nil {
		return err
	}
	if json {
		err = printJSON(a.stdout, findings)
	} else {
		check.WriteText(a.stdout, findings)
	}
	if err == nil && check.Count(findings, check.Fail) > 0 {
		err = finding{exitFailure}
	}
	return err
}

// checkOptions says whom to ask.
func (a *app) checkOptions(s checkSettings) (check.Options, func(), error) {
	o := check.Options{Services: s.services, Audit: auditCatalog}
	o.From, _ = os.Hostname()
	o.From = cmp.Or(o.From, "this machine")
	agents, err := splitAgents(s.consul.url)
	if err != nil {
		return o, nil, err
	}
	for _, g := range agents {
		client, err := s.consul.at(a, g.url)
		if err != nil {
			return o, nil, err
		}
		o.Targets = append(o.Targets, check.Target{Datacenter: g.datacenter, Client: client})
	}
	closeClients := func() {
		for _, t := range o.Targets {
			t.Client.Close()
		}
	}
	if s.bus.url == "" {
		return o, closeClients, nil
	}
	log, err := s.bus.connect(a, "isthmus check")
	if err != nil {
		return o, nil, err
	}
	o.Log = log
	o.Reports = func(ctx context.Context, datacenter string) ([]check.GatewayFacts, []check.ProxyFacts, error) {
		return checkReports(ctx, log, datacenter)
	}
	return o, func() {
		closeClients()
		log.Close()
	}, nil
}

// checkUntil checks once, or with --wait until nothing fails or the time is over.
func (a *app) checkUntil(ctx context.Context, s checkSettings, o check.Options) ([]check.Finding, error) {
	deadline := time.Now().Add(s.timeout)
	said := ""
	for {
		findings := a.checkOnce(ctx, s, o)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		failing := failingCodes(findings)
		if !s.wait || len(failing) == 0 {
			return findings, nil
		}
		if line := strings.Join(failing, ", "); line != said {
			said = line
			fmt.Fprintf(a.stderr, "waiting for %d of %d checks: %s\n", check.Count(findings, check.Fail), len(findings), line)
		}
		if time.Until(deadline) < checkEvery {
			fmt.Fprintf(a.stderr, "gave up after %v\n", s.timeout)
			return findings, nil
		}
		timer := time.NewTimer(checkEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

func (a *app) checkOnce(ctx context.Context, s checkSettings, o check.Options) []check.Finding {
	ctx, cancel := context.WithTimeout(ctx, checkRound)
	defer cancel()
	findings := check.In(check.Judge(check.Gather(ctx, o)), o.From, s.datacenters)
	if len(s.only) == 0 {
		return findings
	}
	codes := make([]check.Code, len(s.only))
	for i, code := range s.only {
		codes[i] = check.Code(code)
	}
	return check.Only(findings, o.From, codes)
}

// checkCodes are the names of all codes.
func checkCodes() []string {
	var names []string
	for _, e := range check.Codes() {
		names = append(names, string(e.Code))
	}
	return names
}

// failingCodes are what fails, each with its datacenter, in the order of findings.
func failingCodes(findings []check.Finding) []string {
	var out []string
	for _, f := range findings {
		if name := string(f.Code) + " of " + cmp.Or(f.Datacenter, "all"); f.Status == check.Fail && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// checkReports reads what gateways and proxies report, as check takes it.
func checkReports(ctx context.Context, log bus.Log, datacenter string) ([]check.GatewayFacts, []check.ProxyFacts, error) {
	status, err := history.StatusAt(ctx, log, datacenter, time.Now())
	if err != nil {
		return nil, nil, err
	}
	var (
		gateways []check.GatewayFacts
		proxies  []check.ProxyFacts
	)
	for _, g := range status.Gateways {
		facts := check.GatewayFacts{Name: g.Name, Registered: g.Registered, State: g.State, SavedTable: g.SavedTable, Away: g.State == history.EnvoyAway}
		if g.Age != nil {
			facts.Age = time.Duration(*g.Age * float64(time.Second))
			facts.Behind = g.Head - min(g.Head, g.Routes)
		}
		gateways = append(gateways, facts)
	}
	for _, p := range status.Proxies {
		facts := check.ProxyFacts{Proxy: p.Proxy, Reporter: p.Reporter, Connected: p.Connected}
		if p.LastNack != nil && !p.LastNack.Over {
			facts.Nack = p.LastNack.Resource + ": " + p.LastNack.Detail
		}
		for _, problem := range p.Problems {
			facts.Problems = append(facts.Problems, problem.Code+": "+problem.Problem)
		}
		proxies = append(proxies, facts)
	}
	return gateways, proxies, nil
}

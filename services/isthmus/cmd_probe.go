package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/gateway/sidecar"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// probeAnswer is one probe, as `isthmus probe -o json` shows it.
type probeAnswer struct {
	Proxy      string `json:"proxy"`
	Upstream   string `json:"upstream"`
	Datacenter string `json:"datacenter"`
	OK         bool   `json:"ok"`
	// Failed is the hop that failed: route, endpoint, dial, name, behind-gateway,
	// tls, peer, client, intention or application; Error is how.
	Failed   string         `json:"failed"`
	Error    string         `json:"error"`
	Attempts []probeAttempt `json:"attempts"`
	// Basis of the routes that were used.
	Basis string `json:"basis"`
}

// probeAttempt is one endpoint that was tried.
type probeAttempt struct {
	Target   string  `json:"target"`
	Path     string  `json:"path"`
	SNI      string  `json:"sni"`
	Endpoint string  `json:"endpoint"`
	Failed   string  `json:"failed"`
	Error    string  `json:"error"`
	TookMS   float64 `json:"took_ms"`
	Peer     string  `json:"peer"`
}

func newProbeCommand(a *app) *cobra.Command {
	var (
		flags         sourceFlags
		caDir, output string
		timeout       time.Duration
	)
	cmd := &cobra.Command{
		Use:   "probe PROXY-OR-SERVICE [UPSTREAM[@DC]]",
		Short: "Make the real connection as a proxy would, and name the hop that fails",
		Long: `Connect to an upstream exactly as the proxy would: by its routes, with its
service's certificate, asking for the same server name and checking the same
SPIFFE ID. Nothing is sent. The exit code is 1 when a connection does not stand,
and the hop that failed is named: route, endpoint, dial, name, behind-gateway,
tls, peer, client, intention or application.

It needs the proxy's identity: the dev CA, or PEM files, in --ca-dir.`,
		Example: `  isthmus probe web api@dc2
  isthmus probe --nats nats://127.0.0.1:4222 --ca-dir /etc/isthmus/web dc1-web-1/web-sidecar-proxy db -o json`,
		Args: between(1, 2, "PROXY-OR-SERVICE [UPSTREAM[@DC]]"),
	}
	flags.register(a, cmd, false)
	cmd.Flags().StringVar(&caDir, "ca-dir", "", "directory of the proxy's certificate or of the dev CA; else that of the running dev, or the user's own")
	cmd.Flags().DurationVar(&timeout, "timeout", askTimeout, "give up after this time")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		json, err := asJSON(output)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		defer cancel()
		source, err := flags.open(ctx, a)
		if err != nil {
			return err
		}
		defer source.close()
		if caDir == "" && source.dev != nil {
			caDir = source.dev.CADir
		}
		answers, datacenter, err := source.explain(ctx, question(args), 0)
		if err != nil {
			return err
		}
		results := make([]probeAnswer, len(answers.Answers))
		for i, answer := range answers.Answers {
			if results[i], err = a.probe(ctx, source.log, datacenter, caDir, answer); err != nil {
				return err
			}
		}
		return a.printProbes(json, results)
	}
	return cmd
}

// errProbeView ends the drive that reads a proxy's routes.
var errProbeView = errors.New("the routes are here")

// probe probes one upstream of one proxy.
func (a *app) probe(ctx context.Context, log bus.Log, datacenter, caDir string, answer history.Answer) (probeAnswer, error) {
	machine := sidecar.NewMachine(answer.Proxy)
	drive := bus.Drive{
		Log: log, Streams: []string{isthmusv1.StreamName(isthmusv1.ClassRoutes, datacenter)}, Machine: machine,
		Emit: func(context.Context, *isthmusv1.Basis) error { return errProbeView },
	}
	if err := drive.Run(ctx); !errors.Is(err, errProbeView) {
		return probeAnswer{}, hint{fmt.Errorf("the routes of %s: %w", datacenter, errors.Join(err, drive.Ready())), "see that the datacenter's resolver runs"}
	}
	view, err := machine.View()
	if err != nil {
		return probeAnswer{}, err
	}
	identities, err := a.openProxyIdentity(view, caDir)
	if err != nil {
		return probeAnswer{}, err
	}
	live, stop, err := followIdentity(ctx, identities, identity.Name{Service: view.Proxy.GetService(), Datacenter: datacenter})
	if err != nil {
		return probeAnswer{}, err
	}
	defer stop()
	return newProbeAnswer(answer, sidecar.Probe(ctx, view, live, answer.Route, sidecar.ProbeOptions{})), nil
}

// openProxyIdentity opens where the proxy's certificate comes from: the directory
// that is named, as it is, else the user's own dev CA of the proxy's trust domain.
func (a *app) openProxyIdentity(view *sidecar.View, caDir string) (identity.Source, error) {
	if caDir != "" {
		return a.openIdentity("", caDir)
	}
	trustDomain := ""
	if uri, err := url.Parse(view.Proxy.GetSpiffeId()); err == nil {
		trustDomain = uri.Host
	}
	return a.openIdentity(trustDomain, "")
}

// followIdentity waits for a service's identity. stop ends the following.
func followIdentity(ctx context.Context, source identity.Source, name identity.Name) (live *identity.Live, stop func(), err error) {
	live = identity.NewLive(nil)
	following, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = source.Follow(following, name, live.Take) // It ends with its context alone.
	}()
	stop = func() {
		cancel()
		<-ended
	}
	for {
		current, changed := live.Changed()
		switch {
		case current != nil:
			return live, stop, nil
		case live.Trouble() != nil && !errors.Is(live.Trouble(), identity.ErrNone):
			stop()
			return nil, nil, hint{fmt.Errorf("the identity of %s: %w", name, live.Trouble()), "name the directory of its certificate with --ca-dir"}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			stop()
			return nil, nil, fmt.Errorf("the identity of %s: %w", name, context.Cause(ctx))
		}
	}
}

func newProbeAnswer(answer history.Answer, r *sidecar.ProbeResult) probeAnswer {
	out := probeAnswer{
		Proxy: answer.Proxy, Upstream: answer.Upstream, Datacenter: answer.Datacenter,
		OK: r.OK(), Failed: string(r.Failed), Error: errorText(r.Err), Attempts: make([]probeAttempt, len(r.Attempts)), Basis: r.Basis.Text(),
	}
	for i, t := range r.Attempts {
		out.Attempts[i] = probeAttempt{
			Target: t.Target, Path: t.Path.Name(), SNI: t.SNI, Endpoint: t.Endpoint, Failed: string(t.Failed), Error: errorText(t.Err),
			TookMS: float64(t.Took.Microseconds()) / 1000, Peer: t.Peer,
		}
	}
	return out
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (a *app) printProbes(asJSON bool, results []probeAnswer) error {
	var failed error
	for _, r := range results {
		if !r.OK {
			failed = finding{exitFailure}
		}
	}
	if asJSON {
		return errors.Join(printJSON(a.stdout, results), failed)
	}
	for _, r := range results {
		printProbe(a.stdout, r)
	}
	if len(results) == 0 {
		fmt.Fprintln(a.stdout, "the proxy has no upstreams")
	}
	return failed
}

func printProbe(w io.Writer, r probeAnswer) {
	mark, outcome := "√", "connected"
	if !r.OK {
		mark, outcome = "×", "fails at "+r.Failed+": "+r.Error
	}
	fmt.Fprintf(w, "%s %s → %s@%s %s\n", mark, r.Proxy, r.Upstream, r.Datacenter, outcome)
	for _, t := range r.Attempts {
		if t.Failed != "" {
			fmt.Fprintf(w, "    × %s (%s) %s: %s\n", t.Endpoint, t.Path, t.Failed, t.Error)
			continue
		}
		fmt.Fprintf(w, "    √ %s (%s) in %.1f ms, %s\n", t.Endpoint, t.Path, t.TookMS, t.Peer)
	}
}

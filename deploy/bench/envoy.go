package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// By how much sooner than by Consul's own xDS a change is to be acknowledged.
const (
	askedSoonerMedian = 20
	askedSoonerTail   = 7
)

// envoyPlan is how many changes are measured.
type envoyPlan struct {
	// rounds of each kind of change.
	rounds int
	// gap is the longest pause between two changes; each is random, so that none is in
	// step with the timer by which Consul batches.
	gap time.Duration
}

// fullEnvoy is what `task bench` measures.
var fullEnvoy = envoyPlan{rounds: 24, gap: 250 * time.Millisecond}

// envoyResult is how long changes took to be acknowledged by each of the two Envoys, by
// the kind of the change.
type envoyResult struct{ consul, ours map[string][]time.Duration }

// benchEnvoy measures from a change in Consul's catalog to its ACK by a real Envoy, of
// Consul's own xDS and of ours.
func benchEnvoy(ctx context.Context, s settings, scratch string, out io.Writer) ([]verdict, error) {
	return fullEnvoy.measure(ctx, s, scratch, out)
}

func (p envoyPlan) measure(ctx context.Context, s settings, scratch string, out io.Writer) (v []verdict, err error) {
	envoy, missing := findEnvoy()
	if _, err := devagent.Find(); missing != nil || err != nil {
		if s.required {
			return nil, errors.Join(missing, err)
		}
		fmt.Fprintf(out, "SKIPPED: %v\n", errors.Join(missing, err))
		return nil, nil
	}
	program, err := buildIsthmus()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	w, err := startEnvoyWorld(ctx, program, envoy, scratch)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	progress("envoy", "changes of the catalog")
	r, err := p.changes(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, w.tails())
	}
	return p.report(r, out), nil
}

// health is asked for an endpoint's, and whether there is one.
type health = func(address string) (core.HealthStatus, bool)

// change is one of an instance of the upstream's service, and what an Envoy then has.
type change struct {
	kind  string
	apply func(ctx context.Context, w *envoyWorld) error
	then  func(health) bool
}

// changesOf are those that one instance goes through.
func changesOf(instance int) []change {
	address := fmt.Sprintf("10.50.%d.1", instance%250)
	id := fmt.Sprintf("api-%d", instance)
	register := func(port int, status string) func(context.Context, *envoyWorld) error {
		return func(ctx context.Context, w *envoyWorld) error {
			return w.put(ctx, 0, "/v1/catalog/register", apiAt(id, address, port, status))
		}
	}
	has := func(port int, healthy bool) func(health) bool {
		return func(of health) bool {
			h, there := of(fmt.Sprintf("%s:%d", address, port))
			return (there && h == core.HealthStatus_HEALTHY) == healthy
		}
	}
	return []change{
		{"register", register(21_000, "passing"), has(21_000, true)},
		{"check fails", register(21_000, "critical"), has(21_000, false)},
		{"check passes", register(21_000, "passing"), has(21_000, true)},
		{"other port", register(21_001, "passing"), func(of health) bool {
			_, old := of(address + ":21000")
			return !old && has(21_001, true)(of)
		}},
		{"deregister", func(ctx context.Context, w *envoyWorld) error {
			return w.put(ctx, 0, "/v1/catalog/deregister", object{"Node": "apis", "ServiceID": id})
		}, func(of health) bool {
			_, there := of(address + ":21001")
			return !there
		}},
	}
}

// changes makes one change after the other, each when both Envoys have the last.
func (p envoyPlan) changes(ctx context.Context, w *envoyWorld) (envoyResult, error) {
	r := envoyResult{consul: map[string][]time.Duration{}, ours: map[string][]time.Duration{}}
	gaps := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // Spreads the changes; nobody gains from guessing them.
	for round := range p.rounds {
		for _, c := range changesOf(round) {
			select {
			case <-time.After(time.Duration(gaps.Int64N(int64(p.gap)))):
			case <-ctx.Done():
				return r, context.Cause(ctx)
			}
			consul, ours := w.consul.between.await(c.then), w.ours.between.await(c.then)
			begin := time.Now()
			if err := c.apply(ctx, w); err != nil {
				return r, fmt.Errorf("%s: %w", c.kind, err)
			}
			for _, of := range []struct {
				name string
				*awaited
				into map[string][]time.Duration
			}{{"isthmus xds", ours, r.ours}, {"Consul", consul, r.consul}} {
				at, err := of.wait(ctx)
				if err != nil {
					return r, fmt.Errorf("%s, by %s: %w", c.kind, of.name, err)
				}
				of.into[c.kind] = append(of.into[c.kind], at.Sub(begin))
			}
		}
	}
	return r, errors.Join(w.consul.refusal("Consul"), w.ours.refusal("isthmus xds"))
}

// errNoACK says that an Envoy did not acknowledge a change.
var errNoACK = errors.New("the Envoy has not acknowledged it in time")

func (a *awaited) wait(ctx context.Context) (time.Time, error) {
	timeout := time.NewTimer(20 * time.Second)
	defer timeout.Stop()
	select {
	case at := <-a.at:
		return at, nil
	case <-timeout.C:
		return time.Time{}, errNoACK
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	}
}

// report prints both side by side, and judges ours.
func (p envoyPlan) report(r envoyResult, out io.Writer) []verdict {
	consul, ours := all(r.consul), all(r.ours)
	fmt.Fprintf(out, "\nenvoy: a change of an upstream's instance, from the write to Consul's API to the ACK of a real Envoy;\n")
	fmt.Fprintf(out, "  one Envoy by Consul's own xDS and one by ours, both told of the same %d changes, at random times\n\n", len(ours))
	fmt.Fprintf(out, "  %-30s %12s %12s   %12s %12s\n", "", "Consul p50", "p99", "isthmus p50", "p99")
	line := func(what string, consul, ours []time.Duration) {
		fmt.Fprintf(out, "  %-30s %12s %12s   %12s %12s\n", what, millis(quantile(consul, 0.50)), millis(quantile(consul, 0.99)),
			millis(quantile(ours, 0.50)), millis(quantile(ours, 0.99)))
	}
	line("all", consul, ours)
	for _, c := range changesOf(0) {
		slices.Sort(r.consul[c.kind])
		slices.Sort(r.ours[c.kind])
		line("  "+c.kind, r.consul[c.kind], r.ours[c.kind])
	}
	fmt.Fprintln(out)
	var verdicts []verdict
	for _, at := range []struct {
		name  string
		share float64
		asked float64
	}{{"p50", 0.50, askedSoonerMedian}, {"p99", 0.99, askedSoonerTail}} {
		ratio := quantile(consul, at.share).Seconds() / quantile(ours, at.share).Seconds()
		verdicts = append(verdicts, verdict{
			"change to ACK by Envoy, against Consul, " + at.name, fmt.Sprintf("%.1fx", ratio), fmt.Sprintf("at least %.0fx", at.asked),
			len(ours) > 0 && ratio >= at.asked,
		})
	}
	return verdicts
}

// all are the times of all kinds, sorted.
func all(byKind map[string][]time.Duration) []time.Duration {
	var out []time.Duration
	for _, times := range byKind {
		out = append(out, times...)
	}
	slices.Sort(out)
	return out
}

// errRefused says that an Envoy has refused something.
var errRefused = errors.New("the Envoy has refused resources")

func (e *envoy) refusal(of string) error {
	if refused := e.between.refusals(); len(refused) > 0 {
		return fmt.Errorf("%s: %w: %s", of, errRefused, strings.Join(refused, "; "))
	}
	return nil
}

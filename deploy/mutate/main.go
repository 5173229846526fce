package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed equivalent.txt
var reviewed string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	only := flag.String("only", "", "mutate only files whose path matches this regular expression")
	parallel := flag.Int("parallel", runtime.NumCPU(), "how many mutants to try at once")
	flag.Parse()
	ok, err := repository(ctx, *only, *parallel)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// repository mutates the targets of the repository that the command runs in and
// reports whether no mutant survived.
func repository(ctx context.Context, only string, parallel int) (bool, error) {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return false, fmt.Errorf("mutate: -only: %w", err)
	}
	output, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return false, fmt.Errorf("mutate: find the module: %w", err)
	}
	entries, err := parseEquivalents("deploy/mutate/equivalent.txt", reviewed)
	if err != nil {
		return false, fmt.Errorf("mutate: %w", err)
	}
	chosen := slices.DeleteFunc(slices.Clone(targets), func(t target) bool { return !pattern.MatchString(t.file) })
	c := campaign{
		root: filepath.Dir(strings.TrimSpace(string(output))), targets: chosen, equivalents: entries,
		partial: len(chosen) < len(targets), parallel: parallel, out: os.Stdout,
	}
	return c.run(ctx)
}

// campaign mutates a list of targets.
type campaign struct {
	root        string
	targets     []target
	equivalents equivalents
	// partial says that files were left out, so an entry of equivalents that
	// meets no mutant is none of an error.
	partial  bool
	parallel int
	out      io.Writer
}

// trial is a mutant with what it needs and what became of it.
type trial struct {
	mutant
	target  target
	source  []byte
	verdict verdict
	err     error
}

// run tries every mutant and prints those that survive. It reports whether none
// did, and every entry of the list of equivalents met a mutant.
func (c campaign) run(ctx context.Context) (bool, error) {
	scratch, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return false, fmt.Errorf("mutate: %w", err)
	}
	defer os.RemoveAll(scratch)
	r := &runner{root: c.root, scratch: scratch, limits: map[string]time.Duration{}}
	if err := r.baseline(ctx, packages(c.targets)); err != nil {
		return false, err
	}
	start := time.Now()
	trials, unused, err := c.trials()
	if err != nil {
		return false, err
	}
	c.try(ctx, r, trials)

	ok := true
	counts := map[verdict]int{}
	for _, t := range trials {
		if t.err != nil {
			return false, t.err
		}
		counts[t.verdict]++
		ok = ok && t.verdict != survived
	}
	for _, key := range unused {
		if !c.partial {
			ok = false
			fmt.Fprintf(c.out, "NO SUCH MUTANT any more; remove it from the list of equivalents:\n%s\n", key)
		}
	}
	fmt.Fprintf(c.out, "mutate: %d mutants killed, %d survived, %d equivalent by review, %d did not compile, in %s\n",
		counts[killed], counts[survived], len(c.equivalents)-len(unused), counts[stillborn], time.Since(start).Round(time.Second))
	return ok, nil
}

// trials lists the mutants of all targets but the equivalent ones, and the
// entries of the list of equivalents that met none.
func (c campaign) trials() (trials []*trial, unused []string, err error) {
	met := map[string]bool{}
	for _, t := range c.targets {
		source, err := os.ReadFile(filepath.Join(c.root, filepath.FromSlash(t.file)))
		if err != nil {
			return nil, nil, fmt.Errorf("mutate: %w (its name stands in deploy/mutate/targets.go)", err)
		}
		list, err := mutants(t.file, source)
		if err != nil {
			return nil, nil, err
		}
		for _, m := range list {
			key := m.key(source)
			if _, ok := c.equivalents[key]; ok {
				met[key] = true
				continue
			}
			trials = append(trials, &trial{mutant: m, target: t, source: source})
		}
	}
	for key := range c.equivalents {
		if !met[key] {
			unused = append(unused, key)
		}
	}
	slices.Sort(unused)
	return trials, unused, nil
}

// try runs the trials, several at once. It prints survivors at once, and now and
// then how far it is.
func (c campaign) try(ctx context.Context, r *runner, trials []*trial) {
	work := make(chan *trial)
	var (
		workers sync.WaitGroup
		printer sync.Mutex
	)
	say := func(format string, args ...any) {
		printer.Lock()
		defer printer.Unlock()
		fmt.Fprintf(c.out, format, args...)
	}
	for range c.parallel {
		workers.Go(func() {
			for t := range work {
				t.verdict, t.err = r.try(ctx, t.target, t.mutant, t.source)
				if t.verdict == survived && t.err == nil {
					say("SURVIVED %s:%d %s: %s\n%s\n", t.file, t.line, t.function, t.operator, t.diff(t.source))
				}
			}
		})
	}
	for i, t := range trials {
		if i%50 == 0 {
			say("mutate: %d of %d mutants, at %s\n", i, len(trials), t.file)
		}
		work <- t
	}
	close(work)
	workers.Wait()
}

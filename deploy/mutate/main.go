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
	"path"
	"path/filepath"
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
	parallel := flag.Int("parallel", runtime.GOMAXPROCS(0), "how many mutants to try at once")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: mutate [-parallel N] [FILE…]\n\nFILEs, from the top of the repository, are mutated instead of those of targets.go.")
		flag.PrintDefaults()
	}
	flag.Parse()
	ok, err := repository(ctx, flag.Args(), *parallel)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// repository mutates files of the repository that the command runs in, all the
// targets if none is named, and reports whether no mutant survived.
func repository(ctx context.Context, files []string, parallel int) (bool, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return false, fmt.Errorf("mutate: find the module: %w", err)
	}
	entries, err := parseEquivalents("deploy/mutate/equivalent.txt", reviewed)
	if err != nil {
		return false, fmt.Errorf("mutate: %w", err)
	}
	c := campaign{
		root: filepath.Dir(strings.TrimSpace(string(output))), files: files, equivalents: entries,
		partial: len(files) > 0, parallel: parallel, out: os.Stdout,
	}
	if !c.partial {
		c.files = targets
	}
	return c.run(ctx)
}

// campaign mutates a list of files.
type campaign struct {
	root        string
	files       []string
	equivalents equivalents
	// partial says that targets were left out, so an entry of equivalents that
	// meets no mutant is no error.
	partial  bool
	parallel int
	out      io.Writer
}

// run tries every mutant and prints those that survive. It reports whether none
// did, and every entry of the list of equivalents met its mutant.
func (c campaign) run(ctx context.Context) (bool, error) {
	scratch, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return false, fmt.Errorf("mutate: %w", err)
	}
	defer os.RemoveAll(scratch)
	start := time.Now()
	trials, met, err := c.trials()
	if err != nil {
		return false, err
	}
	folders := map[string][]*trial{}
	for _, t := range trials {
		folders[path.Dir(t.file)] = append(folders[path.Dir(t.file)], t)
	}
	for folder, trials := range folders {
		fmt.Fprintf(c.out, "mutate: %d mutants in %s\n", len(trials), folder)
		if err := (builder{c.root, scratch}).prepare(ctx, folder, trials); err != nil {
			return false, err
		}
	}
	c.try(ctx, trials)

	ok := c.listHolds(met)
	counts := map[verdict]int{}
	for _, t := range trials {
		if t.err != nil {
			return false, t.err
		}
		counts[t.verdict]++
		ok = ok && t.verdict != survived
	}
	fmt.Fprintf(c.out, "mutate: %d mutants, %d killed, %d survived (and %d equivalent by review, %d that do not compile) in %s\n",
		counts[killed]+counts[survived], counts[killed], counts[survived], len(met), counts[stillborn],
		time.Since(start).Round(time.Second))
	return ok, nil
}

// listHolds reports whether each entry of the list of equivalents met its mutant.
// One that did not has outlived the code.
func (c campaign) listHolds(met map[string]bool) bool {
	ok := true
	for _, key := range sortedKeys(c.equivalents) {
		if !met[key] && !c.partial {
			ok = false
			fmt.Fprintf(c.out, "NO SUCH MUTANT any more; remove it from the list of equivalents:\n%s\n", key)
		}
	}
	return ok
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// trials lists the mutants of all files but the equivalent ones, and the
// entries of the list of equivalents that met their mutant.
func (c campaign) trials() (trials []*trial, met map[string]bool, err error) {
	met = map[string]bool{}
	for _, file := range c.files {
		source, err := os.ReadFile(filepath.Join(c.root, filepath.FromSlash(file)))
		if err != nil {
			return nil, nil, fmt.Errorf("mutate: %w (targets are named in deploy/mutate/targets.go)", err)
		}
		packageName, list, err := mutants(file, source)
		if err != nil {
			return nil, nil, err
		}
		keys := keysOf(list, source)
		for i, m := range list {
			key := keys[i]
			if _, ok := c.equivalents[key]; ok {
				met[key] = true
				continue
			}
			trials = append(trials, &trial{mutant: m, source: source, packageName: packageName})
		}
	}
	return trials, met, nil
}

// try runs the trials, several at once. It prints survivors at once, and now and
// then how far it is.
func (c campaign) try(ctx context.Context, trials []*trial) {
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
				t.try(ctx)
				if t.verdict == survived {
					say("SURVIVED %s:%d %s: %s\n%s\n", t.file, t.line, t.function, t.operator, t.diff(t.source))
				}
			}
		})
	}
	for i, t := range trials {
		if i%100 == 0 {
			say("mutate: %d of %d mutants tried, now %s\n", i, len(trials), t.file)
		}
		work <- t
	}
	close(work)
	workers.Wait()
}

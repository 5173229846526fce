package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// verdict is what became of a mutant.
type verdict int

const (
	// killed: a test failed, or ran for ever.
	killed verdict = iota
	// survived: every test passed, several times.
	survived
	// stillborn: it does not compile.
	stillborn
)

// attempts is how often a mutant must pass all tests to have survived: tests of
// properties choose their cases anew each time.
const attempts = 3

// errTests says that the tests fail before anything was changed.
var errTests = errors.New("the tests fail without any mutant")

// runner tries mutants in the repository at root.
type runner struct {
	root string
	// scratch is a folder for overlays.
	scratch string
	// limits hold how long the tests of each package may take.
	limits map[string]time.Duration
}

// A mutant's tests have limitFactor times as long as the tests took without a
// mutant, and leastLimit more; then it is taken to hang.
const (
	limitFactor = 20
	leastLimit  = 2 * time.Second
)

// duration finds what `go test` says that the tests of a package took.
var duration = regexp.MustCompile(`(?m)^ok\s+\S+\s+([0-9.]+s)`)

// baseline runs the tests of the packages without a mutant. They have to pass;
// how long they take tells when a mutant has made them hang.
func (r *runner) baseline(ctx context.Context, packages []string) error {
	for _, name := range packages {
		output, err := r.test(ctx, name, "", 10*time.Minute)
		if err != nil {
			return fmt.Errorf("mutate: %s: %w:\n%s", name, errTests, output)
		}
		said := duration.FindSubmatch(output)
		if said == nil {
			return fmt.Errorf("mutate: %s: %w: it has none:\n%s", name, errTests, output)
		}
		took, err := time.ParseDuration(string(said[1]))
		if err != nil {
			return fmt.Errorf("mutate: %s: %w", name, err)
		}
		r.limits[name] = leastLimit + limitFactor*took
	}
	return nil
}

// test runs the tests of one package, with an overlay if there is one.
func (r *runner) test(ctx context.Context, name, overlay string, limit time.Duration) ([]byte, error) {
	arguments := []string{"test", "-count=1", "-failfast", "-vet=off", "-ldflags=-s -w", "-timeout=" + limit.String()}
	if overlay != "" {
		arguments = append(arguments, "-overlay="+overlay)
	}
	command := exec.CommandContext(ctx, "go", append(arguments, name)...)
	command.Dir = r.root
	return command.CombinedOutput()
}

// try finds out what becomes of one mutant.
func (r *runner) try(ctx context.Context, t target, m mutant, source []byte) (verdict, error) {
	folder, err := os.MkdirTemp(r.scratch, "mutant-")
	if err != nil {
		return 0, fmt.Errorf("mutate: %w", err)
	}
	defer os.RemoveAll(folder)
	changed := filepath.Join(folder, filepath.Base(m.file))
	overlay := filepath.Join(folder, "overlay.json")
	content, err := json.Marshal(map[string]map[string]string{
		"Replace": {filepath.Join(r.root, filepath.FromSlash(m.file)): changed},
	})
	if err == nil {
		err = errors.Join(
			os.WriteFile(changed, m.apply(source), 0o600),
			os.WriteFile(overlay, content, 0o600))
	}
	if err != nil {
		return 0, fmt.Errorf("mutate: write a mutant of %s: %w", m.file, err)
	}
	for range attempts {
		for _, name := range t.tests {
			output, err := r.test(ctx, name, overlay, r.limits[name])
			switch {
			case ctx.Err() != nil:
				return 0, context.Cause(ctx)
			case err == nil:
			case strings.Contains(string(output), "[build failed]"), strings.Contains(string(output), "[setup failed]"):
				return stillborn, nil
			default:
				return killed, nil
			}
		}
	}
	return survived, nil
}

// packages lists the packages of the targets, each once.
func packages(targets []target) []string {
	var names []string
	for _, t := range targets {
		names = append(names, t.tests...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

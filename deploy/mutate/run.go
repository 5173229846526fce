package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// verdict is what became of a mutant.
type verdict int

const (
	// untried: nothing is known of it yet.
	untried verdict = iota
	// killed: a test failed, or ran for ever.
	killed
	// survived: every test passed, several times.
	survived
	// stillborn: it does not compile.
	stillborn
)

// attempts is how often a mutant must pass all tests to have survived: tests of
// properties choose their cases anew each time.
const attempts = 3

// trial is a mutant with what it needs and what became of it.
type trial struct {
	mutant
	source      []byte
	packageName string
	// number is the mutant's in its package's schema.
	number  int
	suite   *suite
	verdict verdict
	err     error
}

// suite is the compiled tests of a package.
type suite struct {
	builder
	// folder is the package's, from the top of the repository.
	folder string
	// program holds the schema of the package.
	program string
	// flags are those that every run takes.
	flags []string
	// limit is how long the tests may take.
	limit time.Duration
}

// A mutant's tests have limitFactor times as long as the tests took without a
// mutant, and leastLimit more; then it is taken to hang.
const (
	limitFactor = 10
	leastLimit  = 2 * time.Second
)

// prepare compiles the tests of a package with its trials, and runs them once
// without a mutant: they have to pass. How long they take tells when a mutant
// has made them hang.
func (b builder) prepare(ctx context.Context, folder string, trials []*trial) error {
	program, outside, err := b.compileSchema(ctx, folder, trials)
	if err != nil {
		return err
	}
	s := &suite{builder: b, folder: folder, program: program, limit: 10 * time.Minute}
	s.flags = []string{"-test.failfast"}
	// The tests of properties write down what made them fail, in the work tree.
	const noFiles = "-rapid.nofailfile"
	if exec.CommandContext(ctx, program, noFiles, "-test.list=^$").Run() == nil {
		s.flags = append(s.flags, noFiles)
	}
	start := time.Now()
	output, err := s.run(ctx, program, 0)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("mutate: %s: %w:\n%s", folder, errTests, output)
	}
	s.limit = leastLimit + limitFactor*time.Since(start)
	for _, t := range trials {
		t.suite = s
	}
	for _, t := range outside {
		t.number = 0
	}
	return nil
}

// withoutEnvoy skips tests with a real Envoy, which take seconds each time, and under CI
// must not be skipped. A rule is held by a test that needs no other program.
var withoutEnvoy = []string{"ISTHMUS_ENVOY=/none", "CI="}

// run runs a test program with one mutant alive; 0 for none.
func (s *suite) run(ctx context.Context, program string, number int) ([]byte, error) {
	command := exec.CommandContext(ctx, program, append(slices.Clone(s.flags), "-test.timeout="+s.limit.String())...)
	command.Dir = filepath.Join(s.root, filepath.FromSlash(s.folder))
	command.Env = append(append(os.Environ(), withoutEnvoy...), chooser+"="+strconv.Itoa(number))
	return command.CombinedOutput()
}

// try finds out what becomes of one mutant.
func (t *trial) try(ctx context.Context) {
	if t.verdict != untried {
		return
	}
	program := t.suite.program
	if t.number == 0 {
		var err error
		program, _, err = t.suite.compile(ctx, t.suite.folder, map[string][]byte{t.file: t.apply(t.source)})
		if errors.Is(err, errCompile) {
			t.verdict = stillborn
			return
		}
		if err != nil {
			t.err = err
			return
		}
		defer os.RemoveAll(filepath.Dir(program))
	}
	for range attempts {
		_, err := t.suite.run(ctx, program, t.number)
		var exit *exec.ExitError
		switch {
		case ctx.Err() != nil:
			t.err = context.Cause(ctx)
			return
		case errors.As(err, &exit):
			t.verdict = killed
			return
		case err != nil:
			t.err = fmt.Errorf("mutate: %s: %w", t.suite.folder, err)
			return
		}
	}
	t.verdict = survived
}

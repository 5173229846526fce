package sim_test

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/deploy/onethread"
	"github.com/isthmus-mesh/isthmus/deploy/sim"
)

var (
	seeds      = flag.Int("sim.seeds", 60, "how many seeds to run")
	firstSeed  = flag.Uint64("sim.first", 1, "the first seed")
	scriptFile = flag.String("sim.script", "", "run the script in this file, and show what all processes log")
)

func TestMain(m *testing.M) {
	onethread.UnderRace()
	goleak.VerifyTestMain(m)
}

// run runs a script in a bubble of its own.
func run(t *testing.T, script sim.Script, options sim.Options) (result sim.Result, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		result, err = sim.Run(context.Background(), script, options)
	})
	return result, err
}

// TestSeeds runs the scripts of many seeds.
func TestSeeds(t *testing.T) {
	var (
		mu    sync.Mutex
		total sim.Result
	)
	t.Run("all", func(t *testing.T) {
		next := *firstSeed
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for {
					mu.Lock()
					seed := next
					next++
					mu.Unlock()
					if seed >= *firstSeed+uint64(*seeds) || t.Failed() {
						return
					}
					script := sim.Generate(seed)
					result, err := run(t, script, sim.Options{})
					if err != nil {
						report(t, script, err)
						return
					}
					mu.Lock()
					total.Add(result)
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("%d seeds: %+v", *seeds, total)
	for what, n := range map[string]int{
		"changes": total.Changes, "events": total.Events, "transactions": total.Transactions,
		"bases": total.Bases, "readings": total.Readings, "bases replayed": total.Replayed,
	} {
		if n < *seeds {
			t.Errorf("only %d %s in %d seeds: the simulation does not test what it should", n, what, *seeds)
		}
	}
}

// report prints a failing script, made shorter.
func report(t *testing.T, script sim.Script, err error) {
	t.Helper()
	short, shortErr := sim.Shrink(script, err, func(s sim.Script) error {
		_, err := run(t, s, sim.Options{})
		return err
	})
	t.Errorf("seed %d: %v\n\nThe shortest script found for it says: %v\nRun it with -sim.script=FILE:\n\n%s", script.Seed, err, shortErr, short)
}

// TestScripts runs the scripts of testdata, each of which once broke a promise,
// or the one of the flag, for whoever looks for a cause.
func TestScripts(t *testing.T) {
	files := []string{*scriptFile}
	if *scriptFile == "" {
		var err error
		if files, err = filepath.Glob("testdata/*.txt"); err != nil || len(files) == 0 {
			t.Fatalf("no scripts: %v", err)
		}
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script, err := sim.Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
			result, err := run(t, script, sim.Options{Logger: logger})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", result)
		})
	}
}

// A failing seed prints what reproduces it: the text is the script.
func TestScriptsAreTheirText(t *testing.T) {
	for seed := range uint64(20) {
		script := sim.Generate(seed)
		again, err := sim.Parse(script.String())
		if err != nil {
			t.Fatal(err)
		}
		if again.String() != script.String() || again.Seed != seed || again.Unkind != script.Unkind {
			t.Errorf("seed %d: %s\nis read as %s", seed, script, again)
		}
	}
	for _, text := range []string{"seed x\n", "jump\n"} {
		if _, err := sim.Parse(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

//go:build linux

package loop

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var seeds = flag.Int("loop.seeds", 2000, "how many seeds of the simulated kernel are tried")

// seeded are the choices of a seed.
type seeded struct{ *rand.PCG }

func seedOf(seed uint64) seeded { return seeded{rand.NewPCG(seed, 0x6c6f6f70)} }

func (s seeded) below(n int) int {
	if n <= 1 {
		return 0
	}
	return int((s.Uint64() >> 32) * uint64(n) >> 32)
}

// play runs a world, and returns what was wrong with it.
func play(w *world) (wrong violation) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case violation:
			wrong = r
		default:
			panic(r)
		}
	}()
	w.run()
	return ""
}

func plain(k *simPoller) kernel { return k }

// story is what happens in the world of some choices.
func story(c choices, kernelOf func(*simPoller) kernel, planted func(*world, *loop)) string {
	var lines []string
	w := newWorld(c, kernelOf)
	w.planted = planted
	w.log = func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	wrong := play(w)
	if len(lines) > 150 {
		lines = append([]string{"…"}, lines[len(lines)-150:]...)
	}
	return strings.Join(lines, "\n") + "\n" + string(wrong)
}

// No seed leads to a lost byte, a descriptor that is closed twice or left open, a
// connection that nobody looks at any more, a turn without end, or a count that is
// wrong.
func TestSimulatedKernel(t *testing.T) {
	var next atomic.Uint64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for seed := next.Add(1); seed <= uint64(*seeds) && !t.Failed(); seed = next.Add(1) {
				if wrong := play(newWorld(seedOf(seed), plain)); wrong != "" {
					t.Errorf("seed %d: %s\n%s", seed, wrong, story(seedOf(seed), plain, nil))
				}
			}
		})
	}
	all.Wait()
}

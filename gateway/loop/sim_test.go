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

	"pgregory.net/rapid"
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

// listed are choices of a list; behind its end they are the most harmless.
type listed struct{ left []int }

func (l *listed) below(n int) int {
	if n <= 1 || len(l.left) == 0 {
		return 0
	}
	choice := l.left[0] % n
	l.left = l.left[1:]
	return choice
}

// inBytes are the choices that bytes stand for.
func inBytes(b []byte) choices {
	var c listed
	for i, v := range b {
		// One byte cannot tell apart what is many; its place does the rest.
		c.left = append(c.left, int(v)|(int(v)*7919+i*104729)%(1<<20)<<8)
	}
	return &c
}

// noted are choices that are written down.
type noted struct {
	choices
	made []int
}

func (n *noted) below(most int) int {
	choice := n.choices.below(most)
	if most > 1 {
		n.made = append(n.made, choice)
	}
	return choice
}

// setup is what a world is made with.
type setup struct {
	kernelOf func(*simPoller) kernel
	planted  func(*world, *loop)
	log      func(format string, args ...any)
	// census is added to; nil: nobody asks.
	census *census
}

// right is a loop with nothing wrong.
var right = setup{kernelOf: func(p *simPoller) kernel { return p }}

// play runs the world of some choices, and returns what was wrong with it.
func (s setup) play(c choices) (wrong violation) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case violation:
			wrong = r
		default:
			panic(r)
		}
	}()
	w := newWorld(c, s.kernelOf)
	w.planted, w.log = s.planted, s.log
	w.run()
	if s.census != nil {
		s.census.add(w.census)
	}
	return ""
}

// shrunk are choices, as few as some tries can find, that go wrong as those given do.
func (s setup) shrunk(c choices) []int {
	first := noted{choices: c}
	s.play(&first)
	made, left := first.made, 3000
	for size := len(made) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(made) && left > 0; left-- {
			less := append(append([]int(nil), made[:at]...), made[at+size:]...)
			tried := noted{choices: &listed{left: less}}
			if s.play(&tried) != "" && len(tried.made) < len(made) {
				made = tried.made
				continue
			}
			at += size
		}
	}
	return made
}

// story is what happens with some choices, up to what is wrong.
func (s setup) story(made []int) string {
	var lines []string
	s.log = func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	lines = append(lines, string(s.play(&listed{left: made})))
	return strings.Join(lines, "\n")
}

// No seed leads to a lost byte, a descriptor that is closed twice or left open, a
// connection that nobody looks at any more, a turn without end, or a count that is
// wrong.
func TestSeeds(t *testing.T) {
	var next atomic.Uint64
	var all sync.WaitGroup
	counted := make([]census, runtime.GOMAXPROCS(0))
	for i := range counted {
		counted[i] = newCensus()
		counting := right
		counting.census = &counted[i]
		all.Go(func() {
			for seed := next.Add(1); seed <= uint64(*seeds) && !t.Failed(); seed = next.Add(1) {
				if wrong := counting.play(seedOf(seed)); wrong != "" {
					t.Errorf("seed %d: %s\nor, with fewer choices:\n%s", seed, wrong, right.story(right.shrunk(seedOf(seed))))
				}
			}
		})
	}
	all.Wait()
	sum := newCensus()
	for _, c := range counted {
		sum.add(c)
	}
	t.Logf("%d seeds: %v", *seeds, sum)
	if missing := sum.missing(); len(missing) > 0 && *seeds >= 10_000 && !t.Failed() {
		t.Errorf("in %d seeds there was no %v", *seeds, missing)
	}
}

// The same, with choices that rapid makes.
func TestAnyChoices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "choices")
		if wrong := right.play(inBytes(b)); wrong != "" {
			t.Fatal(wrong)
		}
	})
}

func FuzzChoices(f *testing.F) {
	for seed := range uint64(20) {
		b := make([]byte, 2000)
		random := seedOf(seed)
		for i := range b {
			b[i] = byte(random.Uint64())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<14 {
			return
		}
		if wrong := right.play(inBytes(b)); wrong != "" {
			t.Fatal(wrong)
		}
	})
}

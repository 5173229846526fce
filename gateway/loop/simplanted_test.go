//go:build linux

package loop

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// flawed is a kernel that has a loop behave as if it were wrong: what the loop
// forgets is not done, and what it mistakes is told otherwise.
type flawed struct {
	*simPoller
	flaw flaw
}

// flaw is one of the flaws; nil functions change nothing.
type flaw struct {
	read, write            func(p *simPoller, fd int, b []byte) (int, syscall.Errno)
	watch                  func(p *simPoller, fd int, t token, writes bool) syscall.Errno
	wait                   func(p *simPoller, events []event) int
	shutdown, close, reset func(p *simPoller, fd int)
	// after is done after each turn.
	after func(l *loop)
}

func (k *flawed) read(fd int, b []byte) (int, syscall.Errno) {
	if k.flaw.read != nil {
		return k.flaw.read(k.simPoller, fd, b)
	}
	return k.simPoller.read(fd, b)
}

func (k *flawed) write(fd int, b []byte) (int, syscall.Errno) {
	if k.flaw.write != nil {
		return k.flaw.write(k.simPoller, fd, b)
	}
	return k.simPoller.write(fd, b)
}

func (k *flawed) watch(fd int, t token, writes bool) syscall.Errno {
	if k.flaw.watch != nil {
		return k.flaw.watch(k.simPoller, fd, t, writes)
	}
	return k.simPoller.watch(fd, t, writes)
}

func (k *flawed) wait(events []event, longest time.Duration) int {
	if k.flaw.wait != nil {
		return k.flaw.wait(k.simPoller, events)
	}
	return k.simPoller.wait(events, longest)
}

func (k *flawed) shutdown(fd int) { k.do(k.flaw.shutdown, k.simPoller.shutdown, fd) }
func (k *flawed) close(fd int)    { k.do(k.flaw.close, k.simPoller.close, fd) }
func (k *flawed) reset(fd int)    { k.do(k.flaw.reset, k.simPoller.reset, fd) }

func (k *flawed) do(flawed func(*simPoller, int), right func(int), fd int) {
	if flawed != nil {
		flawed(k.simPoller, fd)
		return
	}
	right(fd)
}

// flaws are bugs that event loops have, and what is said when each is found.
var flaws = map[string]struct {
	flaw  flaw
	found string
}{
	"forgotten EAGAIN: bytes that found no room are dropped": {flaw{write: func(p *simPoller, fd int, b []byte) (int, syscall.Errno) {
		n, err := p.write(fd, b)
		if err == syscall.EAGAIN {
			return len(b), 0
		}
		return n, err
	}}, "counted"},
	"forgotten EAGAIN: nothing to read is taken for the end": {flaw{read: func(p *simPoller, fd int, b []byte) (int, syscall.Errno) {
		n, err := p.read(fd, b)
		if err == syscall.EAGAIN {
			return 0, 0
		}
		return n, err
	}}, "it has not left"},
	"forgotten EAGAIN: it reads again until there is something": {flaw{read: func(p *simPoller, fd int, b []byte) (n int, err syscall.Errno) {
		for n, err = p.read(fd, b); err == syscall.EAGAIN; n, err = p.read(fd, b) {
		}
		return n, err
	}}, "the turn does not end"},
	"forgotten EAGAIN: nobody asks to be told of room": {flaw{watch: func(p *simPoller, fd int, t token, _ bool) syscall.Errno {
		return p.watch(fd, t, false)
	}}, "nobody will"},
	"forgotten EAGAIN: a socket stays readable, and is looked at in every turn": {flaw{after: func(l *loop) {
		for c := range l.slots.all() {
			if c.state == joined && l.again.length() == 0 {
				l.enqueue(c)
			}
		}
	}}, "spins"},
	"an event is overlooked": {flaw{wait: func(p *simPoller, events []event) int {
		n := p.wait(events, 0)
		if n > 0 && p.below(4) == 3 {
			n--
		}
		return n
	}}, "nobody will"},
	"missed half-close: it is not passed on": {flaw{shutdown: func(*simPoller, int) {}}, "nobody will"},
	"missed half-close: it overtakes bytes that wait for room": {flaw{write: func(p *simPoller, fd int, b []byte) (int, syscall.Errno) {
		n, err := p.write(fd, b)
		if e := p.files[fd].(*end); err == syscall.EAGAIN && e.ledger.of != nil && e.ledger.of.ours.finArrived && !e.connecting {
			p.shutdown(fd)
		}
		return n, err
	}}, "is ended, and"},
	"a reset is not passed on": {flaw{reset: func(p *simPoller, fd int) { p.close(fd) }}, "was not reset"},
	"stale event: a slot is used again with its old generation": {flaw{after: func(l *loop) {
		for _, c := range l.slots.unused {
			c.generation = 1
		}
	}}, "which it has not"},
	"a socket of an endpoint that did not answer is left open": {flaw{close: func(p *simPoller, fd int) {
		if e, is := p.files[fd].(*end); is && !e.ledger.remote.client && !e.ledger.remote.joined && e.connecting {
			return
		}
		p.close(fd)
	}}, "and is at"},
	"a pipe is left open": {flaw{close: func(p *simPoller, fd int) {
		if _, is := p.files[fd].(*pipeEnd); !is {
			p.close(fd)
		}
	}}, "left open"},
	"a descriptor is closed twice": {flaw{close: func(p *simPoller, fd int) {
		p.close(fd)
		p.close(fd)
	}}, "which is not open"},
	"a deadline is lost":                       {flaw{after: func(l *loop) { l.deadlines = l.deadlines[:0] }}, "in state"},
	"those that have more to do are forgotten": {flaw{after: func(l *loop) { l.again = queue{} }}, "nobody will"},
	"a byte too many is counted":               {flaw{after: func(l *loop) { l.counts.BytesOut.Add(1) }}, "counted are"},
	"a byte too many is taken for written": {flaw{write: func(p *simPoller, fd int, b []byte) (int, syscall.Errno) {
		n, err := p.write(fd, b)
		if n > 0 && n < len(b) {
			n++
		}
		return n, err
	}}, "other bytes"},
}

func (f flaw) setup() setup {
	s := setup{kernelOf: func(p *simPoller) kernel { return &flawed{p, f} }}
	if f.after != nil {
		s.planted = func(_ *world, l *loop) { f.after(l) }
	}
	return s
}

// Each of the bugs that event loops have is found within few seeds.
func TestFlawsAreFound(t *testing.T) {
	const few = 400
	for name, planted := range flaws {
		t.Run(name, func(t *testing.T) {
			said := map[violation]int{}
			for seed := uint64(1); seed <= few; seed++ {
				wrong := planted.flaw.setup().play(seedOf(seed))
				if strings.Contains(string(wrong), planted.found) {
					t.Logf("seed %d: %s", seed, wrong)
					return
				}
				said[wrong]++
			}
			t.Errorf("%d seeds did not find it: %v", few, said)
		})
	}
}

// What is found is shown with few choices.
func TestStoriesAreShort(t *testing.T) {
	s := flaws["a reset is not passed on"].flaw.setup()
	for seed := uint64(1); ; seed++ {
		if s.play(seedOf(seed)) == "" {
			continue
		}
		story := s.story(s.shrunk(seedOf(seed)))
		if lines := strings.Count(story, "\n"); lines > 60 || !strings.Contains(story, "close") {
			t.Errorf("%d lines show it:\n%s", lines, story)
		}
		return
	}
}

// A seed leads to the same world each time.
func TestSeedsAreReproducible(t *testing.T) {
	for seed := range uint64(500) {
		first, second := noted{choices: seedOf(seed)}, noted{choices: seedOf(seed)}
		right.play(&first)
		right.play(&second)
		if !slices.Equal(first.made, second.made) {
			t.Errorf("seed %d: %d choices, then %d", seed, len(first.made), len(second.made))
		}
	}
}

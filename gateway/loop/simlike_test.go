//go:build linux

package loop

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// stage is one connection of a kernel, with its far end in the test's hand. After
// each step all that is under way has arrived.
type stage interface {
	kernel
	// near is the kernel's descriptor.
	near() int
	// The far end sends bytes, reads all that was written, ends, closes or resets.
	// heard tells how what it hears ends.
	send(n int)
	drain()
	end()
	shutAll()
	abort()
	heard() string
	// settle waits until what the near end has done has come to rest, patience is
	// how long an event may take that is known to come.
	settle()
	patience(comes bool) time.Duration
}

// step does one thing on a stage, and returns what the kernel says to it.
func step(s stage, op string, comes bool) string {
	fd := s.near()
	var b [4096]byte
	said := func(n int, err syscall.Errno) string { return fmt.Sprintf("%s: %d %v", op, n, err) }
	defer s.settle()
	switch op {
	case "read":
		return said(s.read(fd, b[:]))
	case "peck":
		return said(s.read(fd, b[:3]))
	case "write":
		return said(s.write(fd, b[:100]))
	case "fill":
		for {
			n, err := s.write(fd, b[:])
			if n == 0 {
				return said(0, err)
			}
			s.settle()
		}
	case "outcome":
		return said(0, s.outcome(fd))
	case "shutdown":
		s.shutdown(fd)
	case "watch":
		return said(0, s.watch(fd, tokenOf(7, 5, upstream), false))
	case "watch writes":
		return said(0, s.watch(fd, tokenOf(7, 5, upstream), true))
	case "wait":
		var events [4]event
		n := s.wait(events[:], s.patience(comes))
		return fmt.Sprintf("wait: %+v", events[:n])
	case "pipe":
		r, w, _, err := s.pipe()
		if err != 0 {
			return said(0, err)
		}
		defer s.close(r)
		defer s.close(w)
		in, err := s.splice(fd, w, 1000)
		if in == 0 {
			return said(0, err)
		}
		out, err := s.splice(r, fd, in)
		return fmt.Sprintf("pipe: %d in, %d out %v", in, out, err)
	case "far sends":
		s.send(5)
	case "far drains":
		s.drain()
	case "far ends":
		s.end()
	case "far closes":
		s.shutAll()
	case "far resets":
		s.abort()
	}
	return op
}

var steps = []string{
	"read", "peck", "write", "outcome", "shutdown", "watch", "watch writes", "wait", "wait", "wait", "pipe",
	"far sends", "far sends", "far ends", "far closes", "far resets", "fill", "far drains",
}

// withoutChance drops what Linux decides as it likes: how much more it takes when
// it has said that there is no room.
func withoutChance(script []string) (kept []string) {
	full := false
	for _, op := range script {
		if full && (op == "write" || op == "fill" || op == "pipe" || op == "wait") {
			continue
		}
		full = op == "fill" || full && op != "far drains"
		kept = append(kept, op)
	}
	return kept
}

// failer is a test, or a try of rapid's.
type failer interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// compare plays a script on both kernels, and finds where they differ.
func compare(t failer, script []string, last string) {
	simulated, linux := newSimStage(), newRealStage(t)
	defer linux.free()
	var story []string
	for _, op := range script {
		want := step(simulated, op, false)
		got := step(linux, op, strings.Contains(want, "{"))
		story = append(story, got)
		if got != want {
			t.Fatalf("the kernel says, after\n  %s\nthe simulated one\n  %s", strings.Join(story, "\n  "), want)
		}
	}
	switch last {
	case "close":
		simulated.close(simulated.near())
		linux.close(linux.near())
	case "reset":
		simulated.reset(simulated.near())
		linux.reset(linux.near())
	}
	if want, got := simulated.heard(), linux.heard(); got != want {
		t.Fatalf("after\n  %s\n  %s\nthe far end hears %s of the kernel, %s of the simulated one", strings.Join(story, "\n  "), last, got, want)
	}
}

// The simulated kernel does what Linux does.
func TestSimulatedKernelIsLikeLinux(t *testing.T) {
	for name, script := range map[string]string{
		"bytes come once, and then nothing":      "watch,wait,far sends,wait,wait,read,read,far sends,far sends,wait,peck,wait,read",
		"an end":                                 "watch,far sends,far ends,wait,read,read,read,wait,write,outcome",
		"both end":                               "watch,shutdown,far ends,wait,read,write,outcome,read",
		"both end, the other way":                "watch writes,far ends,wait,read,shutdown,wait,write,outcome",
		"a reset":                                "watch,far sends,far resets,wait,read,read,read,write,outcome",
		"a reset that is found by writing":       "watch,far resets,wait,write,write,read",
		"a reset behind an end":                  "watch,far ends,wait,read,far resets,wait,read,outcome,outcome,write",
		"a reset after our end":                  "watch,shutdown,far resets,wait,read,read",
		"it was closed":                          "watch,far closes,wait,read,write,wait,read,outcome,write,write",
		"no room, and room again":                "watch,fill,wait,watch writes,wait,far drains,wait,write,wait",
		"no room, and a reset":                   "watch writes,wait,fill,wait,far resets,wait,write,write,read",
		"room is told of when it is asked again": "watch,wait,watch writes,wait,wait,watch writes,wait",
		"through a pipe":                         "far sends,pipe,pipe,far ends,pipe",
		"through a pipe after a reset":           "far sends,far resets,pipe,pipe,pipe",
	} {
		for _, last := range []string{"close", "reset"} {
			t.Run(name+", "+last, func(t *testing.T) { compare(t, strings.Split(script, ","), last) })
		}
	}
	t.Run("any script", rapid.MakeCheck(func(r *rapid.T) {
		script := rapid.SliceOfN(rapid.SampledFrom(steps), 0, 12).Draw(r, "script")
		script = withoutChance(script)
		compare(r, script, rapid.SampledFrom([]string{"close", "reset"}).Draw(r, "last"))
	}))
}

// simStage is the simulated kernel's.
type simStage struct {
	*simPoller
	ours, far *end
	fd        int
}

// mute audits nothing.
type mute struct{ auditor }

func (mute) told(*end, syscall.Errno)         {}
func (mute) hasRead(*end, int, syscall.Errno) {}
func (mute) writes(*end, []byte)              {}
func (mute) wrote(*end, []byte)               {}
func (mute) spliced(*end, *end, int, int)     {}
func (mute) hasWritten(*end, syscall.Errno)   {}
func (mute) shut(*end)                        {}
func (mute) closes(*end, bool)                {}

func newSimStage() *simStage {
	k := &simulated{choices: seedOf(1), exact: true, audit: mute{}}
	s := &simStage{simPoller: &simPoller{simulated: k}}
	k.dialed = func(e *end, _ netip.AddrPort) syscall.Errno {
		s.ours, s.far = e, &end{k: k, peer: e, out: &stream{size: 1 << 30}, window: 1 << 16, buffer: 1 << 16}
		*e = end{k: k, peer: s.far, window: 1 << 16, buffer: 1 << 16}
		return 0
	}
	s.fd, _ = s.dial(netip.AddrPort{}, false)
	return s
}

func (s *simStage) near() int                   { return s.fd }
func (s *simStage) send(n int)                  { s.toSend(func() { s.far.put(n) }) }
func (s *simStage) end()                        { s.toSend(s.far.shut) }
func (s *simStage) shutAll()                    { s.toSend(func() { s.drain(); s.far.closed() }) }
func (s *simStage) abort()                      { s.toSend(s.far.abort) }
func (s *simStage) patience(bool) time.Duration { return 0 }

// toSend does something if the far end can still say something.
func (s *simStage) toSend(do func()) {
	if !s.far.orphan && !s.far.shutWrites && !s.far.dead {
		do()
	}
}

func (s *simStage) drain() {
	for s.settle(); s.far.arrived > s.far.taken && !s.far.orphan; s.settle() {
		s.far.taken = s.far.arrived
		s.ours.spaced()
	}
}

func (s *simStage) settle() {
	for s.far.pending() || s.ours.pending() {
		if s.far.pending() {
			s.far.deliver(s.far.movable())
		}
		if s.ours.pending() {
			s.ours.deliver(s.ours.movable())
		}
	}
}

func (s *simStage) heard() string {
	if s.far.orphan {
		return "nothing"
	}
	s.drain()
	switch _, err := s.far.readable(); err {
	case 0:
		return "an end"
	default:
		return err.Error()
	}
}

package memlog

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// stream is one stream. The world's mutex guards it; messages are never written
// to after they were stored.
type stream struct {
	config      bus.StreamConfig
	incarnation string
	// messages in the order of their sequences; those of a mirror may have holes.
	messages []bus.Message
	last     uint64
	hold     uint64
	changed  chan struct{}
	// copied is when a mirror last heard of its origin.
	copied time.Time

	loseAnswer, loseRequest bool
	resets                  int
}

// wake tells followers to look again.
func (s *stream) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// visible is the last sequence that followers may see.
func (s *stream) visible() uint64 {
	if s.hold != 0 {
		return min(s.hold, s.last)
	}
	return s.last
}

func (s *stream) first() uint64 {
	if len(s.messages) == 0 {
		return s.last + 1
	}
	return s.messages[0].Sequence
}

// add stores a message under its sequence and lets the oldest beyond the limits
// leave.
func (s *stream) add(m bus.Message) {
	s.messages = append(s.messages, m)
	s.last = m.Sequence
	s.expire()
}

func (s *stream) expire() {
	if n := len(s.messages) - int(s.config.MaxMessages); n > 0 {
		s.messages = s.messages[n:]
	}
	if age := s.config.MaxAge; age > 0 {
		old := func(m bus.Message) bool { return time.Since(m.Time) < age }
		if i := slices.IndexFunc(s.messages, old); i >= 0 {
			s.messages = s.messages[i:]
		} else {
			s.messages = nil
		}
	}
}

func (s *stream) remove(sequence uint64) {
	s.messages = slices.DeleteFunc(slices.Clone(s.messages), func(m bus.Message) bool { return m.Sequence == sequence })
}

// index is where the messages from a sequence on begin.
func (s *stream) index(sequence uint64) int {
	i, _ := slices.BinarySearchFunc(s.messages, sequence, func(m bus.Message, q uint64) int { return cmp.Compare(m.Sequence, q) })
	return i
}

// between returns the messages from one sequence to another, both included.
func (s *stream) between(from, to uint64) []bus.Message {
	if from > to {
		return nil
	}
	return s.messages[s.index(from):s.index(to+1)]
}

// latest returns the last message of each key up to a sequence that wanted
// takes, in the order of the sequences.
func (s *stream) latest(upTo uint64, wanted func(isthmusv1.Key) bool) []bus.Message {
	last := make(map[isthmusv1.Key]bool)
	var out []bus.Message
	for _, m := range slices.Backward(s.between(0, upTo)) {
		if !last[m.Key] && wanted(m.Key) {
			last[m.Key] = true
			out = append(out, m)
		}
	}
	slices.Reverse(out)
	return out
}

func (s *stream) state() bus.StreamState {
	s.expire()
	state := bus.StreamState{
		Stream: s.config.Name, Incarnation: s.incarnation, Last: s.last,
		Messages: uint64(len(s.messages)), MaxMessages: s.config.MaxMessages,
	}
	if s.last > 0 {
		state.First = s.first()
		state.Deleted = s.last + 1 - state.First - state.Messages
	}
	if m := s.config.Mirror; m != nil {
		state.Mirror = &bus.MirrorState{Domain: m.Domain, Active: time.Since(s.copied)}
	}
	return state
}

// create makes a stream, raises its limit, or makes a mirror again whose origin
// was.
func (d *domain) create(config bus.StreamConfig) (bus.StreamState, error) {
	config.MaxMessages = cmp.Or(config.MaxMessages, bus.DefaultMaxMessages)
	if err := config.Validate(); err != nil {
		return bus.StreamState{}, err
	}
	s := d.streams[config.Name]
	var origin *stream
	if m := config.Mirror; m != nil {
		if origin = d.world.origin(d, m.Domain, config.Name); origin == nil && s == nil {
			return bus.StreamState{}, fmt.Errorf("origin of %s in domain %s: %w", config.Name, m.Domain, bus.ErrNoStream)
		}
		if origin != nil && s != nil && s.incarnation != origin.incarnation {
			s.wake()
			s = nil
		}
	}
	if s == nil {
		s = &stream{config: config, changed: make(chan struct{}), hold: d.holds[config.Name]}
		d.streams[config.Name] = s
		delete(d.holds, config.Name)
		if origin != nil {
			s.incarnation = origin.incarnation
			s.config.MaxMessages = max(s.config.MaxMessages, origin.config.MaxMessages)
		} else {
			d.world.made++
			s.incarnation = fmt.Sprintf("%016x", mix(d.world.seed, "incarnation", d.name, config.Name, d.world.made))
		}
	}
	s.config.MaxMessages = max(s.config.MaxMessages, config.MaxMessages)
	d.world.copyAll()
	return s.state(), nil
}

// origin is the stream that a mirror copies, or nil when it is out of reach.
func (w *world) origin(d *domain, domain, name string) *stream {
	other := w.domains[domain]
	if other == nil || w.cut[[2]string{min(d.name, domain), max(d.name, domain)}] {
		return nil
	}
	return other.streams[name]
}

// copyAll lets all mirrors take what their origins have. As a NATS mirror does,
// it goes by sequence alone: an origin that was made again goes unnoticed.
func (w *world) copyAll() {
	for _, d := range w.domains {
		for name, s := range d.streams {
			if s.config.Mirror == nil {
				continue
			}
			origin := w.origin(d, s.config.Mirror.Domain, name)
			if origin == nil {
				continue
			}
			s.copied = time.Now()
			to := origin.last
			if s.hold != 0 {
				to = min(to, s.hold)
			}
			for _, m := range origin.between(s.last+1, to) {
				s.add(m)
			}
			s.wake()
		}
	}
}

package history

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// What an event did to its key.
const (
	// ChangeAdded: the key was not there before.
	ChangeAdded = "added"
	// ChangeSeen: the key is there; whether it was before has left the log.
	ChangeSeen = "seen"
	// ChangeChanged: the key has another value.
	ChangeChanged = "changed"
	// ChangeRemoved: the key is gone.
	ChangeRemoved = "removed"
	// ChangeRepeated: a keyframe, or another value that says the same.
	ChangeRepeated = "repeated"
)

// Event is one message of a stream, told.
type Event struct {
	Stream      string `json:"stream"`
	Incarnation string `json:"incarnation"`
	Sequence    uint64 `json:"sequence"`
	Datacenter  string `json:"datacenter"`
	// Kind and Key are as in subjects; Key is the parts after the kind, joined by
	// slashes, and empty for the only value of its kind.
	Kind string `json:"kind"`
	Key  string `json:"key"`
	// Change is one of the constants above.
	Change string `json:"change"`
	// Details are what changed, a phrase each.
	Details []string `json:"details,omitzero"`
	// ConsulIndex is the index at which the change was seen; 0 for a file.
	ConsulIndex uint64 `json:"consul_index"`
	// ConsulIndexAfter is the index before: the change came after it.
	ConsulIndexAfter uint64 `json:"consul_index_after,omitzero"`
	// File and Line are where the value was written, for a catalog of files.
	File string `json:"file,omitzero"`
	Line uint32 `json:"line,omitzero"`
	// Time is the event time that the writer put on it.
	Time time.Time `json:"time"`
	// Transaction that the message belongs to; Last is its last message.
	Transaction string `json:"transaction,omitzero"`
	Last        bool   `json:"last,omitzero"`
	// Origin is the sequence that a keyframe repeats.
	Origin uint64 `json:"origin,omitzero"`
	// Text is the sentence, without datacenter, sequence and time.
	Text string `json:"text"`
}

// String is the event as one line, with the time in UTC.
func (e Event) String() string { return e.LineIn(time.UTC) }

// LineIn is the event as one line, with the time as in a place:
//
//	dc1 #42 10:03:55.002 service-defaults/web changed: mesh gateway mode local → remote (web.hcl:3)
func (e Event) LineIn(place *time.Location) string {
	return fmt.Sprintf("%s #%d %s %s", e.Datacenter, e.Sequence, e.Time.In(place).Format("15:04:05.000"), e.Text)
}

// step is one message beside the value that it replaced.
type step struct {
	stream, incarnation string
	change              isthmusv1.Change
	envelope            *isthmusv1.Envelope
	old                 proto.Message
	// known: old is what was there; false when that has left the log.
	known bool
}

// memory is the values of one stream as its messages pass by, so that each
// change can be told. It is pure.
type memory struct {
	stream string
	values map[isthmusv1.Key]proto.Message
	// whole: values are all there is, so a key that is not there is new.
	whole bool
}

func newMemory(stream string, whole bool) *memory {
	return &memory{stream: stream, values: make(map[isthmusv1.Key]proto.Message), whole: whole}
}

// take notes a change and returns it beside what it replaced.
func (m *memory) take(incarnation string, change isthmusv1.Change, envelope *isthmusv1.Envelope) step {
	old, there := m.values[change.Key]
	s := step{
		stream: m.stream, incarnation: incarnation, change: change, envelope: envelope,
		old: old, known: there || m.whole,
	}
	if change.Tombstone {
		// Whatever comes next is new.
		m.values[change.Key] = nil
	} else {
		m.values[change.Key] = change.Value
	}
	return s
}

// read takes a message apart. Possible error: [bus.ErrMalformed].
func read(stream string, m bus.Message) (isthmusv1.Change, *isthmusv1.Envelope, error) {
	record := new(isthmusv1.Record)
	if err := proto.Unmarshal(m.Record, record); err != nil {
		return isthmusv1.Change{}, nil, fmt.Errorf("%s at %d: %s: %w: %w", stream, m.Sequence, m.Key, bus.ErrMalformed, err)
	}
	envelope := record.GetEnvelope()
	change := isthmusv1.Change{
		Key: m.Key, Tombstone: record.GetTombstone(), Sequence: m.Sequence,
		Origin: isthmusv1.Cause{Incarnation: envelope.GetIncarnation(), Sequence: m.Sequence},
		Time:   envelope.GetTime().AsTime(), Source: envelope.GetSource(),
	}
	if o := envelope.GetOrigin(); o != nil {
		change.Origin = isthmusv1.Cause{Incarnation: o.GetIncarnation(), Sequence: o.GetSequence()}
	}
	if value := isthmusv1.NewValue(m.Key.Kind); value != nil && !change.Tombstone {
		if err := proto.Unmarshal(record.GetValue(), value); err != nil {
			return isthmusv1.Change{}, nil, fmt.Errorf("%s at %d: %s: %w: %w", stream, m.Sequence, m.Key, bus.ErrMalformed, err)
		}
		change.Value = value
	}
	return change, envelope, nil
}

// event tells the step.
func (s step) event() Event {
	_, datacenter, _ := isthmusv1.ParseStreamName(s.stream)
	c := s.change
	e := Event{
		Stream: s.stream, Incarnation: s.incarnation, Sequence: c.Sequence, Datacenter: datacenter,
		Kind: string(c.Key.Kind), Key: strings.Join(c.Key.Parts(), "/"), Time: c.Time.UTC(),
		ConsulIndex: c.Source.GetIndexAt(), ConsulIndexAfter: c.Source.GetIndexAfter(),
		File: c.Source.GetFile(), Line: c.Source.GetLine(),
		Transaction: s.envelope.GetTransaction(), Last: s.envelope.GetEnd() != nil,
	}
	if c.Origin.Sequence != c.Sequence {
		e.Origin = c.Origin.Sequence
	}
	e.Change, e.Details = s.kind()
	e.Text = s.text(e)
	return e
}

func (s step) kind() (change string, details []string) {
	switch {
	case s.change.Origin.Sequence != s.change.Sequence:
		return ChangeRepeated, nil
	case s.change.Tombstone:
		return ChangeRemoved, nil
	case s.old == nil && !s.known:
		return ChangeSeen, summary(s.change.Value)
	case s.old == nil:
		return ChangeAdded, summary(s.change.Value)
	}
	if details = Describe(s.old, s.change.Value); len(details) == 0 {
		return ChangeRepeated, nil
	}
	return ChangeChanged, details
}

func (s step) text(e Event) string {
	var b strings.Builder
	if w, ok := s.change.Value.(*isthmusv1.Writer); ok {
		fmt.Fprintf(&b, "writer of term %d is %s", w.GetTerm(), w.GetOwner())
		e.Details = nil
	} else {
		b.WriteString(subject(s.change.Key) + " " + e.Change)
	}
	if e.Origin > 0 {
		fmt.Fprintf(&b, " as it was said in #%d", e.Origin)
	}
	if len(e.Details) > 0 {
		b.WriteString(": " + brief(e.Details))
	}
	switch {
	case e.File != "":
		fmt.Fprintf(&b, " (%s:%d)", e.File, e.Line)
	case e.ConsulIndex > 0:
		fmt.Fprintf(&b, " (Consul index %d)", e.ConsulIndex)
	}
	return b.String()
}

// detailsShown is how many of an event's details stand in its sentence.
const detailsShown = 3

func brief(details []string) string {
	if len(details) <= detailsShown {
		return strings.Join(details, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(details[:detailsShown], ", "), len(details)-detailsShown)
}

// subject names a key for people.
func subject(key isthmusv1.Key) string {
	name := strings.Join(key.Parts(), "/")
	switch key.Kind {
	case isthmusv1.KindConfig:
		return name
	case isthmusv1.KindMeshFacts:
		return "mesh facts"
	case isthmusv1.KindPreparedQuery:
		return "prepared query " + name
	case isthmusv1.KindRoots:
		return "CA roots"
	case isthmusv1.KindRouteSet:
		return "route set " + name
	case isthmusv1.KindName:
		return "server name " + name
	}
	return strings.TrimSpace(string(key.Kind) + " " + name)
}

package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// fewMessages are read one by one from the stream's leader; for more a consumer
// is made.
const fewMessages = 8

// History implements [Log].
func (j *JetStream) History(ctx context.Context, stream string, from, to uint64) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		state, err := j.patientState(ctx, stream)
		if err != nil {
			yield(Message{}, err)
			return
		}
		if to == 0 || to > state.Last {
			to = state.Last
		}
		if from > 0 && from <= to && from < state.First {
			yield(Message{}, fmt.Errorf("%s at %d: begins at %d: %w", stream, from, state.First, ErrNotRetained))
			return
		}
		from := max(from, state.First, 1)
		if state.Messages == 0 || from > to {
			return
		}
		read := j.historyByConsumer
		if to-from < fewMessages {
			read = j.historyFromLeader
		}
		if err := read(ctx, stream, from, to, yield); err != nil {
			yield(Message{}, err)
		}
	}
}

// historyFromLeader reads what has just been written, too.
func (j *JetStream) historyFromLeader(ctx context.Context, stream string, from, to uint64, yield func(Message, error) bool) error {
	for sequence := from; sequence <= to; sequence++ {
		var m Message
		err := patiently(ctx, func() (err error) {
			m, err = j.message(ctx, stream, sequence)
			return err
		})
		if err != nil {
			return err
		}
		if !yield(m, nil) {
			return nil
		}
	}
	return nil
}

// message reads one message from the stream's leader.
func (j *JetStream) message(ctx context.Context, stream string, sequence uint64) (Message, error) {
	var answer struct {
		Message struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := j.api(ctx, "STREAM.MSG.GET."+stream, map[string]uint64{"seq": sequence}, &answer); err != nil {
		return Message{}, fmt.Errorf("%s at %d: %w", stream, sequence, err)
	}
	_, _, key, err := ParseSubject(answer.Message.Subject)
	if err != nil {
		return Message{}, fmt.Errorf("%s at %d: %w", stream, sequence, err)
	}
	return Message{Key: key, Record: answer.Message.Data, Sequence: answer.Message.Sequence, Time: answer.Message.Time}, nil
}

func (j *JetStream) historyByConsumer(ctx context.Context, stream string, from, to uint64, yield func(Message, error) bool) error {
	c := &cursor{j: j, stream: stream, next: from}
	defer func() { c.close(ctx) }()
	reopen := func() error { return c.open(ctx, jetstream.DeliverByStartSequencePolicy) }
	if err := patiently(ctx, reopen); err != nil {
		return err
	}
	for want := from; want <= to; {
		m, err := c.read(ctx)
		if errors.Is(err, errLost) {
			if err = patiently(ctx, reopen); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if m.Sequence != want {
			return fmt.Errorf("%s at %d: came instead of %d: %w", stream, m.Sequence, want, ErrGap)
		}
		if !yield(m, nil) {
			return nil
		}
		want++
	}
	return nil
}

// Limits of one multi_last request: the server answers at most 1,024 subjects,
// and the request must be a message.
const (
	multiLastKeys  = 1000
	multiLastBytes = 512 << 10
)

// multiLast is a request of a direct get (ADR-31).
type multiLast struct {
	Subjects []string `json:"multi_last"`
	UpTo     uint64   `json:"up_to_seq,omitempty"`
	Sequence uint64   `json:"seq,omitempty"`
}

// Latest implements [Log]. Any replica of the stream may answer, also one that
// is behind; so the message at upTo is asked for as well, and an answer without
// that very message is asked for again.
func (j *JetStream) Latest(ctx context.Context, stream string, keys []isthmusv1.Key, upTo uint64) ([]Message, error) {
	state, err := j.State(ctx, stream)
	if err != nil {
		return nil, err
	}
	if upTo == 0 || upTo > state.Last {
		upTo = state.Last
	}
	if state.Messages == 0 || upTo < state.First {
		return nil, nil
	}
	at, err := j.message(ctx, stream, upTo)
	if err != nil {
		return nil, err
	}
	witness, err := streamSubject(stream, at.Key)
	if err != nil {
		return nil, err
	}
	var out []Message
	for subjects, err := range questions(stream, keys) {
		if err != nil {
			return nil, err
		}
		asked := slices.Contains(subjects, witness)
		if !asked {
			subjects = append(subjects, witness)
		}
		found, err := j.askCurrent(ctx, stream, multiLast{Subjects: subjects, UpTo: upTo})
		if err != nil {
			return nil, err
		}
		out = append(out, slices.DeleteFunc(found, func(m Message) bool { return !asked && m.Sequence == upTo })...)
	}
	slices.SortFunc(out, func(a, b Message) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return out, nil
}

// questions splits the subjects of keys into requests, with room for a witness.
func questions(stream string, keys []isthmusv1.Key) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		var subjects []string
		size := 0
		for _, key := range keys {
			subject, err := streamSubject(stream, key)
			if err != nil {
				yield(nil, err)
				return
			}
			if len(subjects) == multiLastKeys || size+len(subject) > multiLastBytes {
				if !yield(subjects, nil) {
					return
				}
				subjects, size = nil, 0
			}
			subjects = append(subjects, subject)
			size += len(subject) + len(`"",`)
		}
		if len(subjects) > 0 {
			yield(subjects, nil)
		}
	}
}

// askCurrent asks until a replica answers that has the message at UpTo.
func (j *JetStream) askCurrent(ctx context.Context, stream string, request multiLast) (found []Message, err error) {
	err = patiently(ctx, func() error {
		if found, err = j.multiLast(ctx, stream, request); err != nil {
			return err
		}
		if !slices.ContainsFunc(found, func(m Message) bool { return m.Sequence == request.UpTo }) {
			return fmt.Errorf("%s: the replica that answered is behind %d: %w", stream, request.UpTo, ErrUnanswered)
		}
		return nil
	})
	return found, err
}

// multiLast asks page by page: the server ends a page when it is full.
func (j *JetStream) multiLast(ctx context.Context, stream string, request multiLast) ([]Message, error) {
	var out []Message
	for {
		page, next, err := j.multiLastPage(ctx, stream, request)
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if next == nil {
			return out, nil
		}
		request.Sequence, request.UpTo = next.Sequence, next.UpTo
	}
}

// multiLastPage asks once, and returns what to ask for next, if there is more.
func (j *JetStream) multiLastPage(ctx context.Context, stream string, request multiLast) (page []Message, next *multiLast, err error) {
	data, err := json.Marshal(request)
	if err != nil {
		return nil, nil, err
	}
	inbox := j.nc.NewInbox()
	answers, err := j.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, nil, named(ctx, stream, err)
	}
	defer func() { _ = answers.Unsubscribe() }() // It fails only on a closed connection.
	if err := j.nc.PublishRequest(j.prefix+"DIRECT.GET."+stream, inbox, data); err != nil {
		return nil, nil, named(ctx, stream, err)
	}
	for {
		asking, cancel := j.request(ctx, 0)
		m, err := answers.NextMsgWithContext(asking)
		cancel()
		if err != nil {
			return nil, nil, named(ctx, stream, err)
		}
		switch status := m.Header.Get("Status"); status {
		case "":
			message, err := directMessage(stream, m)
			if err != nil {
				return nil, nil, err
			}
			page = append(page, message)
		case "204":
			return page, following204(m.Header, len(page)), nil
		case "404":
			return page, nil, nil
		case "503":
			_, err := j.State(ctx, stream) // No such stream, or nobody to answer.
			return nil, nil, cmp.Or(err, fmt.Errorf("%s: %w", stream, ErrUnanswered))
		default:
			return nil, nil, fmt.Errorf("%s: direct get: %s %s: %w", stream, status, m.Header.Get("Description"), ErrUnanswered)
		}
	}
}

// following204 is what to ask after the end of a page; nil at the last one.
func following204(header nats.Header, got int) *multiLast {
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(header.Get(name), 10, 64) // Absent is 0.
		return n
	}
	if number("Nats-Num-Pending") == 0 || got == 0 {
		return nil
	}
	return &multiLast{Sequence: number("Nats-Last-Sequence") + 1, UpTo: number("Nats-UpTo-Sequence")}
}

func directMessage(stream string, m *nats.Msg) (Message, error) {
	sequence, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return Message{}, fmt.Errorf("%s: %w: %w", stream, ErrMalformed, err)
	}
	_, _, key, err := ParseSubject(m.Header.Get("Nats-Subject"))
	if err != nil {
		return Message{}, fmt.Errorf("%s at %d: %w", stream, sequence, err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		return Message{}, fmt.Errorf("%s at %d: %w: %w", stream, sequence, ErrMalformed, err)
	}
	return Message{Key: key, Record: m.Data, Sequence: sequence, Time: at}, nil
}

package history

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// LogOptions say what [Log] tells.
type LogOptions struct {
	// Log is where the streams are.
	Log bus.Log
	// Streams are told, by name. Empty: every catalog.
	Streams []string
	// From leaves out what stands below this sequence of each stream. Older
	// messages are read nevertheless, to tell what later ones changed.
	From uint64
	// Repeats tells keyframes too, which say nothing new.
	Repeats bool
	// Follow goes on with what is stored from now on, until the context ends.
	Follow bool
}

// Log tells the events of streams: first all that are retained, in one order by
// their times that keeps each stream's own, then, with Follow, each one as it
// comes. tell is called from one goroutine at a time; its error ends Log.
//
// Possible errors: [bus.ErrNoStream] (with Follow only when a stream that is gone
// is not made again within ten seconds), [bus.ErrNotRetained] (when messages leave
// the log faster than they are told), [bus.ErrMalformed], tell's, and with
// Follow the context's cause.
func Log(ctx context.Context, options LogOptions, tell func(Event) error) error {
	streams := options.Streams
	if len(streams) == 0 {
		var err error
		if streams, err = Streams(ctx, options.Log, isthmusv1.ClassCatalog); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	tellers := make([]*teller, len(streams))
	for i, stream := range streams {
		tellers[i] = &teller{log: options.Log, stream: stream, tell: func(e Event) error {
			if e.Sequence < options.From || e.Change == ChangeRepeated && !options.Repeats {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			return tell(e)
		}}
	}
	if err := tellHistory(ctx, tellers); err != nil || !options.Follow {
		return err
	}
	return followAll(ctx, tellers)
}

// Streams returns the names of all streams of a class, sorted. Possible errors:
// [bus.ErrNoStream] when there is none, and those of [bus.Log.Streams].
func Streams(ctx context.Context, log bus.Log, class isthmusv1.Class) ([]string, error) {
	names, err := log.Streams(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		if c, _, _ := isthmusv1.ParseStreamName(name); c == class {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no %s stream is there: %w", class, bus.ErrNoStream)
	}
	return out, nil
}

// tellHistory tells all that is retained: of the streams' next events always
// the one with the lowest time, and of equal ones that of the first stream.
func tellHistory(ctx context.Context, tellers []*teller) error {
	type head struct {
		*teller
		event Event
		next  func() (Event, error, bool)
	}
	var heads []*head
	advance := func(h *head) (more bool, err error) {
		var ok bool
		h.event, err, ok = h.next()
		return ok, err
	}
	for _, t := range tellers {
		next, stop := iter.Pull2(t.retained(ctx))
		defer stop()
		h := &head{teller: t, next: next}
		more, err := advance(h)
		if err != nil {
			return err
		}
		if more {
			heads = append(heads, h)
		}
	}
	for len(heads) > 0 {
		first := 0
		for i, h := range heads {
			if h.event.Time.Before(heads[first].event.Time) {
				first = i
			}
		}
		h := heads[first]
		if err := h.tell(h.event); err != nil {
			return err
		}
		more, err := advance(h)
		if err != nil {
			return err
		}
		if !more {
			heads = append(heads[:first], heads[first+1:]...)
		}
	}
	return nil
}

// followAll follows every stream until the first of them fails.
func followAll(ctx context.Context, tellers []*teller) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var followers sync.WaitGroup
	for _, t := range tellers {
		followers.Go(func() { cancel(t.follow(ctx)) })
	}
	followers.Wait()
	return context.Cause(ctx)
}

// teller tells one stream.
type teller struct {
	log    bus.Log
	stream string
	tell   func(Event) error

	memory      *memory
	incarnation string
	// last is the sequence of the last message taken.
	last uint64
}

// retained yields the events that the log holds at the time of the call.
func (t *teller) retained(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		state, err := t.log.State(ctx, t.stream)
		if err != nil {
			yield(Event{}, err)
			return
		}
		t.begin(state)
		for event, err := range t.upTo(ctx, state.Last) {
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// begin forgets what was told of another incarnation.
func (t *teller) begin(state bus.StreamState) {
	if t.memory != nil && t.incarnation == state.Incarnation && t.last <= state.Last {
		return
	}
	t.memory, t.incarnation, t.last = newMemory(t.stream, state.First <= 1), state.Incarnation, 0
}

// upTo yields the events after the last one told, up to a sequence.
func (t *teller) upTo(ctx context.Context, sequence uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if sequence <= t.last {
			return
		}
		from := t.last + 1
		if t.last == 0 {
			from = 0 // The first retained.
		}
		for m, err := range t.log.History(ctx, t.stream, from, sequence) {
			if err != nil {
				yield(Event{}, err)
				return
			}
			event, err := t.take(m)
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

func (t *teller) take(m bus.Message) (Event, error) {
	change, envelope, err := read(t.stream, m)
	if err != nil {
		return Event{}, err
	}
	t.last = m.Sequence
	return t.memory.take(envelope.GetIncarnation(), change, envelope).event(), nil
}

// followAgainAfter is the wait before a following that ended is begun again.
const followAgainAfter = 100 * time.Millisecond

// madeAgainWithin is how long a stream that is gone may take to be made again:
// its writer notices, and needs a turn of office for it.
const madeAgainWithin = 10 * time.Second

// follow tells what is stored after the last one told, for ever. What a
// bootstrap leaves out, since it is superseded already, is read from history.
func (t *teller) follow(ctx context.Context) error {
	var (
		told error
		gone time.Time // Since when there is no stream; zero while there is one.
	)
	for {
		err := t.log.Follow(ctx, t.stream, func(d bus.Delivery) error {
			gone = time.Time{}
			told = t.deliver(ctx, d)
			return told
		})
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case told != nil:
			return told
		case errors.Is(err, bus.ErrNoStream):
			if gone.IsZero() {
				gone = time.Now()
			}
			if time.Since(gone) >= madeAgainWithin {
				return err
			}
		case !errors.Is(err, bus.ErrReset) && !errors.Is(err, bus.ErrReplaced) && !errors.Is(err, bus.ErrGap):
			return err
		}
		select {
		case <-time.After(followAgainAfter):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (t *teller) deliver(ctx context.Context, d bus.Delivery) error {
	if d.Start != nil {
		t.begin(*d.Start)
		for event, err := range t.upTo(ctx, d.Start.Last) {
			if err != nil {
				return err
			}
			if err := t.tell(event); err != nil {
				return err
			}
		}
		t.last = max(t.last, d.Start.Last)
		return nil
	}
	if d.Message.Sequence <= t.last {
		return nil
	}
	event, err := t.take(d.Message)
	if err != nil {
		return err
	}
	return t.tell(event)
}

package history

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
)

// Stale is a stream whose end may not be how things are now.
type Stale struct {
	Stream string `json:"stream"`
	// Why it may be old, in a sentence.
	Why string `json:"why"`
	// Last is when its last message was written; absent where that is not known.
	Last time.Time `json:"last,omitzero"`
}

const (
	// heard is how long a heartbeat is waited for: longer than a follower takes to
	// take over.
	heard = bus.DefaultTakeoverAfter + 2*bus.DefaultHeartbeatInterval
	// mirrorHeard is how long a mirror may not have heard of its origin.
	mirrorHeard = 10 * time.Second
)

// Staleness finds which of the streams nobody keeps up to date: a log that is at rest
// looks like one that nobody writes. It takes as long as a heartbeat lets itself be
// waited for. What cannot be asked is not judged.
func Staleness(ctx context.Context, log bus.Log, streams []string) []Stale {
	found := make([]*Stale, len(streams))
	var group sync.WaitGroup
	for i, stream := range streams {
		group.Go(func() { found[i] = stale(ctx, log, stream) })
	}
	group.Wait()
	var out []Stale
	for _, s := range found {
		if s != nil {
			out = append(out, *s)
		}
	}
	return out
}

// JudgeAge says in answers from the heads of their catalogs which of these may be old.
func JudgeAge(ctx context.Context, log bus.Log, answers []Answer) {
	streams := map[string]bool{}
	for _, a := range answers {
		for stream := range a.Basis {
			streams[stream] = true
		}
	}
	found := Staleness(ctx, log, slices.Sorted(maps.Keys(streams)))
	for i := range answers {
		for _, s := range found {
			if _, ok := answers[i].Basis[s.Stream]; ok {
				answers[i].Stale = append(answers[i].Stale, s)
			}
		}
	}
}

func stale(ctx context.Context, log bus.Log, stream string) *Stale {
	state, err := log.State(ctx, stream)
	if err != nil {
		return nil
	}
	why := ""
	if state.Mirror == nil {
		why = unwritten(ctx, log, stream)
	} else if active := state.Mirror.Active; active < 0 {
		why = "no news of its datacenter ever came"
	} else if active > mirrorHeard {
		why = fmt.Sprintf("the last news of its datacenter came %v ago", active.Round(time.Second))
	}
	if why == "" || ctx.Err() != nil {
		return nil
	}
	s := &Stale{Stream: stream, Why: why}
	for m, err := range log.History(ctx, stream, state.Last, state.Last) {
		if err == nil {
			s.Last = m.Time
		}
	}
	return s
}

// unwritten is why a stream of which this log is the origin may be old.
func unwritten(ctx context.Context, log bus.Log, stream string) string {
	beat, ok := bus.Hear(ctx, log, stream, heard)
	switch {
	case !ok:
		return "nobody writes it now"
	case beat.SourceLost:
		return beat.Owner + " writes it, and no longer sees its source"
	}
	return ""
}

// String is the sentence for people.
func (s Stale) String() string {
	if s.Last.IsZero() {
		return s.Stream + " may be old: " + s.Why
	}
	return fmt.Sprintf("%s may be old: %s; its last message is of %s", s.Stream, s.Why, s.Last.UTC().Format("2006-01-02 15:04:05"))
}

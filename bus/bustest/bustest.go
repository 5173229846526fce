// Package bustest is the conformance suite of [bus.Log]: what every
// implementation must do, so that what was tested on one holds on the others.
//
// Run it from the implementation's own tests. Nothing in it waits for a time;
// it waits for what is handed over.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// streams gives each test a stream of its own, on a log that tests share.
var streams atomic.Int64

// stream returns the name of a catalog that no other test uses.
func stream() string {
	return isthmusv1.StreamName(isthmusv1.ClassCatalog, fmt.Sprintf("conformance-%d", streams.Add(1)))
}

// Run runs the suite on a log, which may hold other streams.
func Run(t *testing.T, log bus.Log) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, bus.Log)
	}{
		{"a stream is made once and only raised", testCreate},
		{"a config that would empty a catalog is refused", testCreateRefuses},
		{"what does not exist is named", testNoStream},
		{"appends are fenced by the last sequence", testAppend},
		{"a batch is stored whole or not at all", testBatch},
		{"a batch has a limit", testBatchLimit},
		{"following shows each key's last message, then every message", testFollow},
		{"following an empty stream begins with its end", testFollowEmpty},
		{"following ends with what the handler returns", testFollowHandler},
		{"a slow reader holds back nobody", testFollowSlow},
		{"history is exact and bounded", testHistory},
		{"the oldest messages leave beyond the limit", testLimit},
		{"latest is as of a sequence", testLatest},
		{"latest takes more keys than one question holds", testLatestMany},
		{"any key survives", testKeys},
		{"status is published unfenced", testPublish},
		{"heartbeats reach those who listen", testHeartbeats},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, log) })
	}
}

func create(t *testing.T, log bus.Log, config bus.StreamConfig) bus.StreamState {
	t.Helper()
	state, err := log.Create(t.Context(), config)
	if err != nil {
		t.Fatalf("create %s: %v", config.Name, err)
	}
	return state
}

// key is one of the suite's keys.
func key(name string) isthmusv1.Key { return isthmusv1.ConfigKey("service-defaults", "", "", name) }

func message(name, record string) bus.Message {
	return bus.Message{Key: key(name), Record: []byte(record)}
}

// put appends messages "name=record" after the sequence.
func put(t *testing.T, log bus.Log, name string, after uint64, messages ...string) uint64 {
	t.Helper()
	var batch []bus.Message
	for _, m := range messages {
		k, record, _ := strings.Cut(m, "=")
		batch = append(batch, message(k, record))
	}
	last, err := log.Append(t.Context(), name, after, batch)
	if err != nil {
		t.Fatalf("append after %d: %v", after, err)
	}
	return last
}

// text shows a message as sequence:name=record.
func text(m bus.Message) string {
	parts := m.Key.Parts()
	return fmt.Sprintf("%d:%s=%s", m.Sequence, parts[len(parts)-1], m.Record)
}

func texts(messages []bus.Message) []string {
	var out []string
	for _, m := range messages {
		out = append(out, text(m))
	}
	return out
}

func wantTexts(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// history reads a stretch of a stream.
func history(ctx context.Context, log bus.Log, stream string, from, to uint64) ([]string, error) {
	var out []string
	for m, err := range log.History(ctx, stream, from, to) {
		if err != nil {
			return out, err
		}
		out = append(out, text(m))
	}
	return out, nil
}

func wantHistory(t *testing.T, log bus.Log, stream string, from, to uint64, want ...string) {
	t.Helper()
	got, err := history(t.Context(), log, stream, from, to)
	if err != nil {
		t.Fatalf("history %d to %d: %v", from, to, err)
	}
	wantTexts(t, fmt.Sprintf("history %d to %d", from, to), got, want...)
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// follower follows a stream in the background.
type follower struct {
	start    chan bus.StreamState
	messages chan bus.Message
	ended    chan error
	stop     context.CancelFunc
}

func follow(t *testing.T, log bus.Log, stream string) *follower {
	ctx, stop := context.WithCancel(t.Context())
	f := &follower{make(chan bus.StreamState, 1), make(chan bus.Message), make(chan error, 1), stop}
	go func() {
		f.ended <- log.Follow(ctx, stream, func(d bus.Delivery) error {
			if d.Start != nil {
				f.start <- *d.Start
				return nil
			}
			select {
			case f.messages <- d.Message:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-f.ended; err == nil {
			t.Error("following ended without an error")
		}
	})
	return f
}

// next waits for n messages.
func (f *follower) next(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for len(out) < n {
		select {
		case m := <-f.messages:
			out = append(out, text(m))
		case err := <-f.ended:
			f.ended <- err
			t.Fatalf("following ended after %q: %v", out, err)
		}
	}
	return out
}

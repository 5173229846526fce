package bus

import (
	"context"
	"errors"
	"fmt"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// The keeping rule: W is at least tenTimes the live keys, and new keys are
// refused when the live keys have passed a quarter of it.
const (
	tenTimes  = 10
	aQuarter  = 4
	sliceOfW  = 8 // Keyframes come by an eighth of W at a time.
	olderHalf = 2
)

// batchBytes is about how much one transaction may hold: a server keeps all of a
// batch in memory until its last message.
const batchBytes = 8 << 20

// plainChanges is how many changes of routes are written as transactions of one message
// each, of which the last records the basis: a server of one replica has a batch on its
// disk before it answers (nats-server 2.15, SyncOnFlush in jetstream_batching.go), and one
// message not. Measured: 5 ms and more for a batch, 0.3 ms for a message.
const plainChanges = 8

// batchSize is how many messages one transaction may have: as many as the
// server takes, and few enough that keyframes can keep up in a small stream.
func (s *writerState) batchSize() int {
	return int(min(MaxBatch, max(1, s.maxMessages/sliceOfW)))
}

// keyframes repeats the live keys whose last message would be in the older half
// of W after n more messages, and an eighth of W beyond, so that it happens
// seldom. The oldest come first; at most a batch.
func (s *writerState) keyframes(n int) []change {
	floor := int64(s.last) + int64(n) - s.maxMessages/olderHalf
	var frames []change
	for e := s.oldest.Front(); e != nil && len(frames) < s.batchSize(); e = e.Next() {
		k := e.Value.(liveKey)
		reach := floor
		if len(frames) > 0 {
			reach += s.maxMessages / sliceOfW
		}
		if int64(k.sequence) > reach {
			break
		}
		origin := k.origin
		if origin == nil {
			origin = &isthmusv1.Origin{Incarnation: s.incarnation, Sequence: k.sequence}
		}
		frames = append(frames, change{key: k.key, value: k.value, source: k.source, origin: origin})
	}
	return frames
}

// makeRoom raises W before the live keys pass a tenth of it, mirrors first. Past
// a quarter, when that failed, the new keys of the job are left out of it.
func (w *Writer) makeRoom(ctx context.Context, j *writeJob) error {
	w.mu.Lock()
	if w.state == nil {
		w.mu.Unlock()
		return ErrNotActive
	}
	limit, live := w.state.maxMessages, int64(len(w.state.live))
	for _, c := range j.changes {
		if _, ok := w.state.live[c.key]; !ok && !c.tombstone {
			live++
		}
	}
	w.mu.Unlock()
	if live*tenTimes <= limit {
		return nil
	}
	target := limit
	for live*tenTimes > target {
		target *= 2
	}
	err := w.raise(ctx, target)
	if err == nil {
		return nil
	}
	w.log.Error("the message limit cannot be raised", "err", err, "limit", limit, "wanted", target, "live_keys", live)
	if live*aQuarter <= limit {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil {
		return ErrNotActive
	}
	j.refuseNew(limit/aQuarter - int64(len(w.state.live)))
	w.log.Error("new keys are refused", "refused", j.refused, "limit", limit, "live_keys", len(w.state.live))
	return nil
}

// refuseNew takes the new keys beyond the room out of the job. With mu held.
func (j *writeJob) refuseNew(room int64) {
	kept := j.changes[:0:0]
	for _, c := range j.changes {
		if _, ok := j.writer.state.live[c.key]; !ok && !c.tombstone {
			if room <= 0 {
				j.refused++
				continue
			}
			room--
		}
		kept = append(kept, c)
	}
	j.changes = kept
}

// raise raises W of all mirrors, then of the stream.
func (w *Writer) raise(ctx context.Context, limit int64) error {
	for _, mirror := range w.cfg.Mirrors {
		state, err := mirror.State(ctx, w.cfg.Stream)
		if errors.Is(err, ErrNoStream) || (err == nil && state.Mirror == nil) {
			continue
		}
		if err == nil {
			_, err = mirror.Create(ctx, StreamConfig{Name: w.cfg.Stream, MaxMessages: limit, Mirror: &Mirror{Domain: state.Mirror.Domain}})
		}
		if err != nil {
			return fmt.Errorf("mirror of %s: %w", w.cfg.Stream, err)
		}
	}
	state, err := w.cfg.Log.Create(ctx, StreamConfig{Name: w.cfg.Stream, MaxMessages: limit, Replicas: w.cfg.Replicas})
	if err != nil {
		return fmt.Errorf("%s: %w", w.cfg.Stream, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != nil && w.state.incarnation == state.Incarnation {
		w.state.maxMessages = state.MaxMessages
	}
	w.log.Info("message limit raised", "limit", state.MaxMessages)
	return nil
}

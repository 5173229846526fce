package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of NATS (ADR-50 for the batch).
const (
	headerExpectedStream = "Nats-Expected-Stream"
	headerExpectedLast   = "Nats-Expected-Last-Sequence"
	headerBatchID        = "Nats-Batch-Id"
	headerBatchSequence  = "Nats-Batch-Sequence"
	headerBatchCommit    = "Nats-Batch-Commit"
)

// batchPatience is how much longer an answer is waited for per message of a
// batch.
const batchPatience = 2 * time.Millisecond

// Append implements [Log]: one message is a plain publish, several are one
// atomic batch.
func (j *JetStream) Append(ctx context.Context, stream string, expectedLast uint64, messages []Message) (uint64, error) {
	if err := CheckMessages(stream, messages); err != nil {
		return 0, err
	}
	return j.untilHeard(ctx, func() (uint64, error) { return j.append(ctx, stream, expectedLast, messages) })
}

// errUnheard: nobody had the subject, for all messages or for the first of a
// batch, so nothing was stored; a stream that was just made, or has no leader
// for a moment, will have it.
var errUnheard = fmt.Errorf("nobody takes the subject: %w", ErrUnanswered)

// untilHeard sends again what nobody heard, for as long as an answer is waited
// for.
func (j *JetStream) untilHeard(ctx context.Context, send func() (uint64, error)) (uint64, error) {
	for end := time.Now().Add(j.timeout); ; {
		sequence, err := send()
		if !errors.Is(err, errUnheard) || time.Now().After(end) {
			return sequence, err
		}
		select {
		case <-time.After(unheardRetry):
		case <-ctx.Done():
			return 0, err
		}
	}
}

// unheardRetry is the time between two attempts to be heard.
const unheardRetry = 50 * time.Millisecond

func (j *JetStream) append(ctx context.Context, stream string, expectedLast uint64, messages []Message) (uint64, error) {
	batch := ""
	if len(messages) > 1 {
		batch = randomID()
	}
	for i, m := range messages {
		msg, err := outgoingMessage(stream, m)
		if err != nil {
			return 0, err
		}
		if i == 0 {
			msg.Header.Set(headerExpectedLast, strconv.FormatUint(expectedLast, 10))
		}
		last := i == len(messages)-1
		if batch != "" {
			msg.Header.Set(headerBatchID, batch)
			msg.Header.Set(headerBatchSequence, strconv.Itoa(i+1))
			if last {
				msg.Header.Set(headerBatchCommit, "1")
			}
		}
		if last {
			return j.store(ctx, stream, msg, time.Duration(i)*batchPatience)
		}
		if err := j.nc.PublishMsg(msg); err != nil {
			return 0, named(ctx, stream, err)
		}
	}
	panic("unreachable: CheckMessages refuses an empty batch")
}

// Publish implements [Log].
func (j *JetStream) Publish(ctx context.Context, stream string, message Message) error {
	if err := CheckMessages(stream, []Message{message}); err != nil {
		return err
	}
	msg, err := outgoingMessage(stream, message)
	if err != nil {
		return err
	}
	_, err = j.untilHeard(ctx, func() (uint64, error) { return j.store(ctx, stream, msg, 0) })
	return err
}

func outgoingMessage(stream string, m Message) (*nats.Msg, error) {
	subject, err := streamSubject(stream, m.Key)
	if err != nil {
		return nil, err
	}
	msg := nats.NewMsg(subject)
	msg.Data = m.Record
	msg.Header.Set(headerExpectedStream, stream)
	return msg, nil
}

// store sends a message and waits for the stream's answer.
func (j *JetStream) store(ctx context.Context, stream string, msg *nats.Msg, longer time.Duration) (uint64, error) {
	asking, cancel := j.request(ctx, longer)
	defer cancel()
	answer, err := j.nc.RequestMsgWithContext(asking, msg)
	if errors.Is(err, nats.ErrNoResponders) {
		// Nobody has the subject: no stream, or one without a leader now.
		if _, state := j.State(ctx, stream); errors.Is(state, ErrNoStream) {
			return 0, state
		}
		return 0, fmt.Errorf("%s: %w", stream, errUnheard)
	}
	if err != nil {
		return 0, named(ctx, stream, err)
	}
	var ack struct {
		Sequence uint64              `json:"seq"`
		Error    *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, fmt.Errorf("%s: answer %q: %w: %w", stream, answer.Data, ErrUnanswered, err)
	}
	if ack.Error != nil && ack.Error.ErrorCode == codeBatchIncomplete {
		// The first messages of the batch met nobody, and nothing was stored.
		return 0, fmt.Errorf("%s: %w: %w", stream, errUnheard, ack.Error)
	}
	if ack.Error != nil {
		return 0, named(ctx, stream, ack.Error)
	}
	return ack.Sequence, nil
}

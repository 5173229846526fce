package bus

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nats-io/nats.go"
)

// beatSubject is where heartbeats of a stream's writer go; no stream takes it.
func beatSubject(stream string) string { return "isthmus-beat." + stream }

// Beat implements [Log].
func (j *JetStream) Beat(ctx context.Context, stream string, beat Heartbeat) error {
	data, err := json.Marshal(beat)
	if err != nil {
		return err
	}
	return named(ctx, stream, j.nc.Publish(beatSubject(stream), data))
}

// Heartbeats implements [Log].
func (j *JetStream) Heartbeats(ctx context.Context, stream string, handle func(Heartbeat)) error {
	sub, err := j.nc.SubscribeSync(beatSubject(stream))
	if err != nil {
		return named(ctx, stream, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // It fails only on a closed connection.
	for {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, nats.ErrSlowConsumer):
			continue // Some were lost; the next one counts as well.
		case err != nil:
			return named(ctx, stream, err)
		}
		var beat Heartbeat
		if err := json.Unmarshal(m.Data, &beat); err != nil {
			j.log.Warn("a heartbeat cannot be read", "stream", stream, "err", err)
			continue
		}
		handle(beat)
	}
}

package bus

import (
	"context"
	"time"
)

// Hear waits for the next heartbeat of a stream's writer, and reports whether one came
// in time.
func Hear(ctx context.Context, log Log, stream string, within time.Duration) (beat Heartbeat, heard bool) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	// It ends with its context alone, or the log is away and nothing is heard.
	_ = log.Heartbeats(ctx, stream, func(b Heartbeat) {
		beat, heard = b, true
		cancel()
	})
	return beat, heard
}

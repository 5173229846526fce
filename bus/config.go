package bus

import (
	"errors"
	"fmt"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// MaxRecord is the largest record in bytes: a NATS server takes a payload of 1
// MiB by default, headers included.
const MaxRecord = 1<<20 - 4096

// Validate reports everything that is wrong with the config. [Log.Create] calls
// it.
func (c StreamConfig) Validate() error {
	class, _, ok := isthmusv1.ParseStreamName(c.Name)
	if !ok {
		return fmt.Errorf("stream %q is not named CATALOG_, ROUTES_ or STATUS_ and a datacenter: %w", c.Name, ErrMalformed)
	}
	var problems []error
	if c.MaxMessages < 0 || c.Replicas < 0 || c.MaxAge < 0 {
		problems = append(problems, fmt.Errorf("stream %s: a limit is negative: %w", c.Name, ErrMalformed))
	}
	if c.MaxAge > 0 && class != isthmusv1.ClassStatus {
		problems = append(problems, fmt.Errorf("stream %s: an age limit empties a quiet stream; only status may have one: %w", c.Name, ErrMalformed))
	}
	if c.Mirror != nil && c.Mirror.Domain == "" {
		problems = append(problems, fmt.Errorf("stream %s: a mirror needs the domain of its origin: %w", c.Name, ErrMalformed))
	}
	return errors.Join(problems...)
}

// CheckMessages reports why messages cannot be appended to a stream, whatever
// its state. Possible errors: [ErrTooLarge], [ErrMalformed].
func CheckMessages(stream string, messages []Message) error {
	if n := len(messages); n == 0 || n > MaxBatch {
		return fmt.Errorf("%s: %d messages at once, 1 to %d are possible: %w", stream, n, MaxBatch, ErrTooLarge)
	}
	for _, m := range messages {
		if _, err := streamSubject(stream, m.Key); err != nil {
			return err
		}
		if len(m.Record) > MaxRecord {
			return fmt.Errorf("%s: %s has %d bytes, %d are the most: %w", stream, m.Key, len(m.Record), MaxRecord, ErrTooLarge)
		}
	}
	return nil
}

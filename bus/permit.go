package bus

import "context"

// permit is a lock that is waited for no longer than a context. It holds one
// token while it is taken.
//
// It is a channel and no mutex for a second reason: whoever has it waits for
// the log, and inside testing/synctest time stands still as long as anybody
// waits for a mutex.
type permit chan struct{}

func newPermit() permit { return make(permit, 1) }

// take waits for the permit, or returns the context's cause.
func (p permit) take(ctx context.Context) error {
	select {
	case p <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// try takes the permit if nobody has it.
func (p permit) try() bool {
	select {
	case p <- struct{}{}:
		return true
	default:
		return false
	}
}

// give lets the next one have the permit.
func (p permit) give() { <-p }

package bus

import (
	"context"
	"errors"
	"testing"
)

func TestPermitIsHeldByOneAndWaitsNoLongerThanItsContext(t *testing.T) {
	permit := newPermit()
	if err := permit.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	if permit.try() {
		t.Error("two have the permit")
	}
	ended := errors.New("ended")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ended)
	if err := permit.take(ctx); !errors.Is(err, ended) {
		t.Errorf("waiting ended with %v, want the context's cause", err)
	}
	permit.give()
	if !permit.try() {
		t.Error("nobody has the permit, and it cannot be taken")
	}
}

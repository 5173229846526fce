package bus_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
)

// Terms begin anew in a stream that was made again: what was made in the first
// term of the old one is not the difference to the first term of the new one.
func TestDifferenceOfAnotherTurnIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		w := activeWriter(t, bus.WriterConfig{Log: log})
		before := w.Turn()
		log.Delete(catalog)
		settle := w.Notify()
		for w.Turn() == before || w.Turn() == (bus.Turn{}) {
			<-settle
		}
		if after := w.Turn(); after.Term != before.Term || after.Incarnation == before.Incarnation {
			t.Fatalf("turn %+v after %+v, want the same term of another incarnation", after, before)
		}
		d := difference(put("a", "1", 1))
		d.Turn = before
		if _, err := w.Write(t.Context(), d); !errors.Is(err, bus.ErrNotActive) {
			t.Errorf("error %v, want %v", err, bus.ErrNotActive)
		}
		d.Turn = w.Turn()
		mustWrite(t, w, d)
	})
}

package bus

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// TestDisconnected: a connection that is lost is told and warned of; one that
// its owner closed is told only, since every command ends with it.
func TestDisconnected(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"lost", errors.New("EOF"), "disconnected from NATS"},
		{"closed on purpose", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var text bytes.Buffer
			lost, told := new(losses), 0
			lost.add(func() { told++ })
			disconnected(slog.New(slog.NewTextHandler(&text, nil)), lost)(nil, test.err)
			if told != 1 {
				t.Errorf("told %d times", told)
			}
			if got := text.String(); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("logged %q, want %q", got, test.want)
			}
		})
	}
}

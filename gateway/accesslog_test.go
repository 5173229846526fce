package gateway

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// disk is a writer that can be full.
type disk struct {
	strings.Builder
	full bool
}

func (d *disk) Write(b []byte) (int, error) {
	if d.full {
		return 0, errors.New("no space left")
	}
	return d.Builder.Write(b)
}

// A line is written, or it is counted; and a disk that was full is used again.
func TestLinesThatCannotBeWrittenAreCounted(t *testing.T) {
	var d disk
	var said strings.Builder
	l := newAccessLog(Config{AccessLog: &d, AccessLogSize: 4, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	hand := func(names ...string) {
		for _, name := range names {
			l.add(&table.Record{SNI: name})
		}
		l.handWaiting()
	}
	hand("one")
	d.full = true
	hand("two", "three")
	hand("four")
	d.full = false
	hand("five")
	if got := l.dropped.Load(); got != 3 {
		t.Errorf("%d dropped; want 3", got)
	}
	written := d.String()
	if strings.Count(written, "\n") != 2 || !strings.Contains(written, `"sni":"one"`) || !strings.Contains(written, `"sni":"five"`) {
		t.Errorf("written:\n%s", written)
	}
	if n := strings.Count(said.String(), "cannot be written"); n != 1 || !strings.Contains(said.String(), "written again") {
		t.Errorf("said:\n%s", said.String())
	}
}

// Many records that wait are many whole lines, however they fill the buffer.
func TestLinesAreWhole(t *testing.T) {
	var d disk
	l := newAccessLog(Config{AccessLog: &d, AccessLogSize: 1000, Logger: slog.New(slog.DiscardHandler)})
	for range 1000 {
		l.add(&table.Record{SNI: strings.Repeat("x", 200)})
	}
	l.handWaiting()
	lines := strings.Split(strings.TrimSuffix(d.String(), "\n"), "\n")
	for _, line := range lines {
		if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}") {
			t.Fatalf("a line is %q", line)
		}
	}
	if len(lines) != 1000 || l.dropped.Load() != 0 {
		t.Errorf("%d lines, %d dropped", len(lines), l.dropped.Load())
	}
}

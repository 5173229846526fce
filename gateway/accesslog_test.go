package gateway

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// Records do not wait for long, and whoever writes them is seldom woken.
func TestRecordsAreGathered(t *testing.T) {
	for _, c := range []struct {
		name string
		// gap is the time from one record to the next.
		gap     time.Duration
		records int
		// late is how long each waits at most, wakings how often it is written.
		late    time.Duration
		wakings int
	}{
		{"one now and then is written soon", time.Second, 10, 20 * time.Millisecond, 10},
		{"500 a second are written ten times in it", 2 * time.Millisecond, 1000, 100 * time.Millisecond, 21},
		{"many are written when there are 256", 10 * time.Microsecond, 2560, 3 * time.Millisecond, 11},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// A second without any has the log rest.
				const quiet = time.Second
				wakings, last := 0, time.Time{}
				l := newAccessLog(Config{AccessLogSize: 4096, Logger: slog.New(slog.DiscardHandler), OnRecord: func(r *table.Record) {
					if late := time.Since(r.Start); late > c.late {
						t.Errorf("a record is told of %s late; want %s at most", late, c.late)
					}
					if now := time.Now(); now != last {
						wakings, last = wakings+1, now
					}
				}})
				ctx, cancel := context.WithCancel(t.Context())
				ran := make(chan struct{})
				go func() { defer close(ran); l.run(ctx) }()
				time.Sleep(quiet)
				for range c.records {
					l.add(&table.Record{Start: time.Now()})
					time.Sleep(c.gap)
				}
				time.Sleep(quiet)
				cancel()
				<-ran
				if wakings > c.wakings {
					t.Errorf("written %d times; want %d at most", wakings, c.wakings)
				}
				if l.dropped.Load() != 0 {
					t.Errorf("%d dropped", l.dropped.Load())
				}
			})
		})
	}
}

// Whoever stops does not wait for others to come: what has come is handed on.
func TestRecordsThatWaitAtTheEndAreHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		l := newAccessLog(Config{AccessLogSize: 4096, Logger: slog.New(slog.DiscardHandler), OnRecord: func(*table.Record) { told++ }})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan struct{})
		go func() { defer close(ran); l.run(ctx) }()
		for range 3 {
			l.add(&table.Record{})
		}
		cancel()
		<-ran
		if told != 3 {
			t.Errorf("%d of 3 were told", told)
		}
	})
}

// A log in which few may wait is not full because they wait for others.
func TestRecordsInASmallLogDoNotWait(t *testing.T) {
	for size, come := range map[int]int{1: 1, 2: 1, 3: 1, 100: 50, 4096: 256} {
		synctest.Test(t, func(t *testing.T) {
			told := 0
			l := newAccessLog(Config{AccessLogSize: size, Logger: slog.New(slog.DiscardHandler), OnRecord: func(*table.Record) { told++ }})
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan struct{})
			go func() { defer close(ran); l.run(ctx) }()
			for range come {
				l.add(&table.Record{})
			}
			// No time goes by.
			synctest.Wait()
			if told != come {
				t.Errorf("%d of %d that came at once were told, where %d may wait", told, come, size)
			}
			cancel()
			<-ran
		})
	}
}

package gateway

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// accessLog takes records without ever making a connection wait, and hands them
// on from a goroutine of its own: a queue of a fixed size, that drops and counts
// what does not fit, or cannot be written. Records are gathered, so that the goroutine
// is not woken for each: whoever is woken takes the processor from a connection.
type accessLog struct {
	// size is how many records may wait; from enough on they wait for no others.
	size, enough int
	dropped      atomic.Uint64
	// arrived gets a token when a record comes while run rests, or when many wait.
	arrived chan struct{}
	// to is nil when there is no log.
	to     io.Writer
	told   func(*table.Record)
	logger *slog.Logger

	mu      sync.Mutex // guards waiting and rests
	waiting []*table.Record
	// rests: run looks at what waits when it is told to, and not by the clock.
	rests bool

	// Only run's goroutine uses these. taken is waiting's other half; out holds
	// lines, which are whole.
	taken  []*table.Record
	line   lineWriter
	out    *bufio.Writer
	lines  uint64
	broken bool
}

func newAccessLog(cfg Config) *accessLog {
	l := &accessLog{
		size: cfg.AccessLogSize, enough: min(gatherMost, max(1, cfg.AccessLogSize/2)), arrived: make(chan struct{}, 1),
		to: cfg.AccessLog, told: cfg.OnRecord, logger: cfg.Logger,
	}
	if l.to != nil {
		l.out = bufio.NewWriterSize(l.to, accessLogBuffer)
	}
	return l
}

// wanted reports whether anybody is told of records.
func (l *accessLog) wanted() bool { return l.to != nil || l.told != nil }

const (
	// accessLogBuffer holds some lines, the longest of which has less than 4 KiB.
	accessLogBuffer = 16 << 10
	// A record waits for others for gatherFirst after a time without any, and for
	// gatherTime at most while they come; or until there are gatherMost, or half of
	// what may wait.
	gatherFirst = 20 * time.Millisecond
	gatherTime  = 100 * time.Millisecond
	gatherMost  = 256
)

// add takes a record. It does not block.
func (l *accessLog) add(r *table.Record) {
	l.mu.Lock()
	waits := len(l.waiting)
	if waits < l.size {
		l.waiting = append(l.waiting, r)
	}
	wake := l.rests || waits+1 == l.enough
	l.rests = false
	l.mu.Unlock()
	if waits >= l.size {
		l.dropped.Add(1)
	}
	if wake {
		notify(l.arrived)
	}
}

// many reports whether as many records wait as are handed on at once.
func (l *accessLog) many() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) >= l.enough
}

// run hands records on until ctx ends, and then those that wait.
func (l *accessLog) run(ctx context.Context) {
	gather := time.NewTimer(gatherFirst)
	defer gather.Stop()
	for {
		select {
		case <-l.arrived:
			after := gatherFirst
			if l.many() {
				l.handWaiting()
				after = gatherTime
			}
			gather.Reset(after)
		case <-gather.C:
			if l.handWaiting() {
				gather.Reset(gatherTime)
			}
		case <-ctx.Done():
			l.handWaiting()
			return
		}
	}
}

// handWaiting hands on what waits, and lets the lines out. It is false when there was
// nothing: then the next record says so.
func (l *accessLog) handWaiting() bool {
	l.mu.Lock()
	l.waiting, l.taken = l.taken[:0], l.waiting
	l.rests = len(l.taken) == 0
	l.mu.Unlock()
	for i, r := range l.taken {
		if l.to != nil && r.Reason != table.ReasonUnused {
			l.write(r)
		}
		if l.told != nil {
			l.told(r)
		}
		l.taken[i] = nil
	}
	l.flush()
	return len(l.taken) > 0
}

func (l *accessLog) write(r *table.Record) {
	b := l.line.of(r)
	if len(b) > l.out.Available() {
		l.flush()
	}
	// An error stays in the writer, and flush tells of it.
	_, _ = l.out.Write(b)
	l.lines++
}

// flush lets the lines out. Those that cannot be written are dropped; a disk that
// was full may have room for the next.
func (l *accessLog) flush() {
	if l.lines == 0 {
		return
	}
	err := l.out.Flush()
	switch {
	case err != nil:
		l.dropped.Add(l.lines)
		l.out.Reset(l.to)
		if !l.broken {
			l.logger.Error("the access log cannot be written; lines are dropped", "err", err)
		}
	case l.broken:
		l.logger.Info("the access log is written again", "dropped", l.dropped.Load())
	}
	l.lines, l.broken = 0, err != nil
}

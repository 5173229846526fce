package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// accessLog takes records without ever making a connection wait, and hands them
// on from a goroutine of its own: a ring of a fixed size, that drops and counts
// what does not fit, or cannot be written.
type accessLog struct {
	ring    chan *table.Record
	dropped atomic.Uint64
	// to is nil when there is no log.
	to     io.Writer
	told   func(*table.Record)
	logger *slog.Logger

	// Only run's goroutine uses these. out holds lines, which are whole.
	out    *bufio.Writer
	lines  uint64
	broken bool
}

func newAccessLog(cfg Config) *accessLog {
	l := &accessLog{ring: make(chan *table.Record, cfg.AccessLogSize), to: cfg.AccessLog, told: cfg.OnRecord, logger: cfg.Logger}
	if l.to != nil {
		l.out = bufio.NewWriterSize(l.to, accessLogBuffer)
	}
	return l
}

// wanted reports whether anybody is told of records.
func (l *accessLog) wanted() bool { return l.to != nil || l.told != nil }

// accessLogBuffer holds some lines, the longest of which has less than 4 KiB.
const accessLogBuffer = 16 << 10

// add takes a record. It does not block.
func (l *accessLog) add(r *table.Record) {
	select {
	case l.ring <- r:
	default:
		l.dropped.Add(1)
	}
}

// run hands records on until ctx ends, and then those that wait.
func (l *accessLog) run(ctx context.Context) {
	for {
		select {
		case r := <-l.ring:
			l.hand(r)
		case <-ctx.Done():
			l.handWaiting()
			return
		}
	}
}

func (l *accessLog) handWaiting() {
	for {
		select {
		case r := <-l.ring:
			l.hand(r)
		default:
			l.flush()
			return
		}
	}
}

// hand writes one record, and lets the lines out when no more records wait.
func (l *accessLog) hand(r *table.Record) {
	if l.to != nil {
		l.write(r)
	}
	if l.told != nil {
		l.told(r)
	}
	if len(l.ring) == 0 {
		l.flush()
	}
}

func (l *accessLog) write(r *table.Record) {
	b, err := json.Marshal(lineOf(r))
	if err != nil {
		l.dropped.Add(1)
		return
	}
	if len(b)+1 > l.out.Available() {
		l.flush()
	}
	// An error stays in the writer, and flush tells of it.
	_, _ = l.out.Write(append(b, '\n'))
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

// line is a record as a line of the access log.
type line struct {
	Time       time.Time    `json:"time"`
	DurationMS float64      `json:"duration_ms"`
	Client     string       `json:"client"`
	Peer       string       `json:"peer,omitempty"`
	SNI        string       `json:"sni"`
	Route      string       `json:"route"`
	Endpoint   string       `json:"endpoint"`
	Attempts   int          `json:"attempts,omitempty"`
	BytesIn    uint64       `json:"bytes_in"`
	BytesOut   uint64       `json:"bytes_out"`
	Reason     table.Reason `json:"reason"`
	Detail     string       `json:"detail,omitempty"`
	Alert      uint8        `json:"alert,omitempty"`
	Routes     string       `json:"routes,omitempty"`
	Basis      string       `json:"basis"`
}

func lineOf(r *table.Record) line {
	l := line{
		Time:       r.Start.UTC(),
		DurationMS: float64(r.Duration.Microseconds()) / 1000,
		Client:     r.Client.String(),
		SNI:        r.SNI,
		Route:      r.Route,
		Endpoint:   r.Endpoint,
		Attempts:   r.Attempts,
		BytesIn:    r.BytesIn,
		BytesOut:   r.BytesOut,
		Reason:     r.Reason,
		Detail:     r.Detail,
		Alert:      r.Alert,
		Basis:      r.Basis.Text(),
	}
	if r.Peer != r.Client {
		l.Peer = r.Peer.String()
	}
	if p := r.Routes; p != nil {
		l.Routes = p.GetStream() + "@" + strconv.FormatUint(p.GetSequence(), 10)
	}
	return l
}

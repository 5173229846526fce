package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// accessLog takes records without ever making a connection wait, and hands them
// on from a goroutine of its own: a ring of a fixed size, that drops and counts
// what does not fit.
type accessLog struct {
	ring    chan *table.Record
	dropped atomic.Uint64
	out     *bufio.Writer
	lines   *json.Encoder
	told    func(*table.Record)
	logger  *slog.Logger
}

func newAccessLog(cfg Config) *accessLog {
	l := &accessLog{ring: make(chan *table.Record, cfg.AccessLogSize), told: cfg.OnRecord, logger: cfg.Logger}
	if cfg.AccessLog != nil {
		l.out = bufio.NewWriter(cfg.AccessLog)
		l.lines = json.NewEncoder(l.out)
	}
	return l
}

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
	if l.out != nil {
		// An error stays in the writer, and flush tells of it.
		_ = l.lines.Encode(lineOf(r))
	}
	if l.told != nil {
		l.told(r)
	}
	if len(l.ring) == 0 {
		l.flush()
	}
}

func (l *accessLog) flush() {
	if l.out == nil {
		return
	}
	if err := l.out.Flush(); err != nil {
		l.logger.Error("the access log is not written any more", "err", err)
		l.out = nil
	}
}

// line is a record as a line of the access log.
type line struct {
	Time       time.Time    `json:"time"`
	DurationMS float64      `json:"duration_ms"`
	Client     string       `json:"client"`
	Peer       string       `json:"peer,omitempty"`
	SNI        string       `json:"sni,omitempty"`
	Route      string       `json:"route,omitempty"`
	Endpoint   string       `json:"endpoint,omitempty"`
	Attempts   int          `json:"attempts,omitempty"`
	BytesIn    uint64       `json:"bytes_in"`
	BytesOut   uint64       `json:"bytes_out"`
	Reason     table.Reason `json:"reason"`
	Detail     string       `json:"detail,omitempty"`
	Alert      uint8        `json:"alert,omitempty"`
	Routes     string       `json:"routes,omitempty"`
	Basis      string       `json:"basis,omitempty"`
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

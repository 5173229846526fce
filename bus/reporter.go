package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Rhythm of a [Reporter], and the limits of a status stream that it makes.
const (
	DefaultReportInterval = 100 * time.Millisecond
	DefaultFullInterval   = time.Minute
	statusMaxAge          = 24 * time.Hour
	statusMaxMessages     = 1 << 17
	// proxiesPerReport keeps a report well below the payload limit.
	proxiesPerReport = 500
)

// ReporterConfig is what a [Reporter] is made of.
type ReporterConfig struct {
	Log Log
	// Datacenter whose STATUS stream is written; it is made if it is not there.
	Datacenter string
	// Role is xds, gateway or sidecar; Name is unique among its role.
	Role, Name string
	// Logger may be nil.
	Logger *slog.Logger
	// Interval is the least time between two reports, FullInterval the time
	// between two full ones; they have the defaults above.
	Interval, FullInterval time.Duration
}

// Reporter tells what a node, gateway or sidecar runs: at most one report in an
// interval, holding the newest of each proxy that has changed; a refusal (NACK)
// at once; everything each minute. Setting a status never blocks and never
// fails: while the log is away the newest is kept, and told when it is back.
//
// Status is not truth, may age out, and is not fenced.
type Reporter struct {
	cfg    ReporterConfig
	stream string

	mu      sync.Mutex // guards what follows
	proxies map[string]*isthmusv1.ProxyStatus
	gateway *isthmusv1.GatewayStatus
	// routes and basis are how far an xds node is.
	routes *isthmusv1.Position
	basis  *isthmusv1.Basis
	// changed are the proxies to be told of, gone those to be dropped afterwards.
	changed, gone  map[string]bool
	gatewayChanged bool
	nodeChanged    bool
	urgent         bool

	kick chan struct{}

	// Only Run's goroutine uses these.
	incarnation string
	reports     uint64
	// begun: what an earlier life under this name has said was taken back.
	begun bool
	// awaySince is the first of the present failures in a row, sayAgain when to
	// speak of them once more.
	awaySince, sayAgain time.Time
}

// NewReporter returns a reporter that tells nothing until [Reporter.Run].
func NewReporter(cfg ReporterConfig) (*Reporter, error) {
	err := errors.Join(
		when(cfg.Log == nil, "a reporter needs a log"),
		when(cfg.Datacenter == "", "a reporter needs a datacenter"),
		when(cfg.Role == "" || cfg.Name == "", "a reporter needs a role and a name"),
	)
	if err != nil {
		return nil, err
	}
	cfg.Interval = cmp.Or(cfg.Interval, DefaultReportInterval)
	cfg.FullInterval = cmp.Or(cfg.FullInterval, DefaultFullInterval)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &Reporter{
		cfg:     cfg,
		stream:  isthmusv1.StreamName(isthmusv1.ClassStatus, cfg.Datacenter),
		proxies: make(map[string]*isthmusv1.ProxyStatus),
		changed: make(map[string]bool),
		gone:    make(map[string]bool),
		kick:    make(chan struct{}, 1),
	}, nil
}

// Proxy sets the status of a proxy, which is shared from here on. One with a
// refusal that was not told before is told at once.
func (r *Reporter) Proxy(status *isthmusv1.ProxyStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.proxies[status.GetProxy()]
	if proto.Equal(old, status) {
		return
	}
	if nack := status.GetLastNack(); nack != nil && !proto.Equal(nack, old.GetLastNack()) {
		r.urgent = true
	}
	r.proxies[status.GetProxy()] = status
	r.changed[status.GetProxy()] = true
	delete(r.gone, status.GetProxy())
	r.wake()
}

// Forget drops a proxy that is gone for good, after telling once more that it is
// not connected.
func (r *Reporter) Forget(proxy string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	status, ok := r.proxies[proxy]
	if !ok {
		return
	}
	r.proxies[proxy], r.changed[proxy], r.gone[proxy] = r.ended(status), true, true
	r.wake()
}

// ended is the status of a proxy that is connected no more: it stays where it is, however
// far its node gets.
func (r *Reporter) ended(status *isthmusv1.ProxyStatus) *isthmusv1.ProxyStatus {
	last := proto.CloneOf(status)
	last.Connected = false
	if last.GetCurrent() {
		last.Current, last.Routes, last.Basis = false, r.routes, r.basis
	}
	return last
}

// Gateway sets the status of the gateway itself, which is shared from here on.
func (r *Reporter) Gateway(status *isthmusv1.GatewayStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if proto.Equal(r.gateway, status) {
		return
	}
	r.gateway, r.gatewayChanged = status, true
	r.wake()
}

// Node sets how far the node itself is, and with it each of its proxies that is current:
// a change that concerns none of them costs one small report.
func (r *Reporter) Node(routes *isthmusv1.Position, basis *isthmusv1.Basis) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if proto.Equal(r.routes, routes) && proto.Equal(r.basis, basis) {
		return
	}
	r.routes, r.basis, r.nodeChanged = routes, basis, true
	r.wake()
}

func (r *Reporter) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Run tells what was set until the context ends, and returns its cause. What is
// not told by then is lost.
func (r *Reporter) Run(ctx context.Context) error {
	var next, full time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.kick:
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		at := now()
		r.mu.Lock()
		pending, urgent := len(r.changed) > 0 || r.gatewayChanged || r.nodeChanged, r.urgent
		r.mu.Unlock()
		if isFull := !at.Before(full); isFull || urgent || (pending && !at.Before(next)) {
			pending = false
			switch err := r.tell(ctx, isFull); {
			case err != nil && ctx.Err() == nil:
				r.failed(ctx, at, err)
				pending = true
			case err == nil:
				r.succeeded(at)
				if isFull {
					full = at.Add(r.cfg.FullInterval)
				}
			}
			next = now().Add(r.cfg.Interval)
		}
		timer.Reset(max(r.due(pending, next, full).Sub(now()), time.Millisecond))
	}
}

// End tells for the last time, after [Reporter.Run] has ended: that no proxy is connected
// any more, and what was not told yet.
func (r *Reporter) End(ctx context.Context) error {
	r.mu.Lock()
	for proxy, status := range r.proxies {
		if status.GetConnected() {
			r.proxies[proxy], r.changed[proxy] = r.ended(status), true
		}
	}
	r.mu.Unlock()
	return r.tell(ctx, false)
}

// failed says so at the first of failures in a row, and at each FullInterval of
// them: an outage is one fact, not ten lines a second.
func (r *Reporter) failed(ctx context.Context, at time.Time, err error) {
	if r.awaySince.IsZero() {
		r.awaySince = at
	} else if at.Before(r.sayAgain) {
		return
	}
	r.sayAgain = at.Add(r.cfg.FullInterval)
	r.cfg.Logger.Log(ctx, severity(err), "status is not reported; the newest is kept and tried again", "stream", r.stream, "since", r.awaySince, "err", err)
}

func (r *Reporter) succeeded(at time.Time) {
	if r.awaySince.IsZero() {
		return
	}
	r.cfg.Logger.Info("status is reported again", "stream", r.stream, "after", at.Sub(r.awaySince).Round(time.Millisecond))
	r.awaySince = time.Time{}
}

// due is when there is something to do without a kick.
func (r *Reporter) due(pending bool, next, full time.Time) time.Time {
	if pending || full.Before(next) {
		return next
	}
	return full
}

// tell publishes what has changed, or everything.
func (r *Reporter) tell(ctx context.Context, full bool) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	told, reports := r.take(full)
	if !r.begun && !reports[0].GetFull() {
		reports = append([]*isthmusv1.Report{{
			Role: r.cfg.Role, Name: r.cfg.Name, Datacenter: r.cfg.Datacenter, Time: reports[0].GetTime(), Full: true,
		}}, reports...)
	}
	for _, report := range reports {
		if err := r.publish(ctx, report); err != nil {
			r.putBack(told)
			return err
		}
	}
	r.begun = true
	r.drop(told)
	return nil
}

// drop forgets the proxies whose end has been told.
func (r *Reporter) drop(told map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for proxy := range told {
		if r.gone[proxy] && !r.changed[proxy] {
			delete(r.proxies, proxy)
			delete(r.gone, proxy)
		}
	}
}

// open makes the stream before the first report.
func (r *Reporter) open(ctx context.Context) error {
	if r.incarnation != "" {
		return nil
	}
	state, err := r.cfg.Log.Create(ctx, StreamConfig{Name: r.stream, MaxMessages: statusMaxMessages, MaxAge: statusMaxAge})
	if err != nil {
		return err
	}
	r.incarnation = state.Incarnation
	return nil
}

// take makes the reports of what has changed, or of everything, and notes it as
// told.
func (r *Reporter) take(full bool) (told map[string]bool, reports []*isthmusv1.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	told = r.changed
	names := slices.Sorted(maps.Keys(told))
	if full {
		names = slices.Sorted(maps.Keys(r.proxies))
	}
	at := timestamppb.New(now())
	for chunk := range slices.Chunk(names, proxiesPerReport) {
		report := &isthmusv1.Report{Time: at}
		for _, name := range chunk {
			report.Proxies = append(report.Proxies, r.proxies[name])
		}
		reports = append(reports, report)
	}
	if len(reports) == 0 {
		reports = []*isthmusv1.Report{{Time: at}}
	}
	for _, report := range reports {
		report.Role, report.Name, report.Datacenter = r.cfg.Role, r.cfg.Name, r.cfg.Datacenter
		report.Full = full && len(reports) == 1
	}
	if full || r.gatewayChanged {
		reports[0].Gateway = r.gateway
	}
	// Last, as it says how far the proxies are that the others have said to be current.
	reports[len(reports)-1].Routes, reports[len(reports)-1].Basis = r.routes, r.basis
	r.changed, r.gatewayChanged, r.nodeChanged, r.urgent = make(map[string]bool), false, false, false
	return told, reports
}

// putBack notes what was not told after all.
func (r *Reporter) putBack(told map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.Copy(r.changed, told)
	r.gatewayChanged, r.nodeChanged = r.gateway != nil, r.routes != nil
}

func (r *Reporter) publish(ctx context.Context, report *isthmusv1.Report) error {
	value, err := isthmusv1.Marshal(report)
	if err != nil {
		return fmt.Errorf("%s: report: %w", r.stream, err)
	}
	r.reports++
	record, err := isthmusv1.Marshal(&isthmusv1.Record{Value: value, Envelope: &isthmusv1.Envelope{
		Incarnation: r.incarnation, Time: report.GetTime(), Position: 1,
		Transaction: fmt.Sprintf("%s-%s-%d", r.cfg.Role, r.cfg.Name, r.reports),
		End:         &isthmusv1.TransactionEnd{Messages: 1},
	}})
	if err != nil {
		return fmt.Errorf("%s: report: %w", r.stream, err)
	}
	err = r.cfg.Log.Publish(ctx, r.stream, Message{Key: isthmusv1.ReportKey(r.cfg.Role, r.cfg.Name), Record: record})
	if err != nil {
		r.incarnation = "" // The stream may be gone: it is looked for again.
	}
	return err
}

package watcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// DefaultRetryAfter is the wait before a write that failed is tried again.
const DefaultRetryAfter = time.Second

// Config is what a [Watcher] is made of.
type Config struct {
	// Datacenter names the stream, CATALOG_<dc>.
	Datacenter string
	Source     Source
	// Writer says how the stream is written. Stream and SourceLive are filled in
	// here, and Logger when it is nil.
	Writer bus.WriterConfig
	// Logger may be nil.
	Logger *slog.Logger
	// Registerer gets the isthmus_watcher_… metrics while Run runs. May be nil.
	Registerer prometheus.Registerer
	// RetryAfter is the wait before a write or a reading that failed is tried
	// again. 0: [DefaultRetryAfter].
	RetryAfter time.Duration
}

// Watcher keeps CATALOG_<dc> equal to a source. Several may run for one
// datacenter: one is active, the others follow hot. It is used once.
type Watcher struct {
	datacenter string
	source     Source
	writer     *bus.Writer
	log        *slog.Logger
	registerer prometheus.Registerer
	retryAfter time.Duration
	metrics    metrics

	// inbox is what the source said and the loop has not taken yet.
	inbox inbox
	// live is whether the source says that it is seen, seen is closed when it says so
	// for the first time.
	live atomic.Bool
	seen chan struct{}
	once sync.Once

	// scopes and dirty belong to the loop.
	scopes scopes
	// whole: the log has to be compared with all scopes, not with what changed.
	whole bool
	// turn is the turn of office of the present round.
	turn bus.Turn
	// epoch is the source epoch that the scopes' indexes belong to.
	epoch uint64

	mu     sync.Mutex
	status Status
}

// Status is how a watcher stands.
type Status struct {
	// Active: this watcher holds the stream, in the Term.
	Active bool
	Term   uint64
	// Source is why the source is not seen; nil: it is.
	Source error
	// Log is why the stream's state is not known; nil: it is.
	Log error
	// Scopes that there are, and Missing of them that have never been read.
	Scopes, Missing int
	// Position is where the last write of this watcher left the log. Nil: it has
	// not written or compared anything yet.
	Position *isthmusv1.Position
	// Trouble is why the log is not equal to the source now, as far as this
	// watcher knows; nil: it is, or another watcher holds the stream.
	Trouble error
}

var (
	errNotSeen = errors.New("the source has not been seen yet")
	errNotRead = errors.New("the log has not been read yet")
)

// New returns a watcher that does nothing until [Watcher.Run].
func New(cfg Config) (*Watcher, error) {
	if cfg.Source == nil {
		return nil, errors.New("watcher: a watcher needs a source")
	}
	w := &Watcher{
		datacenter: cfg.Datacenter,
		source:     cfg.Source,
		log:        cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		registerer: cfg.Registerer,
		retryAfter: cmp.Or(cfg.RetryAfter, DefaultRetryAfter),
		inbox:      newInbox(),
		seen:       make(chan struct{}),
		scopes:     newScopes(),
		whole:      true,
		status:     Status{Source: errNotSeen, Log: errNotRead},
	}
	w.metrics = newMetrics(w)
	writer := cfg.Writer
	writer.Stream = isthmusv1.StreamName(isthmusv1.ClassCatalog, cfg.Datacenter)
	writer.SourceLive = w.live.Load
	writer.Logger = cmp.Or(writer.Logger, w.log)
	var err error
	if w.writer, err = bus.NewWriter(writer); err != nil {
		return nil, fmt.Errorf("watcher of %s: %w", cfg.Datacenter, err)
	}
	return w, nil
}

// Run watches and writes until the context ends, and returns its cause, or the
// source's error. All its goroutines have ended when it returns.
func (w *Watcher) Run(ctx context.Context) error {
	if w.registerer != nil {
		if err := w.registerer.Register(w.metrics); err != nil {
			return fmt.Errorf("watcher of %s: metrics: %w", w.datacenter, err)
		}
		defer w.registerer.Unregister(w.metrics)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil)
	notify := w.writer.Notify()
	parts.Go(func() {
		// A source that is never seen, like an agent of another datacenter, leaves no
		// stream behind for everybody to wait for.
		select {
		case <-w.seen:
			cancel(w.writer.Run(ctx))
		case <-ctx.Done():
		}
	})
	parts.Go(func() {
		err := w.source.Run(ctx, sink{w})
		if err == nil {
			err = errors.New("the source has ended")
		}
		cancel(fmt.Errorf("source of %s: %w", w.datacenter, err))
	})
	return w.loop(ctx, notify)
}

// loop waits for one of four things: the source said something, the writer's
// turn may have begun or ended, a failed write is to be tried again, the end.
func (w *Watcher) loop(ctx context.Context, notify <-chan struct{}) error {
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-w.inbox.kick:
		case <-notify:
			w.whole = true
			_, err := w.writer.Snapshot()
			w.note(func(s *Status) { s.Log = err })
		case <-retry.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		err := w.round(ctx)
		w.note(func(s *Status) { s.Trouble = err })
		if err == nil || ctx.Err() != nil {
			continue
		}
		if errors.Is(err, ErrUnusable) {
			// The source has said why, and calls when there is something new.
			continue
		}
		w.log.Warn("the catalog was not written; what was published stays", "err", err)
		w.whole = true
		retry.Reset(w.retryAfter)
	}
}

// round takes what the source has said, and writes what is to be written. A
// watcher that is not active only reads, to be ready when it is.
func (w *Watcher) round(ctx context.Context) error {
	w.inbox.take(&w.scopes)
	defer func() {
		known, missing := w.scopes.count()
		w.note(func(s *Status) { s.Scopes, s.Missing = known, missing })
	}()
	turn := w.writer.Turn()
	w.whole = w.whole || turn != w.turn
	w.turn = turn
	w.note(func(s *Status) { s.Active, s.Term = turn.Term != 0, turn.Term })
	if turn.Term == 0 {
		w.whole = true
		return w.readUnread(ctx)
	}
	err := w.write(ctx)
	if errors.Is(err, bus.ErrNotActive) {
		w.whole = true
		return nil
	}
	return err
}

// readUnread reads the scopes that a source without indexes has said to have
// changed.
func (w *Watcher) readUnread(ctx context.Context) error {
	for _, name := range w.scopes.unread() {
		state, err := w.source.Read(ctx, name)
		if err != nil {
			return err
		}
		w.scopes.confirm(state)
	}
	return nil
}

// Status is how the watcher stands. It may be called at any time.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Ready reports why the watcher could not hold the stream, or does not hold it
// rightly: its source was never read whole, or what it read is not written. A
// source that becomes unusable or goes away later leaves it ready: what was
// published stays.
func (w *Watcher) Ready() error {
	s := w.Status()
	switch {
	case s.Position != nil:
		return nil
	case s.Trouble != nil:
		return s.Trouble
	case s.Source != nil:
		return s.Source
	case s.Scopes == 0 || s.Missing > 0:
		return fmt.Errorf("%d of %d scopes of the source were not read yet", s.Missing, s.Scopes)
	case s.Active:
		return errors.New("the log was not compared with the source yet")
	}
	return s.Log
}

func (w *Watcher) note(change func(*Status)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.status)
}

// sink is the watcher as its source sees it.
type sink struct{ w *Watcher }

// Scopes implements [Sink].
func (s sink) Scopes(names []string) { s.w.inbox.scopes(names) }

// Present implements [Sink].
func (s sink) Present(state State) { s.w.inbox.present(state) }

// Changed implements [Sink].
func (s sink) Changed(scope string) { s.w.inbox.changed(scope) }

// Live implements [Sink].
func (s sink) Live(err error) {
	was := s.w.live.Swap(err == nil)
	s.w.note(func(status *Status) { status.Source = err })
	switch {
	case err != nil && was:
		s.w.log.Warn("the source is lost", "err", err)
	case err == nil && !was:
		s.w.log.Info("the source is seen")
		s.w.once.Do(func() { close(s.w.seen) })
	}
}

package role

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Errors of [Run], wrapped with the component's name.
var (
	// ErrEnded says that a component returned without an error although nobody
	// had told it to stop. A component runs for as long as its role.
	ErrEnded = errors.New("ended without being told to")
	// ErrStopDeadline says that a component had not ended when the deadline for
	// stopping passed. Its goroutine still runs; the process should exit.
	ErrStopDeadline = errors.New("had not stopped by the deadline")
)

// Component is one row of a role's table.
type Component struct {
	// Name is unique in the table. Errors, logs and /readyz carry it.
	Name string
	// After names the components that start before this one and stop after it.
	After []string
	// Run blocks until ctx ends or until it fails. It calls started once, as soon
	// as what others wait for is there (a socket is bound, a connection stands);
	// until then no component that stands later in the order is started. What it
	// returns after ctx has ended is an error only if it is not ctx's own.
	Run func(ctx context.Context, started func()) error
	// Waiting says in a sentence what this component still waits for before the
	// role may be used, and nothing when it is ready. Nil: ready once started.
	// It may be called from any goroutine, before Run and after it.
	Waiting func() string
}

// Options are what Run takes beside the table. The zero Options are useful.
type Options struct {
	// Logger hears of each start and stop, at debug level, and of failures.
	// Nil: nobody does.
	Logger *slog.Logger
	// Health shows the components and their readiness. Nil: nobody sees it.
	Health *Health
	// StopDeadline is how long all components together may take to stop.
	// Zero: as long as they like.
	StopDeadline time.Duration
}

// running is one started component.
type running struct {
	Component
	cancel context.CancelCauseFunc
	// done is closed when Run has returned; err is set before.
	done chan struct{}
	err  error
}

// Run starts the components in the order of [Order], waits until ctx ends or one
// of them fails, and stops them in reverse.
//
// It returns nil if ctx ended and everything stopped cleanly. Otherwise the
// errors are joined, the first cause first: a component's own error, [ErrEnded],
// or [ErrStopDeadline], each wrapped with the component's name, or an error of
// [Order], in which case nothing was started.
func Run(ctx context.Context, table []Component, options Options) error {
	order, err := Order(table)
	if err != nil {
		return err
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	options.Health.watch(order)

	life := &life{options: options, failed: make(chan *running, len(order))}
	culprit := life.start(ctx, order)
	if culprit == nil {
		culprit = life.wait(ctx)
	}
	return life.stop(ctx, culprit)
}

// life is one run of a table.
type life struct {
	options Options
	started []*running
	// failed receives each component that ended, in the order of their ends.
	failed chan *running
}

// start starts all components in order, until one of them fails, which is
// returned, or until ctx ends.
func (l *life) start(ctx context.Context, order []Component) *running {
	for _, component := range order {
		if ctx.Err() != nil {
			return nil
		}
		started := l.launch(ctx, component)
		select {
		case <-started:
			l.options.Health.started(component.Name)
			l.options.Logger.LogAttrs(ctx, slog.LevelDebug, "started", slog.String("component", component.Name))
		case r := <-l.failed:
			return r
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// launch runs a component in a goroutine of its own; the channel is closed when
// the component has called started.
func (l *life) launch(ctx context.Context, component Component) <-chan struct{} {
	// The component stops when told to by stop, in its turn; not when ctx ends.
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	r := &running{Component: component, cancel: cancel, done: make(chan struct{})}
	l.started = append(l.started, r)
	started := make(chan struct{}, 1)
	go func() {
		r.err = r.Run(own, func() {
			select {
			case started <- struct{}{}:
			default: // Called twice: once is what counts.
			}
		})
		if own.Err() != nil && (errors.Is(r.err, own.Err()) || errors.Is(r.err, context.Cause(own))) {
			r.err = nil // It obeyed.
		}
		close(r.done)
		l.failed <- r
	}()
	return started
}

// wait waits for the first failure, or the end of ctx, which is none.
func (l *life) wait(ctx context.Context) *running {
	select {
	case <-ctx.Done():
		return nil
	case r := <-l.failed:
		return r
	}
}

// stop stops what was started, in reverse, and returns all that failed: first
// the culprit, if there is one, then what failed while stopping.
func (l *life) stop(ctx context.Context, culprit *running) error {
	l.options.Health.stopping()
	logger := l.options.Logger
	var errs []error
	cause := context.Cause(ctx)
	if culprit != nil {
		cause = fmt.Errorf("%s: %w", culprit.Name, cmp.Or(culprit.err, ErrEnded))
		errs = append(errs, cause)
		logger.LogAttrs(ctx, slog.LevelError, "stopping after a failure", slog.Any("err", cause))
	} else {
		logger.LogAttrs(ctx, slog.LevelDebug, "stopping", slog.Any("cause", cause))
	}
	var deadline <-chan time.Time
	if l.options.StopDeadline > 0 {
		timer := time.NewTimer(l.options.StopDeadline)
		defer timer.Stop()
		deadline = timer.C
	}
	for _, r := range slices.Backward(l.started) {
		r.cancel(cause)
		select {
		case <-r.done:
		case <-deadline:
			return errors.Join(append(errs, l.abandon(cause)...)...)
		}
		if r != culprit && r.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.Name, r.err))
		}
		logger.LogAttrs(ctx, slog.LevelDebug, "stopped", slog.String("component", r.Name))
	}
	return errors.Join(errs...)
}

// abandon tells all that still run to stop at once and names them.
func (l *life) abandon(cause error) []error {
	var errs []error
	for _, r := range slices.Backward(l.started) {
		if r.ended() {
			continue
		}
		r.cancel(cause)
		errs = append(errs, fmt.Errorf("%s: %w (%s)", r.Name, ErrStopDeadline, l.options.StopDeadline))
	}
	return errs
}

func (r *running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

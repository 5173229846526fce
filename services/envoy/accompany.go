package envoy

import (
	"context"
	"errors"
	"os"
	"time"
)

// accompanied is an Envoy that runs.
type accompanied struct {
	Command
	child *os.Process
	// ended is closed when it has.
	ended <-chan struct{}
	// admin is the file to which it writes where its admin server listens.
	admin string

	// ready is closed when it may be told to stop; nil until somebody wants it to.
	ready chan struct{}
	// hurry ends what is done before that.
	hurry context.CancelFunc
	// late comes when it has been told, and has not stopped in time; nil before.
	late <-chan time.Time
}

// follow passes signals on until the child has ended, and sees that it does once it was
// told to.
func (a *accompanied) follow(ctx context.Context) {
	defer func() {
		if a.ready != nil {
			a.hurry()
			<-a.ready
		}
	}()
	done, with := ctx.Done(), os.Signal(terminate)
	for {
		// Once it was told, that it is ready to be is no news.
		var ready <-chan struct{}
		if a.late == nil {
			ready = a.ready
		}
		select {
		case <-a.ended:
			return
		case s := <-a.Signals:
			switch {
			case !Ends(s):
				a.send(s)
			case a.ready == nil:
				with = s
				a.prepare(ctx)
			default:
				a.Logger.Info("told to stop again: what is open is not waited for", "signal", s.String())
				a.hurry()
				a.tell(s)
			}
		case <-done:
			done = nil
			if a.ready == nil {
				a.prepare(ctx)
			}
		case <-ready:
			a.tell(with)
		case <-a.late:
			a.Logger.Warn("Envoy has not stopped in time and is killed", "after", a.StopWithin)
			a.send(os.Kill)
		}
	}
}

// prepare begins what is to be done before Envoy is told to stop. That ctx ends is one of
// the reasons for it, and does not end it.
func (a *accompanied) prepare(ctx context.Context) {
	ctx, a.hurry = context.WithCancel(context.WithoutCancel(ctx))
	ready := make(chan struct{})
	a.ready = ready
	go func() {
		defer close(ready)
		if a.Stopping != nil {
			a.Stopping(ctx)
		}
		d, none := newDrain(a.admin, a.DrainWithin, a.Logger)
		if d == nil {
			a.Logger.Info("Envoy stops without a drain, and open connections end with it", "because", none)
			return
		}
		d.run(ctx)
	}()
}

// tell tells Envoy to stop; from the first time on its time runs.
func (a *accompanied) tell(with os.Signal) {
	if a.late == nil {
		a.late = time.After(a.StopWithin)
	}
	a.send(with)
}

func (a *accompanied) send(s os.Signal) {
	if err := a.child.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		a.Logger.Warn("a signal does not reach Envoy", "signal", s.String(), "err", err)
	}
}

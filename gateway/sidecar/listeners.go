package sidecar

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/relay"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// listenerSet is the listeners that are open.
type listenerSet struct {
	mu     sync.Mutex
	open   map[listenerKey]*openListener
	failed []*isthmusv1.Problem
	loops  sync.WaitGroup
}

// openListener is one of them; what it leads to may change.
type openListener struct {
	net.Listener
	spec atomic.Pointer[listenerSpec]
}

// retryListen is how soon a listener that could not be opened is tried again.
const retryListen = time.Second

// keepListeners brings the listeners in line with the state whenever that
// changed, and tries again those that could not be opened.
func (s *Sidecar) keepListeners(ctx, conns context.Context) {
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		case <-retry:
		}
		st := s.state.Load()
		if st == nil || s.live.Current() == nil {
			continue
		}
		retry = nil
		if failed := s.listen(ctx, conns, st); len(failed) > 0 {
			retry = time.After(retryListen)
		} else {
			s.readyOnce.Do(func() {
				s.log.InfoContext(ctx, "sidecar serves", "proxy", st.view.Name(),
					"identity", s.live.Current(), "listeners", st.addresses())
				close(s.ready)
			})
		}
		s.report()
	}
}

// listen carries a plan out and returns the problems of what could not be
// opened.
func (s *Sidecar) listen(ctx, conns context.Context, st *state) []*isthmusv1.Problem {
	l := &s.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = make(map[listenerKey]*openListener)
	}
	before := l.failed
	l.failed = nil
	plan := planListeners(slices.Collect(maps.Keys(l.open)), st.listeners)
	for _, key := range plan.close {
		_ = l.open[key].Close()
		delete(l.open, key)
	}
	for _, spec := range plan.keep {
		s.relisten(l.open[spec.listenerKey], spec)
	}
	for _, spec := range plan.open {
		listener, err := openSpec(ctx, spec)
		if err != nil {
			l.failed = append(l.failed, listenProblem(spec, err))
			continue
		}
		opened := &openListener{Listener: listener}
		opened.spec.Store(&spec)
		l.open[spec.listenerKey] = opened
		l.loops.Go(func() { s.acceptLoop(conns, opened) })
	}
	for _, p := range l.failed {
		if !slices.ContainsFunc(before, func(o *isthmusv1.Problem) bool { return o.GetText() == p.GetText() }) {
			s.log.WarnContext(ctx, "listener", "err", p.GetText(), "fix", p.GetFix())
		}
	}
	return l.failed
}

// relisten changes what a kept listener leads to.
func (s *Sidecar) relisten(l *openListener, spec listenerSpec) {
	was := l.spec.Swap(&spec)
	if was.mode != spec.mode {
		if err := setSocketMode(spec.address, spec.mode); err != nil {
			s.listeners.failed = append(s.listeners.failed, listenProblem(spec, err))
		}
	}
}

func openSpec(ctx context.Context, spec listenerSpec) (net.Listener, error) {
	if spec.network == "unix" {
		return listenUnix(ctx, spec.address, spec.mode)
	}
	return new(net.ListenConfig).Listen(ctx, spec.network, spec.address)
}

func listenProblem(spec listenerSpec, err error) *isthmusv1.Problem {
	what := "upstream " + spec.route
	if spec.public() {
		what = "callers"
	}
	return problem(CodeBadListener, "free it, or choose another", "no listener for %s: %v", what, err)
}

func (l *listenerSet) failures() []*isthmusv1.Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.failed)
}

// count is how many are open, and how many could not be opened.
func (l *listenerSet) count() (open, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open), len(l.failed)
}

// closeAll closes the listeners and waits until nothing more is accepted.
func (l *listenerSet) closeAll() {
	l.mu.Lock()
	for _, listener := range l.open {
		_ = listener.Close()
	}
	clear(l.open)
	l.mu.Unlock()
	l.loops.Wait()
}

// acceptLoop accepts until the listener is closed. Errors that are about one
// connection, or about descriptors that have run out, are waited out.
func (s *Sidecar) acceptLoop(conns context.Context, l *openListener) {
	delay := time.Duration(0)
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.log.Warn("a connection could not be accepted", "listener", l.Addr().String(), "err", err)
			<-time.After(delay)
			continue
		}
		delay = 0
		both, ok := conn.(relay.Conn)
		if !ok {
			abort(conn) // No listener of ours makes such.
			continue
		}
		s.conns.Go(func() { s.handle(conns, both, *l.spec.Load()) })
	}
}

package identity

import (
	"context"
	"sync"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Name is whose identity is asked for: a service in a datacenter.
type Name struct {
	Service    *isthmusv1.ServiceRef
	Datacenter string
}

// In is the name's SPIFFE ID in a trust domain.
func (n Name) In(trustDomain string) string {
	return isthmusv1.SPIFFEID(n.Service, n.Datacenter, trustDomain)
}

// String shows the name for people: service@datacenter.
func (n Name) String() string { return n.Service.Qualified() + "@" + n.Datacenter }

// Source is where identities come from.
type Source interface {
	// Follow hands over the present identity of a service, then each next one:
	// a renewed leaf, changed roots. It blocks until ctx ends and returns its
	// cause. handle is called from one goroutine, with an identity or with the
	// trouble that keeps the source from having one; trouble takes back nothing
	// that was handed over before, and is told once for as long as it lasts.
	Follow(ctx context.Context, name Name, handle func(*Identity, error)) error
}

var (
	_ Source = (*DevCA)(nil)
	_ Source = Directory{}
)

// Clock is the time that a source lives in.
type Clock interface {
	Now() time.Time
	// After returns a channel that receives once, when the time has passed.
	After(time.Duration) <-chan time.Time
}

// systemClock is the machine's own time.
type systemClock struct{}

// Now is the time.
func (systemClock) Now() time.Time { return time.Now() }

// After is time's own.
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

func clockOr(c Clock) Clock {
	if c == nil {
		return systemClock{}
	}
	return c
}

// Live is the newest identity of one service, for everybody who needs it at
// the moment that they need it. See [NewLive].
type Live struct {
	clock Clock

	mu      sync.Mutex
	current *Identity
	trouble error
	changed chan struct{}
}

// NewLive makes a Live without an identity. A nil clock is the machine's.
func NewLive(clock Clock) *Live {
	return &Live{clock: clockOr(clock), trouble: ErrNone, changed: make(chan struct{})}
}

// Take is what [Source.Follow] wants as its handle: it keeps an identity, or
// the trouble.
func (l *Live) Take(i *Identity, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i != nil {
		l.current = i
	}
	l.trouble = err
	close(l.changed)
	l.changed = make(chan struct{})
}

// Forget drops the identity, as when it is no longer the right one.
func (l *Live) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current, l.trouble = nil, ErrNone
	close(l.changed)
	l.changed = make(chan struct{})
}

// Current returns the newest identity, nil while there has been none.
func (l *Live) Current() *Identity {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// Trouble is why there is no newer identity, or no identity at all; nil when
// all is well.
func (l *Live) Trouble() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trouble
}

// Changed returns the newest identity, which may be nil, and a channel that is
// closed when there is something newer: another identity, or trouble.
func (l *Live) Changed() (*Identity, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current, l.changed
}

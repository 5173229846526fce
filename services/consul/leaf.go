package consul

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// Leaves is the local agent as a source of identities. It makes the keys and has
// the leaves signed; it renews them before they expire and when the root is
// replaced, and hands each next one over to whoever waits. Keys stay in memory.
//
// A leaf is of the agent's own datacenter and signed for the client's token, which
// needs service:write on the service.
type Leaves struct {
	client *Client
	wait   time.Duration
	now    func() time.Time
}

var _ identity.Source = (*Leaves)(nil)

// Leaves is the client's agent as a source of identities.
func (c *Client) Leaves() *Leaves {
	return &Leaves{client: c, wait: leafWait, now: time.Now}
}

const (
	// leafWait is how long a query for a leaf or for roots blocks: an agent that
	// has gone without a word is noticed within it.
	leafWait = 2 * time.Minute
	// Bounds of the pause before a failed query is asked again.
	leafFirstPause = 100 * time.Millisecond
	leafLastPause  = 10 * time.Second
)

// agentRoots is where an agent answers with its own copy of the roots, which it
// keeps while its servers are away.
const agentRoots = "/v1/agent/connect/ca/roots"

// leaf is an agent's answer; its key must not be shown.
type leaf struct {
	CertPEM, PrivateKeyPEM string
}

// String does not show the key.
func (l leaf) String() string { return "a leaf" }

// GoString is String.
func (l leaf) GoString() string { return l.String() }

// Follow is [identity.Source]: the agent's leaf of the service, and each next one.
// Trouble wraps [ErrDenied], with the right that is missing, [ErrUnavailable],
// [ErrConnectDisabled], [identity.ErrWrongName] for a leaf of another service or
// datacenter, and what else [identity.New] finds.
func (l *Leaves) Follow(ctx context.Context, name identity.Name, handle func(*identity.Identity, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel(nil)
	f := &leafFollower{name: name, now: l.now, handle: handle}
	leaves, roots := make(chan leafNews), make(chan rootNews)
	group.Go(func() { l.followLeaf(ctx, name, leaves) })
	group.Go(func() { l.followRoots(ctx, roots) })
	for {
		timer := time.NewTimer(time.Hour)
		if at := f.wakeAt(); !at.IsZero() {
			timer.Reset(at.Sub(l.now()) + time.Millisecond)
		}
		select {
		case <-ctx.Done():
		case news := <-leaves:
			f.leafIs(news)
		case news := <-roots:
			f.rootsAre(news)
		case <-timer.C:
			f.settle()
		}
		timer.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// leafNews and rootNews are what a query has brought: content or trouble.
type leafNews struct {
	leaf leaf
	// waited: the query waited for it.
	waited bool
	err    error
}

type rootNews struct {
	roots *isthmusv1.CARoots
	err   error
}

// followLeaf asks for the service's leaf again and again.
func (l *Leaves) followLeaf(ctx context.Context, name identity.Name, out chan<- leafNews) {
	service := name.Service.GetName()
	path := "/v1/agent/connect/ca/leaf/" + service
	follow(ctx, l.wait, func(ctx context.Context, q Query) (Answer, error) {
		news := leafNews{waited: q.Index > 0}
		answer, err := l.client.get(ctx, path, q, &news.leaf)
		if errors.Is(err, ErrDenied) {
			err = fmt.Errorf("leaf of %s: the token needs service:write on %q: %w", name, service, err)
		}
		news.err = err
		send(ctx, out, news)
		return answer, err
	})
}

// followRoots asks for the roots again and again.
func (l *Leaves) followRoots(ctx context.Context, out chan<- rootNews) {
	follow(ctx, l.wait, func(ctx context.Context, q Query) (Answer, error) {
		roots, answer, err := l.client.roots(ctx, agentRoots, q)
		send(ctx, out, rootNews{roots, err})
		return answer, err
	})
}

// follow asks until the context ends, each time waiting beyond the index of the
// last answer. After a failure it begins anew: an agent that was started again has
// other indexes.
func follow(ctx context.Context, wait time.Duration, ask func(context.Context, Query) (Answer, error)) {
	var index uint64
	pause := leafFirstPause
	for ctx.Err() == nil {
		answer, err := ask(ctx, Query{Index: index, Wait: wait - rand.N(wait/8+1)}) //nolint:gosec // Spreads load; nobody gains from guessing it.
		if err == nil && answer.Index >= index {
			if index > 0 { // Only a wait shows that all is well: the first answer may be a copy of what is refused now.
				pause = leafFirstPause
			}
			index = max(answer.Index, 1)
			continue
		}
		index = 0                                         // Also when it went backwards, as after a restore.
		timer := time.NewTimer(pause - rand.N(pause/4+1)) //nolint:gosec // As above.
		pause = min(2*pause, leafLastPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// send hands over unless the context ends.
func send[T any](ctx context.Context, out chan<- T, value T) {
	select {
	case out <- value:
	case <-ctx.Done():
	}
}

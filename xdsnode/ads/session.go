package ads

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// session is what the two protocols have in common: one Envoy's stream, from its first
// request on.
type session struct {
	server *Server
	proxy  *xdsnode.Proxy
	// name and kind are the proxy's, joined is the stream's place among all.
	name, kind string
	joined     uint64
	client     *client
	log        *slog.Logger
	nonces     uint64
	// look is the proxy's resources of names, nil for each that is not there, unless the
	// stream is stale; names are those of all that there are.
	look  func(t xdsnode.Type, names []string) ([]*xdsnode.Resource, error)
	names func(t xdsnode.Type) []string
	// taken is the newest point whose changes were taken up.
	taken *point

	// ended is closed when the server ends the stream, which endsWith says why.
	ended chan struct{}
	wake  chan struct{}
	mu    sync.Mutex // guards what follows
	// changed are the names that the server has said to have changed.
	changed  map[xdsnode.Type]map[string]bool
	progress progress
	endsWith error
	// stated are the problems that were logged. Server.mu guards it.
	stated []string
	// silent: the stream has ended. Server.said guards it.
	silent bool
}

// Why streams are ended.
var (
	// An Envoy keeps what it has, and is served again when it is registered again.
	errGone     = status.Error(codes.NotFound, "the proxy is registered no more")
	errSilent   = status.Error(codes.DeadlineExceeded, "the stream has asked for nothing")
	errStopping = status.Error(codes.Unavailable, "the node is stopping")
	// Whoever it was comes back to this node, or to another one.
	errOld = status.Error(codes.Unavailable, "the stream has lived its time; connect again")
)

// open finds whom a stream is for, and has it told of changes. Close it with
// Server.leave.
func (s *Server) open(c *client, n *core.Node) (*session, error) {
	node, id := named(n)
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "the first request names no node: its id is that of the proxy")
	}
	st := &session{
		server: s, client: c, ended: make(chan struct{}), wake: make(chan struct{}, 1), changed: map[xdsnode.Type]map[string]bool{},
	}
	why, err := s.join(st, node, id)
	if err != nil {
		s.log.Warn("a proxy is not served", "proxy", id, "node", node, "err", err, "why", why)
		return nil, err
	}
	s.mu.Lock()
	st.state(st.proxy.Problems())
	s.mu.Unlock()
	st.look = func(t xdsnode.Type, names []string) ([]*xdsnode.Resource, error) { return s.look(st, t, names) }
	st.names = func(t xdsnode.Type) []string { return s.names(st.proxy, t) }
	s.tell(st)
	return st, nil
}

// named is how an Envoy calls itself, as `consul connect envoy` writes it.
func named(n *core.Node) (node, id string) {
	return n.GetMetadata().GetFields()["node_name"].GetStringValue(), n.GetId()
}

// note takes what has changed in one go, and returns at once. What a stream that does
// not read has not been sent yet is kept once, however often it changes.
func (st *session) note(changed map[xdsnode.Type][]string, latest, before *point) {
	st.mu.Lock()
	st.progress.concern(latest, before)
	for t, names := range changed {
		if st.changed[t] == nil {
			st.changed[t] = map[string]bool{}
		}
		for _, name := range names {
			st.changed[t][name] = true
		}
	}
	st.mu.Unlock()
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// noted are the names that have changed since it was last called.
func (st *session) noted() map[xdsnode.Type]map[string]bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	out := st.changed
	st.changed = map[xdsnode.Type]map[string]bool{}
	st.taken = st.progress.latest
	return out
}

// end ends the stream; the first reason counts.
func (st *session) end(why error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.endsWith == nil {
		st.endsWith = why
		close(st.ended)
	}
}

// errNews says that something has changed since news were last taken up.
var errNews = errors.New("something has changed meanwhile")

// fresh sends what is due, by what is there now.
func fresh(send func() error) error {
	for {
		if err := send(); !errors.Is(err, errNews) {
			return err
		}
	}
}

// stale is why nothing may be looked up for the stream: its end, or [errNews].
func (st *session) stale() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.endsWith == nil && len(st.changed) > 0 {
		return errNews
	}
	return st.endsWith
}

func (st *session) why() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.endsWith
}

// recheck ends the stream when its client is believed no more, and its connection, which
// a client that does not read would not let go. It returns how long to wait for the next
// time.
func (st *session) recheck() time.Duration {
	until, err := st.client.believed()
	switch {
	case err != nil:
		why := status.Errorf(codes.Unauthenticated, "%s is believed no more: %v", st.client.uri, err)
		st.end(why)
		st.client.hangUp(why)
		return never
	case until.IsZero():
		return never
	}
	return time.Until(until) + time.Millisecond
}

// watch rechecks the client now, and whenever that is due, until it is told to stop: not
// in the stream's own time, which a client that does not read holds up.
func (st *session) watch() (stop func() bool) {
	var expiry *time.Timer
	expiry = time.AfterFunc(never, func() { expiry.Reset(st.recheck()) })
	expiry.Reset(st.recheck())
	return expiry.Stop
}

// nonce is a new one.
func (st *session) nonce() string {
	st.nonces++
	return strconv.FormatUint(st.nonces, 10)
}

// refused takes note of a refusal of resources that came from a point.
func (st *session) refused(t xdsnode.Type, names []string, why string, from *point) {
	said := nack(t, names, why, from)
	st.log.Warn("the Envoy has refused resources; it keeps what it had", "resource", said.GetResource(), "why", why, "routes", said.GetCause().GetSequence())
	st.mu.Lock()
	st.progress.nack = said
	st.mu.Unlock()
	st.server.tell(st)
}

// reach takes note of what the Envoy has taken in.
func (st *session) reach(s standing) {
	st.mu.Lock()
	news := st.progress.reach(s)
	st.mu.Unlock()
	if news {
		st.server.tell(st)
	}
}

// unserved takes note of a request for a type that is not served.
func (st *session) unserved(typeURL string) {
	st.log.Debug("resources of this type are not served", "type_url", typeURL)
}

// protocol is what the two do differently: take takes a request, send sends what is due,
// settled says whether all was answered, and stand what the Envoy has.
type protocol[R any] interface {
	take(request R)
	send() error
	settled() bool
	stand() standing
}

// serve talks with one Envoy by a protocol, from its first request on, which says who it
// is.
func serve[R interface{ GetNode() *core.Node }](ctx context.Context, s *Server, recv func() (R, error), begin func(*session) protocol[R]) (err error) {
	from, err := s.clientOf(ctx)
	defer func() { from.hangUp(err) }()
	if err != nil {
		return err
	}
	first, err := firstOf(s, recv)
	if err != nil {
		return err
	}
	session, err := s.open(from, first.GetNode())
	if err != nil {
		return err
	}
	defer s.leave(session)
	defer from.serving()()
	by := begin(session)
	by.take(first)
	return converse(ctx, session, recv, by)
}

// firstOf is the first request, if it comes before anybody would wait longer: until then
// nobody knows whom the stream is for, or looks at its client again.
func firstOf[R any](s *Server, recv func() (R, error)) (R, error) {
	type received struct {
		request R
		err     error
	}
	got := make(chan received, 1)
	go func() { // It ends with the stream.
		request, err := recv()
		got <- received{request, err}
	}()
	late := time.NewTimer(introducedWithin)
	defer late.Stop()
	var none R
	select {
	case r := <-got:
		return r.request, r.err
	case <-late.C:
		return none, errSilent
	case <-s.closed:
		return none, errStopping
	}
}

// converse reads requests, and has each taken, and what is due sent before the first and
// after each and whenever something has changed, until one of the two ends the stream.
func converse[R any](ctx context.Context, st *session, recv func() (R, error), by protocol[R]) (err error) {
	st.log.Info("a proxy is connected")
	defer func() { st.log.Info("a proxy is gone", "why", err) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	requests, ended := make(chan R), make(chan error, 1)
	go func() {
		for {
			request, err := recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case requests <- request:
			case <-ctx.Done():
				return
			}
		}
	}()
	// From here on it is told of other roots; those that came just before are looked at now.
	defer st.watch()()
	life := time.NewTimer(st.server.cfg.lifetime())
	defer life.Stop()
	old := false
	for {
		if err := fresh(by.send); err != nil {
			return err
		}
		st.reach(by.stand())
		if old && by.settled() {
			return errOld
		}
		select {
		case request := <-requests:
			by.take(request)
		case <-st.wake:
		case err := <-ended:
			return err
		case <-life.C:
			old = true
		case <-st.ended:
			return st.why()
		case <-st.server.closed:
			return errStopping
		}
	}
}

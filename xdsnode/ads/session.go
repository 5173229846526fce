package ads

import (
	"context"
	"log/slog"
	"strconv"
	"sync"

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
	log    *slog.Logger
	nonces uint64
	// look is the proxy's resources of names, nil for each that is not there; names are
	// those of all that there are.
	look  func(t xdsnode.Type, names []string) []*xdsnode.Resource
	names func(t xdsnode.Type) []string

	// gone is closed when the proxy is registered no more.
	gone chan struct{}
	wake chan struct{}
	mu   sync.Mutex // guards changed
	// changed are the names that the server has said to have changed.
	changed map[xdsnode.Type]map[string]bool
}

// open finds whom a stream is for, and has it told of changes. Close it with
// Server.leave.
func (s *Server) open(n *core.Node) (*session, error) {
	node, id := named(n)
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "the first request names no node: its id is that of the proxy")
	}
	st := &session{
		server: s, gone: make(chan struct{}), wake: make(chan struct{}, 1), changed: map[xdsnode.Type]map[string]bool{},
	}
	name, err := s.join(st, node, id)
	if err != nil {
		s.log.Warn("a proxy is not served", "proxy", id, "node", node, "err", err)
		return nil, err
	}
	st.log = s.log.With("proxy", name)
	st.look = func(t xdsnode.Type, names []string) []*xdsnode.Resource { return s.look(st.proxy, t, names) }
	st.names = func(t xdsnode.Type) []string { return s.names(st.proxy, t) }
	return st, nil
}

// named is how an Envoy calls itself, as `consul connect envoy` writes it.
func named(n *core.Node) (node, id string) {
	return n.GetMetadata().GetFields()["node_name"].GetStringValue(), n.GetId()
}

// note takes what has changed in one go, and returns at once. What a stream that does
// not read has not been sent yet is kept once, however often it changes.
func (st *session) note(changed map[xdsnode.Type][]string) {
	st.mu.Lock()
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
	return out
}

// end says that the proxy is registered no more. The server calls it once.
func (st *session) end() { close(st.gone) }

// nonce is a new one.
func (st *session) nonce() string {
	st.nonces++
	return strconv.FormatUint(st.nonces, 10)
}

// refused takes note of a refusal.
func (st *session) refused(typeURL, why string) {
	st.log.Warn("the Envoy has refused resources; it keeps what it had", "type_url", typeURL, "why", why)
}

// unserved takes note of a request for a type that is not served.
func (st *session) unserved(typeURL string) {
	st.log.Debug("resources of this type are not served", "type_url", typeURL)
}

// protocol is what the two do differently: take takes a request, send sends what is due.
type protocol[R any] interface {
	take(request R)
	send() error
}

// serve talks with one Envoy by a protocol, from its first request on, which says who it
// is.
func serve[R interface{ GetNode() *core.Node }](ctx context.Context, s *Server, recv func() (R, error), begin func(*session) protocol[R]) error {
	first, err := recv()
	if err != nil {
		return err
	}
	session, err := s.open(first.GetNode())
	if err != nil {
		return err
	}
	defer s.leave(session)
	by := begin(session)
	by.take(first)
	return converse(ctx, session, recv, by)
}

// converse reads requests, and has each taken, and what is due sent before the first and
// after each and whenever something has changed, until one of the two ends the stream.
func converse[R any](ctx context.Context, st *session, recv func() (R, error), by protocol[R]) error {
	st.log.Info("a proxy is connected")
	defer st.log.Info("a proxy is gone")
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
	for {
		if err := by.send(); err != nil {
			return err
		}
		select {
		case request := <-requests:
			by.take(request)
		case <-st.wake:
		case err := <-ended:
			return err
		case <-st.gone:
			// It keeps what it has, and is served again when it is registered again.
			return status.Error(codes.NotFound, "the proxy is registered no more")
		case <-st.server.closed:
			return status.Error(codes.Unavailable, "the node is stopping")
		}
	}
}

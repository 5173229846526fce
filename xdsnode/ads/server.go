package ads

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// Server serves one datacenter's machine, which is fed by [Server.Apply] and
// [Server.Emit], as a bus.Drive does. It is used once.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	cfg Config
	log *slog.Logger

	mu      sync.Mutex // guards what follows, and the machine
	machine *xdsnode.Machine
	streams map[*xdsnode.Proxy]map[*session]bool
	// registered are the proxies whose registration may be another since the last Emit.
	registered []*isthmusv1.ProxyRoutes
	// now is how far the node is; nil before all routes were read.
	now    *point
	joins  uint64
	closed chan struct{}

	said sync.Mutex // guards what follows, and the order in which reports are told
	// speakers are the streams whose word counts, of several of one proxy the newest.
	speakers map[string]*session
}

// NewServer returns a server that serves nothing before its first [Server.Emit].
func NewServer(cfg Config) *Server {
	return &Server{
		cfg: cfg, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		machine: xdsnode.NewMachine(), streams: map[*xdsnode.Proxy]map[*session]bool{}, closed: make(chan struct{}),
		speakers: map[string]*session{},
	}
}

// Apply takes a transaction of the routes stream.
func (s *Server) Apply(t *isthmusv1.Transaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machine.Apply(t)
	for _, c := range t.Changes {
		if routes, ok := c.Value.(*isthmusv1.ProxyRoutes); ok {
			s.registered = append(s.registered, routes)
		}
	}
}

// Emit lets streams know what has changed.
func (s *Server) Emit(context.Context, *isthmusv1.Basis) error {
	now, concerned := s.emit()
	if s.cfg.Reports == nil {
		return nil
	}
	// Who is behind now is said before the node is said to be ahead.
	for _, st := range concerned {
		s.tell(st)
	}
	s.cfg.Reports.Node(now.routes, now.basis)
	return nil
}

// emit lets streams know, and returns those that it has let know.
func (s *Server) emit() (now *point, concerned []*session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := map[*session]map[xdsnode.Type][]string{}
	for _, change := range s.machine.Ready() {
		for _, p := range change.Proxies {
			if change.Gone {
				for st := range s.streams[p] {
					st.end(errGone)
				}
				delete(s.streams, p)
				continue
			}
			for st := range s.streams[p] {
				if change.Stated {
					st.state(p.Problems())
					continue
				}
				if news[st] == nil {
					news[st] = map[xdsnode.Type][]string{}
				}
				news[st][change.Type] = append(news[st][change.Type], change.Names...)
			}
		}
	}
	s.dismiss()
	before := s.now
	s.now = &point{}
	if before != nil {
		s.now.number = before.number + 1
	}
	s.now.routes, s.now.basis = s.machine.Position()
	// A stream hears of all at once, so that it sends all in order.
	for st, changed := range news {
		st.note(changed, s.now, before)
		concerned = append(concerned, st)
	}
	return s.now, concerned
}

// dismiss ends the streams whose proxies are another's now.
func (s *Server) dismiss() {
	for _, routes := range s.registered {
		for _, p := range s.machine.Candidates(routes.GetNode(), routes.GetId()) {
			for st := range s.streams[p] {
				if st.client != nil && st.client.uri != p.Routes.GetSpiffeId() {
					st.end(status.Errorf(codes.PermissionDenied, "%s may not be served as %s any more: it was registered anew", st.client.uri, p.Name()))
				}
			}
		}
	}
	s.registered = nil
}

// Recheck ends the streams whose clients are believed no more. It is to be called when
// the roots have changed.
func (s *Server) Recheck() {
	s.mu.Lock()
	var streams []*session
	for _, of := range s.streams {
		for st := range of {
			streams = append(streams, st)
		}
	}
	s.mu.Unlock()
	for _, st := range streams {
		st.recheck()
	}
}

// end ends all streams, once.
func (s *Server) end() { close(s.closed) }

// join finds the proxy of a stream, and tells the stream of its changes from now on. why
// is what its client is not told.
func (s *Server) join(st *session, node, id string) (why string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		return "", status.Error(codes.Unavailable, "the node has not read all routes yet")
	}
	if st.client != nil {
		if why, err := admit(s.machine.Candidates(node, id), st.client.uri, asked(node, id)); err != nil {
			return why, err
		}
	}
	p, err := s.machine.Find(node, id)
	switch {
	case errors.Is(err, xdsnode.ErrNoProxy):
		return "", status.Error(codes.NotFound, err.Error())
	case err != nil:
		return "", status.Error(codes.FailedPrecondition, err.Error())
	}
	if s.streams[p] == nil {
		s.streams[p] = map[*session]bool{}
	}
	s.streams[p][st] = true
	s.joins++
	st.proxy, st.name, st.kind, st.joined = p, p.Name(), p.Routes.GetKind(), s.joins
	st.log = s.log.With("proxy", st.name)
	st.progress.latest, st.taken = s.now, s.now
	return "", nil
}

func (s *Server) leave(st *session) {
	s.mu.Lock()
	delete(s.streams[st.proxy], st)
	var other *session
	for o := range s.streams[st.proxy] {
		if other == nil || o.joined > other.joined {
			other = o
		}
	}
	if other == nil {
		delete(s.streams, st.proxy)
	}
	s.mu.Unlock()
	s.silence(st, other)
}

// look is the resources of the names that a stream's proxy has; nil for each that is not
// there. A stream that was ended gets no more: its proxy may be another's since. One that
// has news gets nothing before it has taken these up: what is there now may lead to what
// it has not heard of.
func (s *Server) look(st *session, t xdsnode.Type, names []string) ([]*xdsnode.Resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := st.stale(); err != nil {
		return nil, err
	}
	out := make([]*xdsnode.Resource, len(names))
	for i, name := range names {
		out[i] = st.proxy.Resource(t, name)
	}
	return out, nil
}

func (s *Server) names(p *xdsnode.Proxy, t xdsnode.Type) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.Names(t)
}

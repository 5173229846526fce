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
	whole      bool
	closed     chan struct{}
}

// NewServer returns a server that serves nothing before its first [Server.Emit].
func NewServer(cfg Config) *Server {
	return &Server{
		cfg: cfg, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		machine: xdsnode.NewMachine(), streams: map[*xdsnode.Proxy]map[*session]bool{}, closed: make(chan struct{}),
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
				if news[st] == nil {
					news[st] = map[xdsnode.Type][]string{}
				}
				news[st][change.Type] = append(news[st][change.Type], change.Names...)
			}
		}
	}
	s.dismiss()
	// A stream hears of all at once, so that it sends all in order.
	for st, changed := range news {
		st.note(changed)
	}
	s.whole = true
	return nil
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

// join finds the proxy of a stream, tells the stream of its changes from now on, and
// returns its name. why is what its client is not told.
func (s *Server) join(st *session, node, id string) (name, why string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.whole {
		return "", "", status.Error(codes.Unavailable, "the node has not read all routes yet")
	}
	if st.client != nil {
		if why, err := admit(s.machine.Candidates(node, id), st.client.uri, asked(node, id)); err != nil {
			return "", why, err
		}
	}
	p, err := s.machine.Find(node, id)
	switch {
	case errors.Is(err, xdsnode.ErrNoProxy):
		return "", "", status.Error(codes.NotFound, err.Error())
	case err != nil:
		return "", "", status.Error(codes.FailedPrecondition, err.Error())
	}
	if s.streams[p] == nil {
		s.streams[p] = map[*session]bool{}
	}
	s.streams[p][st] = true
	st.proxy = p
	return p.Name(), "", nil
}

func (s *Server) leave(st *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams[st.proxy], st)
	if len(s.streams[st.proxy]) == 0 {
		delete(s.streams, st.proxy)
	}
}

// look is a proxy's resources of the names; nil for each that is not there.
func (s *Server) look(p *xdsnode.Proxy, t xdsnode.Type, names []string) []*xdsnode.Resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*xdsnode.Resource, len(names))
	for i, name := range names {
		out[i] = p.Resource(t, name)
	}
	return out
}

func (s *Server) names(p *xdsnode.Proxy, t xdsnode.Type) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.Names(t)
}

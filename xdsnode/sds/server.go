package sds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/services/identity"
)

// Server serves the secrets of the identity that a [identity.Live] holds. It is used
// once.
type Server struct {
	secretservice.UnimplementedSecretDiscoveryServiceServer
	live   *identity.Live
	log    *slog.Logger
	closed chan struct{}

	mu sync.Mutex
	// told are the unknown names, and what was waited for, that were logged.
	told map[string]bool
}

// NewServer returns a server of what live comes to hold. logger may be nil.
func NewServer(live *identity.Live, logger *slog.Logger) *Server {
	return &Server{
		live: live, log: cmp.Or(logger, slog.New(slog.DiscardHandler)),
		closed: make(chan struct{}), told: map[string]bool{},
	}
}

// Waiting says what the server waits for before it can serve; nothing once it can.
func (s *Server) Waiting() string {
	if s.live.Current() != nil {
		return ""
	}
	if why := s.live.Trouble(); why != nil && !errors.Is(why, identity.ErrNone) {
		return fmt.Sprintf("the certificate: %v", why)
	}
	return "the certificate"
}

// FetchSecrets says that secrets are to be had by a stream.
func (s *Server) FetchSecrets(context.Context, *discovery.DiscoveryRequest) (*discovery.DiscoveryResponse, error) {
	return nil, status.Error(codes.Unimplemented, "secrets change: ask for them by StreamSecrets or DeltaSecrets (api_type GRPC or DELTA_GRPC)")
}

// first reports whether something is to be said for the first time.
func (s *Server) first(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.told[what]
	if len(s.told) < mostTold {
		s.told[what] = true
	}
	return !before
}

// mostTold bounds what is remembered of what was said.
const mostTold = 1000

// unknown says once that a secret is asked for that there is not.
func (s *Server) unknown(name string) {
	if s.first("unknown " + name) {
		s.log.Warn("an Envoy asks for a secret that is not served", "secret", name, "served", strings.Join(names, ", "))
	}
}

// current is the secrets of the moment, nil while there are none, and what is closed
// when there are others.
func (s *Server) current() (map[string]secret, <-chan struct{}, error) {
	now, changed := s.live.Changed()
	if now == nil {
		if waiting := s.Waiting(); s.first("waiting " + waiting) {
			s.log.Warn("an Envoy waits for its secrets", "for", waiting)
		}
		return nil, changed, nil
	}
	all, err := secrets(now)
	if err != nil {
		return nil, nil, status.Error(codes.Internal, err.Error())
	}
	return all, changed, nil
}

// refused logs what an Envoy has against a response. An Envoy that quotes a message
// whole could quote its key.
func (s *Server) refused(why string) {
	if strings.Contains(why, "PRIVATE KEY") {
		why = "(what it says holds a key, and is left out)"
	}
	s.log.Warn("an Envoy refuses its secrets", "err", why)
}

// stream is one client's, by either protocol.
type stream[Request any] interface {
	// take takes a request, and send sends what the client lacks.
	take(Request) error
	send(map[string]secret) error
}

// serve runs a stream until the client or the server ends it. The loop is the only
// user of the stream's state; another goroutine receives.
func serve[Request any](ctx context.Context, s *Server, receive func() (Request, error), st stream[Request]) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	requests := make(chan Request)
	go func() { // It ends with the stream, which ends when this function has returned.
		for {
			r, err := receive()
			if err != nil {
				cancel(err)
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	var changed <-chan struct{} // nil before the first request.
	for {
		select {
		case r := <-requests:
			if err := st.take(r); err != nil {
				return err
			}
		case <-changed:
		case <-s.closed:
			return status.Error(codes.Unavailable, "the server of the secrets ends")
		case <-ctx.Done():
			return nil // The client has gone.
		}
		now, next, err := s.current()
		if err != nil {
			return err
		}
		changed = next
		if err := st.send(now); err != nil {
			return err
		}
	}
}

// nonces are a stream's: each response has the next one.
type nonces int

func (n *nonces) next() string {
	*n++
	return strconv.Itoa(int(*n))
}

// checkType refuses a type that is not served here; a request after the first may leave
// it out.
func checkType(url string) error {
	if url == "" || url == secretType {
		return nil
	}
	return status.Errorf(codes.InvalidArgument, "only secrets are served here, not %s", url)
}

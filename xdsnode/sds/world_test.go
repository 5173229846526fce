package sds_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/xdsnode/sds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

var errOver = errors.New("the test is over")

// authority is a dev CA that can be told to sign anew.
type authority struct {
	*identity.DevCA
	t *testing.T
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	ca, err := identity.NewDevCA(identity.DevCAConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return authority{ca, t}
}

// issue is a new identity of a service.
func (a authority) issue(service string) *identity.Identity {
	a.t.Helper()
	i, err := a.Issue(identity.Name{Service: &isthmusv1.ServiceRef{Name: service}, Datacenter: "dc1"})
	if err != nil {
		a.t.Fatal(err)
	}
	return i
}

// rotate replaces the root.
func (a authority) rotate() {
	a.t.Helper()
	if err := a.Rotate(); err != nil {
		a.t.Fatal(err)
	}
}

// log is what a server logs.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// running is a server at a socket.
type running struct {
	live   *identity.Live
	server *sds.Server
	socket string
	log    *log
	stop   func() error
}

// serve serves at a socket until the test ends, or is stopped.
func serve(t *testing.T, socket string) *running {
	t.Helper()
	r := &running{live: identity.NewLive(nil), socket: socket, log: &log{}}
	r.server = sds.NewServer(r.live, slog.New(slog.NewTextHandler(r.log, nil)))
	listener, err := sds.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.server.Serve(ctx, listener) }()
	r.stop = sync.OnceValue(func() error {
		cancel(errOver)
		return <-ended
	})
	t.Cleanup(func() { _ = r.stop() })
	return r
}

func newSocket(t *testing.T) string { return filepath.Join(t.TempDir(), "s") }

// connect is a client of a socket.
func (r *running) connect(t *testing.T) secretservice.SecretDiscoveryServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:secrets", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", r.socket)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return secretservice.NewSecretDiscoveryServiceClient(conn)
}

// deltaClient is a raw client of one stream.
type deltaClient struct {
	grpc.BidiStreamingClient[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]
	t *testing.T
}

func (r *running) delta(t *testing.T) deltaClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	stream, err := r.connect(t).DeltaSecrets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return deltaClient{stream, t}
}

func (c deltaClient) ask(r *discovery.DeltaDiscoveryRequest) {
	c.t.Helper()
	r.TypeUrl, r.Node = secretType, &core.Node{Id: "web-sidecar-proxy"}
	if err := c.Send(r); err != nil {
		c.t.Fatal(err)
	}
}

// next is the next response: the versions of what is in it.
func (c deltaClient) next() (*discovery.DeltaDiscoveryResponse, map[string]string) {
	c.t.Helper()
	response, err := c.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	versions := map[string]string{}
	for _, r := range response.GetResources() {
		versions[r.GetName()] = r.GetVersion()
	}
	return response, versions
}

func subscribe(names ...string) *discovery.DeltaDiscoveryRequest {
	return &discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: names}
}

// holds fails unless a secret is that of an identity.
func holds(t *testing.T, body *anypb.Any, i *identity.Identity) {
	t.Helper()
	s := &tlsv3.Secret{}
	if err := body.UnmarshalTo(s); err != nil {
		t.Fatal(err)
	}
	key, err := i.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	switch s.GetName() {
	case isthmusv1.SecretLeaf:
		c := s.GetTlsCertificate()
		if !bytes.Equal(c.GetCertificateChain().GetInlineBytes(), i.ChainPEM()) || !bytes.Equal(c.GetPrivateKey().GetInlineBytes(), key) {
			t.Error("the leaf is another one, or its key")
		}
	case isthmusv1.SecretRoots:
		if !bytes.Equal(s.GetValidationContext().GetTrustedCa().GetInlineBytes(), i.RootsPEM()) {
			t.Error("the roots are others")
		}
	default:
		t.Errorf("a secret %q", s.GetName())
	}
}

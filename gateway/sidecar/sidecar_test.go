package sidecar

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/freeport"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// pair is web and api with a sidecar each, and web's upstream to api.
type pair struct {
	*site
	web, api       *service
	webRun, apiRun *running
	// socket is where web's application finds api.
	socket    string
	endpoints keyed
}

// newPair starts both. change sees them before they are written.
func newPair(t *testing.T, change func(*pair)) *pair {
	t.Helper()
	p := &pair{site: newSite(t, nil)}
	p.web, p.api = p.service("web", "127.0.0.1:1"), p.service("api", p.echo())
	to, endpoints := leads("api", "here", p.api.address())
	p.endpoints = endpoints
	p.socket = p.web.upstream(t, "api", to)
	if change != nil {
		change(p)
	}
	p.put(slices.Concat(p.api.values(), p.web.values(), []keyed{p.endpoints})...)
	p.apiRun, p.webRun = p.start("api-proxy").ready(), p.start("node/web-proxy").ready()
	return p
}

// caller connects to api's sidecar as it likes, and returns what it meets.
func (p *pair) caller(config *tls.Config) error {
	p.Helper()
	secure := tls.Client(p.dial(p.api.address()), config)
	defer secure.Close()
	if err := secure.Handshake(); err != nil {
		return err
	}
	return say(secure, "hello")
}

// as is a client of the service's identity that checks nothing.
func (s *site) as(ca *identity.DevCA, name string) *tls.Config {
	s.Helper()
	i, err := ca.Issue(identity.Name{Service: serviceRef(name), Datacenter: "dc1"})
	if err != nil {
		s.Fatal(err)
	}
	live := identity.NewLive(nil)
	live.Take(i, nil)
	config := live.ClientConfig("api", nil, identity.Parameters{})
	config.VerifyConnection = nil
	return config
}

func TestBothSidecarsCarryAConnection(t *testing.T) {
	p := newPair(t, nil)
	conn := p.dial(p.socket)
	if err := say(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	conn.Close()

	apiID := isthmusv1.SPIFFEID(serviceRef("api"), "dc1", td)
	webID := isthmusv1.SPIFFEID(serviceRef("web"), "dc1", td)
	out, in := p.webRun.record(), p.apiRun.record()
	if out.Direction != Outbound || out.Route != "api" || out.Target != "api.here" || out.Path != isthmusv1.Path_PATH_DIRECT ||
		out.SNI != "api.default.dc1.internal."+td || out.Endpoint != p.api.address() || out.Attempts != 1 || out.Peer != apiID ||
		out.BytesIn != 5 || out.BytesOut != 5 || out.Reason != ReasonDone || out.Listener != p.socket {
		t.Errorf("outbound: %+v", out)
	}
	if in.Direction != Inbound || in.Route != "api" || in.Peer != webID || in.SNI != out.SNI || in.BytesIn != 5 || in.Reason != ReasonDone {
		t.Errorf("inbound: %+v", in)
	}
	if out.Basis.At("CATALOG_dc1").GetSequence() != 1 || out.Routes.GetStream() != "ROUTES_dc1" {
		t.Errorf("basis %s, routes %s", out.Basis.Text(), out.Routes)
	}
}

// TestHalfClose: the end of the request passes both sidecars while the answer is
// still to come.
func TestHalfClose(t *testing.T) {
	p := newPair(t, func(p *pair) {
		p.api = p.service("api", p.listen(func(c *net.TCPConn) {
			request, _ := io.ReadAll(c)
			slices.Reverse(request)
			_, _ = c.Write(request)
			_ = c.CloseWrite()
		}))
		to, endpoints := leads("api", "here", p.api.address())
		p.endpoints, p.web.upstreams[0] = endpoints, resolverRoute("api", to)
	})
	request := strings.Repeat("0123456789", 100_000)
	conn := p.dial(p.socket).(*net.UnixConn)
	go func() {
		_, _ = io.WriteString(conn, request)
		_ = conn.CloseWrite()
	}()
	answer, err := io.ReadAll(conn)
	if err != nil || len(answer) != len(request) || answer[0] != '9' {
		t.Fatalf("%d bytes, %v", len(answer), err)
	}
	if r := p.webRun.record(); r.Reason != ReasonDone || r.BytesIn != uint64(len(request)) || r.BytesOut != r.BytesIn {
		t.Errorf("%+v", r)
	}
}

// TestCallersAreChecked is what "Must show 5" asks of the inbound side.
func TestCallersAreChecked(t *testing.T) {
	p := newPair(t, func(p *pair) {
		p.api.inbound.Intentions = []*isthmusv1.InboundIntention{intention("allow web"), intention("permit cart"), intention("deny *")}
	})
	foreign, err := identity.NewDevCA(identity.DevCAConfig{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		config  *tls.Config
		allowed bool
		reason  Reason
		says    string
	}{
		{"allowed", p.as(p.ca, "web"), true, ReasonDone, ""},
		{"no certificate", &tls.Config{InsecureSkipVerify: true}, false, ReasonHandshakeFailed, "certificate"},
		{"a foreign root", p.as(foreign, "web"), false, ReasonHandshakeFailed, "not trusted"},
		{"a denied intention", p.as(p.ca, "other"), false, ReasonIntentionDenied, "the intention says deny"},
		{"an intention by request", p.as(p.ca, "cart"), false, ReasonIntentionDenied, "layer 7"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := p.caller(test.config)
			if (err == nil) != test.allowed {
				t.Errorf("the caller met %v", err)
			}
			r := p.apiRun.record()
			if r.Reason != test.reason || !strings.Contains(r.Detail, test.says) {
				t.Errorf("%+v", r)
			}
			if carried := r.BytesIn+r.BytesOut > 0 || r.Endpoint != ""; carried != test.allowed {
				t.Errorf("carried: %v; %+v", carried, r)
			}
		})
	}
	if p.ask(p.api.address(), "GET / HTTP/1.1\r\n\r\n") == nil {
		t.Error("plain text was answered")
	}
}

// TestDeniedIsClosedInOrder: also to a caller that has already sent its request.
func TestDeniedIsClosedInOrder(t *testing.T) {
	p := newPair(t, func(p *pair) { p.api.inbound.DefaultAction = "deny" })
	conn := tls.Client(p.dial(p.api.address()), p.as(p.ca, "web"))
	if _, err := io.WriteString(conn, "a request"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
		t.Errorf("the caller read %q, %v", rest, err)
	}
}

// TestWrongPeerIsRefused: whoever answers at the endpoint's address must be the
// service that was asked for.
func TestWrongPeerIsRefused(t *testing.T) {
	p := newPair(t, func(p *pair) {
		to, endpoints := leads("db", "here", p.api.address())
		p.endpoints, p.web.upstreams[0] = endpoints, resolverRoute("api", to)
	})
	if err := p.ask(p.socket, "hello"); err == nil {
		t.Fatal("it was answered by another service")
	}
	r := p.webRun.record()
	if r.Reason != ReasonConnectFailed || !strings.Contains(r.Detail, "/svc/api, not spiffe://") || r.Peer != "" || r.BytesIn != 0 {
		t.Errorf("%+v", r)
	}
}

// dead is an address at which nobody answers.
func dead(t *testing.T) string { return freeport.Hold(t).String() }

func TestNextEndpointAndFailover(t *testing.T) {
	var attempts int
	p := newPair(t, func(p *pair) {
		empty, noEndpoints := leads("api", "empty")
		gone, deadEndpoints := leads("api", "gone", dead(t), dead(t))
		here, endpoints := leads("api", "here", p.api.address())
		p.endpoints = endpoints
		p.web.upstreams[0] = resolverRoute("api", empty, gone, here)
		p.put(noEndpoints, deadEndpoints)
	})
	for range 10 {
		conn := p.dial(p.socket)
		if err := say(conn, "hello"); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		r := p.webRun.record()
		if r.Target != "api.here" || r.Endpoint != p.api.address() || r.Reason != ReasonDone {
			t.Fatalf("%+v", r)
		}
		attempts += r.Attempts
	}
	// Of the two dead ones, one is ejected after three failures; the last one
	// never is.
	if attempts >= 30 || attempts <= 20 {
		t.Errorf("%d attempts for ten connections", attempts)
	}
}

func TestNoEndpointIsSaidAndReset(t *testing.T) {
	p := newPair(t, func(p *pair) {
		empty, endpoints := leads("api", "empty")
		p.endpoints, p.web.upstreams[0] = endpoints, resolverRoute("api", empty)
	})
	if _, err := p.dial(p.socket).Read(make([]byte, 1)); err == nil {
		t.Error("the application was not told")
	}
	if r := p.webRun.record(); r.Reason != ReasonNoEndpoint || !strings.Contains(r.Detail, "no instance") {
		t.Errorf("%+v", r)
	}
}

func TestRouterIsDenied(t *testing.T) {
	p := newPair(t, func(p *pair) {
		p.web.upstreams[0].Chain = &isthmusv1.Chain{Start: "router:api", Nodes: []*isthmusv1.ChainNode{
			{Name: "router:api", Node: &isthmusv1.ChainNode_Router{Router: &isthmusv1.ChainRouter{}}},
		}}
	})
	if _, err := p.dial(p.socket).Read(make([]byte, 1)); err == nil {
		t.Error("the application was not told")
	}
	if r := p.webRun.record(); r.Reason != ReasonUnsupported || !strings.Contains(r.Detail, "service-router") {
		t.Errorf("%+v", r)
	}
	problems := p.webRun.Problems()
	if len(problems) != 1 || problems[0].GetCode() != CodeNeedsLayer7 {
		t.Errorf("problems: %v", problems)
	}
}

// TestDeadApplicationResets: the caller must not take it for an empty answer.
func TestDeadApplicationResets(t *testing.T) {
	p := newPair(t, func(p *pair) {
		p.api.proxy.LocalServicePort = freePort(t)
	})
	conn := tls.Client(p.dial(p.api.address()), p.as(p.ca, "web"))
	if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the caller met %v", err)
	}
	if r := p.apiRun.record(); r.Reason != ReasonConnectFailed || !strings.Contains(r.Detail, "application") {
		t.Errorf("%+v", r)
	}
}

// TestTruncationIsAReset: a TLS stream that ends without close_notify was cut
// off, and the application must not take it for whole.
func TestTruncationIsAReset(t *testing.T) {
	p := newPair(t, func(p *pair) {
		cut := p.listen(func(c *net.TCPConn) {
			i, err := p.ca.Issue(identity.Name{Service: serviceRef("api"), Datacenter: "dc1"})
			if err != nil {
				t.Error(err)
				return
			}
			live := identity.NewLive(nil)
			live.Take(i, nil)
			secure := tls.Server(c, live.ServerConfig(identity.Parameters{}))
			_, _ = secure.Read(make([]byte, 1))
			_, _ = io.WriteString(secure, "half an ans")
			_ = c.CloseWrite()
		})
		to, endpoints := leads("api", "here", cut)
		p.endpoints, p.web.upstreams[0] = endpoints, resolverRoute("api", to)
		p.web.proxy.Binds[0].SocketPath = ""
		p.web.proxy.Binds[0].Port = freePort(t)
		p.socket = tcpKey("127.0.0.1", p.web.proxy.GetBinds()[0].GetPort()).address
	})
	conn := p.dial(p.socket)
	if _, err := io.WriteString(conn, "?"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the application met %v", err)
	}
	if r := p.webRun.record(); r.Reason != ReasonEndpointReset {
		t.Errorf("%+v", r)
	}
}

func TestApplicationOnASocket(t *testing.T) {
	p := newPair(t, func(p *pair) {
		path := filepath.Join(t.TempDir(), "app")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		p.serve(l, func(c net.Conn) {
			_, _ = io.Copy(c, c)
			c.Close()
		})
		p.api.proxy.LocalServiceSocketPath = path
	})
	conn := p.dial(p.socket)
	if err := say(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if r := p.apiRun.record(); r.Endpoint != p.api.proxy.GetLocalServiceSocketPath() {
		t.Errorf("%+v", r)
	}
}

func TestSocketModes(t *testing.T) {
	p := newPair(t, nil)
	mode := func() os.FileMode {
		info, err := os.Stat(p.socket)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if got := mode(); got != 0o600 {
		t.Errorf("mode %04o; want 0600", got)
	}
	conn := p.dial(p.socket)
	if err := say(conn, "before"); err != nil {
		t.Fatal(err)
	}
	p.changeWeb(func(proxy *isthmusv1.ProxyRoutes) { proxy.Binds[0].SocketMode = "0666" })
	p.webRun.until(func() bool { return mode() == 0o666 })
	if err := say(conn, "after"); err != nil {
		t.Errorf("the change of mode cost a connection: %v", err)
	}
}

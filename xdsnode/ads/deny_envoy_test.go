package ads_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// application answers every request with the path that it sees, until the test ends.
func application(t *testing.T) uint32 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It blocks on nothing.
	if err != nil {
		t.Fatal(err)
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{ //nolint:gosec // Its client is the Envoy.
		Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) }),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // It is closed below.
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return uint32(listener.Addr().(*net.TCPAddr).Port) //nolint:gosec // It is a port.
}

// judged is a sidecar of edge before an application; in is who may call, nil: it is not
// known.
func judged(protocol string, public, local uint32, strict bool, in *isthmusv1.Inbound) values {
	out := proxyOf("n1", "edge", isthmusv1.InstanceKindProxy, "edge")
	for _, v := range out {
		p := v.(*isthmusv1.ProxyRoutes)
		p.Address, p.Port, p.LocalServicePort, p.Local = "127.0.0.1", public, local, &isthmusv1.Local{Protocol: protocol}
		if strict {
			p.RequestNormalization = &isthmusv1.RequestNormalization{MergeSlashes: true, PathWithEscapedSlashesAction: "UNESCAPE_AND_FORWARD"}
		}
	}
	if in != nil {
		in.Service, in.Protocol, in.TrustDomain = &isthmusv1.ServiceRef{Name: "edge"}, protocol, testDomain
		out[isthmusv1.InboundKey(in.GetService())] = in
	}
	return out
}

// withoutAdmin lets web ask for all but what begins with /admin, or says that it is root,
// and nobody else for anything.
func withoutAdmin() *isthmusv1.Inbound {
	return &isthmusv1.Inbound{DefaultAction: isthmusv1.ActionDeny, Intentions: []*isthmusv1.InboundIntention{{
		Source: &isthmusv1.ServiceRef{Name: "web"}, Permissions: []*isthmusv1.IntentionPermission{
			{Action: "deny", PathPrefix: "/admin"},
			{Action: "deny", Headers: []*isthmusv1.HeaderMatch{{Name: "X-Role", Exact: "root"}}},
			{Action: "allow", PathPrefix: "/"},
		},
	}}}
}

// said is the status of a request as it is written, by a client that shows a leaf.
func (c caller) said(t *testing.T, method, target string, headers ...string) int {
	t.Helper()
	conn, err := tls.Dial("tcp", c.at, c.tls) //nolint:noctx // The test's end ends the Envoy.
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: edge\r\n%s\r\n", method, target, strings.Join(append(headers, ""), "\r\n")); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.Header.Get("Grpc-Status") == "7" {
		return http.StatusForbidden // As callers of that protocol are told.
	}
	return response.StatusCode
}

// saidByStreams is the same by HTTP/2.
func (c caller) saidByStreams(t *testing.T, target string) int {
	t.Helper()
	by := &http.Transport{TLSClientConfig: c.tls.Clone(), ForceAttemptHTTP2: true}
	defer by.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+c.at+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := by.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.ProtoMajor != 2 {
		t.Errorf("it is spoken to by %s", response.Proto)
	}
	return response.StatusCode
}

type caller struct {
	at  string
	tls *tls.Config
}

// What intentions deny, no spelling of a request gets: of its path, as far as the mesh
// entry asks for paths in one spelling, of its headers, by whatever protocol. Who is not
// known gets nothing, and nobody does while it is not known who may.
func TestEnvoyDenies(t *testing.T) {
	upgrade := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	rpc := []string{"Content-Type: application/grpc", "TE: trailers", "Content-Length: 0"}
	const denied, passed = http.StatusForbidden, http.StatusOK
	for _, protocol := range []string{"http", "http2", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
			w := newWords()
			n, address, _ := secureNode(t, ca, w, 0)
			public, local, leaf := freePort(t), application(t), issue(t, ca, "edge", "dc1")
			n.client = n.as(address.String(), grpc.WithTransportCredentials(showing(holding(leaf), "dc1")))
			serve := func(strict bool, in *isthmusv1.Inbound) {
				t.Helper()
				n.change(judged(protocol, public, local, strict, in))
				w.until(t, "it has all", func(s *isthmusv1.ProxyStatus, _ int) bool { return s.GetCurrent() })
			}
			n.change(judged(protocol, public, local, false, nil))
			whole := n.wholeVersionOf("edge", w, 2)
			startEnvoyAs(t, "edge", "DELTA_GRPC", address, leaf)
			w.until(t, "it has begun", func(s *isthmusv1.ProxyStatus, _ int) bool { return s.GetCurrent() && s.GetVersion() == whole })
			at := fmt.Sprintf("127.0.0.1:%d", public)
			listening(t, at)
			by := func(service string) caller { return caller{at, presenting(t, issue(t, ca, service, "dc1"))} }
			web := by("web")
			if got := web.said(t, "GET", "/"); got != denied {
				t.Errorf("while nobody is known web gets %d", got)
			}
			serve(false, withoutAdmin())
			for _, r := range []struct {
				method, target string
				headers        []string
				want           int
			}{
				{"GET", "/", nil, passed}, {"GET", "/x", nil, passed}, {"GET", "/Admin", nil, passed}, // Paths have a case.
				{"GET", "/admin", nil, denied}, {"POST", "/admin/x?y=/z", nil, denied}, {"GET", "/./admin", nil, denied}, {"GET", "/x/../admin", nil, denied},
				{"GET", "/x/%2e%2e/admin", nil, denied}, {"GET", "/%61dmin", nil, denied}, {"GET", "/admin;v=1", nil, denied}, {"GET", "/admin%2fx", nil, denied},
				{"GET", "http://edge/admin", nil, denied}, {"GET", "/admin?", nil, denied}, {"OPTIONS", "/admin", nil, denied},
				{"GET", "/admin", upgrade, denied}, {"POST", "/admin.Service/Do", rpc, denied}, {"POST", "/x.Service/Do", append([]string{"x-role: root"}, rpc...), denied},
				{"GET", "/", []string{"x-role: root"}, denied}, {"GET", "/", []string{"X-ROLE: root"}, denied}, {"GET", "/", []string{"X-Role: user"}, passed},
				{"GET", "/admin", []string{"X-Forwarded-Client-Cert: URI=spiffe://" + testDomain + "/ns/default/dc/dc1/svc/web", "X-Envoy-Original-Path: /"}, denied},
				{"GET", "//admin", nil, passed}, // As for Consul's: the application sees two slashes.
			} {
				if got := web.said(t, r.method, r.target, r.headers...); got != r.want {
					t.Errorf("web's %s %s with %q gets %d, want %d", r.method, r.target, r.headers, got, r.want)
				}
			}
			if protocol != "http" {
				if got := web.saidByStreams(t, "/x/../admin"); got != denied {
					t.Errorf("by streams web's /x/../admin gets %d", got)
				}
				if got := web.saidByStreams(t, "/x"); got != passed {
					t.Errorf("by streams web's /x gets %d", got)
				}
			}
			if got := by("other").said(t, "GET", "/", "X-Forwarded-Client-Cert: URI=spiffe://"+testDomain+"/ns/default/dc/dc1/svc/web"); got != denied {
				t.Errorf("another one gets %d", got)
			}
			serve(true, withoutAdmin())
			for _, target := range []string{"//admin", "/%2fadmin", "/x%2f..%2fadmin", "/%5cadmin", "/.//admin"} {
				if got := web.said(t, "GET", target); got != denied && got != http.StatusBadRequest {
					t.Errorf("with slashes in one spelling web's %s gets %d", target, got)
				}
			}
		})
	}
}

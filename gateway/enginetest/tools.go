package enginetest

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// RunTools sends the clients that people use through an engine: curl, openssl
// and gnutls-cli. Each must see the server's own certificate and its answer.
//
// A tool that is not installed is skipped, loudly; under CI that is a failure.
func RunTools(t *testing.T, rig Rig) {
	web := newWeb(t)
	address := rig.Start(t, Setup{Names: map[string][]netip.AddrPort{Service: {web.address}}, HelloTimeout: patience})
	host, port := address.Addr().String(), strconv.Itoa(int(address.Port()))
	request := "GET / HTTP/1.0\r\nHost: " + Service + "\r\n\r\n"
	for _, tool := range []struct {
		name  string
		args  []string
		stdin string
		// says is what the tool must say of the certificate.
		says string
	}{
		{"curl", []string{
			"--silent", "--show-error", "--verbose", "--noproxy", "*", "--cacert", web.roots,
			"--resolve", Service + ":" + port + ":" + host, "https://" + Service + ":" + port + "/",
		}, "", "SSL certificate verify ok"},
		{"openssl", []string{
			"s_client", "-connect", address.String(), "-servername", Service, "-CAfile", web.roots,
			"-verify_return_error", "-verify_hostname", Service, "-ign_eof",
		}, request, "Verify return code: 0 (ok)"},
		{"gnutls-cli", []string{
			"--x509cafile=" + web.roots, "--sni-hostname=" + Service, "--verify-hostname=" + Service, "--port=" + port, host,
		}, request, "The certificate is trusted"},
	} {
		t.Run(tool.name, func(t *testing.T) {
			path, err := exec.LookPath(tool.name)
			if err != nil {
				missing(t, tool.name)
				return
			}
			command := exec.CommandContext(t.Context(), path, tool.args...)
			command.Stdin = &untilAnswered{text: strings.NewReader(tool.stdin), answered: web.answered, waits: tool.stdin != ""}
			output, err := command.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v", tool.name, err)
			}
			if !strings.Contains(string(output), tool.says) || !strings.Contains(string(output), answer) {
				t.Errorf("%s says\n%s", tool.name, output)
			}
			if tool.stdin == "" {
				<-web.answered
			}
		})
	}
}

// missing skips a tool that is not there, or fails under CI.
func missing(t *testing.T, name string) {
	t.Helper()
	text := fmt.Sprintf("!!! %s IS NOT INSTALLED, so it was not sent through the gateway !!!", name)
	if os.Getenv("CI") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// untilAnswered is an input that stays open until the server has answered: some
// tools leave at the end of their input.
type untilAnswered struct {
	text     io.Reader
	answered <-chan struct{}
	waits    bool
}

func (u *untilAnswered) Read(b []byte) (int, error) {
	n, err := u.text.Read(b)
	if errors.Is(err, io.EOF) && u.waits {
		<-u.answered
		u.waits = false
	}
	return n, err
}

// answer is what the web server says.
const answer = "the original server speaks"

// web is a small HTTPS server with a certificate for Service.
type web struct {
	address netip.AddrPort
	// roots is a file with the certificate.
	roots string
	// answered gets a token for each connection that the server has closed.
	answered chan struct{}
}

func newWeb(t *testing.T) *web {
	t.Helper()
	certificate, _ := NewCertificate(t, Service)
	w := &web{roots: filepath.Join(t.TempDir(), "roots.pem"), answered: make(chan struct{}, 16)}
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	if err := os.WriteFile(w.roots, roots, 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.address = listener.Addr().(*net.TCPAddr).AddrPort()
	server := &http.Server{
		Handler: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Connection", "close")
			_, _ = io.WriteString(out, answer+"\n")
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				w.answered <- struct{}{}
			}
		},
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !slices.Contains([]error{http.ErrServerClosed, nil}, err) {
			t.Errorf("the web server: %v", err)
		}
	})
	return w
}

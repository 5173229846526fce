package resource_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
)

// running is a real Envoy with a static configuration.
type running struct {
	t     *testing.T
	admin string
}

// run starts an Envoy, and returns when it serves. It ends with the test.
func run(t *testing.T, listeners, clusters []any) *running {
	t.Helper()
	envoy := envoytest.Need(t)
	dir := t.TempDir()
	adminPath, configPath := filepath.Join(dir, "admin"), filepath.Join(dir, "envoy.json")
	config, err := json.Marshal(map[string]any{
		"admin":            map[string]any{"address": socketAddress("127.0.0.1", 0)},
		"layered_runtime":  longExpressions,
		"static_resources": map[string]any{"listeners": listeners, "clusters": clusters},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(configPath, config, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	command := exec.CommandContext(ctx, envoy, "-c", configPath, "--disable-hot-restart", "--concurrency", "1", "-l", "info", "--admin-address-path", adminPath)
	log, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan bool, 1), make(chan []string, 1)
	go func() {
		var lines []string
		for scanner := bufio.NewScanner(log); scanner.Scan(); {
			lines = append(lines, scanner.Text())
			if strings.Contains(scanner.Text(), "starting workers") {
				started <- true
			}
		}
		ended <- lines
	}()
	t.Cleanup(func() {
		cancel()
		lines := <-ended
		_ = command.Wait() // It was killed.
		if t.Failed() {
			t.Logf("envoy: %s", strings.Join(lines[max(len(lines)-20, 0):], "\n"))
		}
	})
	select {
	case <-started:
	case lines := <-ended:
		ended <- lines
		t.Fatal("envoy does not start")
	}
	admin, err := os.ReadFile(adminPath)
	if err != nil {
		t.Fatal(err)
	}
	return &running{t: t, admin: string(admin)}
}

// addresses are where its listeners listen, by their names.
func (r *running) addresses() map[string]string {
	r.t.Helper()
	response, err := get(r.t.Context(), http.DefaultTransport, "http://"+r.admin+"/listeners?format=json")
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	var said struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.NewDecoder(response.Body).Decode(&said); err != nil {
		r.t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range said.Statuses {
		out[s.Name] = fmt.Sprintf("%s:%d", s.Address.Socket.Address, s.Address.Socket.Port)
	}
	return out
}

func get(ctx context.Context, by http.RoundTripper, address string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return by.RoundTrip(request)
}

func socketAddress(address string, port int) map[string]any {
	return map[string]any{"socket_address": map[string]any{"address": address, "port_value": port}}
}

// authority makes leaves, each for one SPIFFE ID.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.certificate, a.key = a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
	})
	return a
}

// issue signs a certificate, the first by its own key.
func (a *authority) issue(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := a.certificate, a.key
	if parent == nil {
		parent, by = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return out, key
}

func (a *authority) leaf(id string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, URIs: []*url.URL{uri}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}})
}

// client is what a caller of that identity connects with.
func (a *authority) client(id string) *tls.Config {
	a.t.Helper()
	certificate, key := a.leaf(id)
	return &tls.Config{
		Certificates:       []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}},
		InsecureSkipVerify: true, // It is the server that is to know the caller.
	}
}

// server is the transport socket of a listener that asks callers for their leaf.
func (a *authority) server(id string) map[string]any {
	a.t.Helper()
	certificate, key := a.leaf(id)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	text := func(kind string, raw []byte) map[string]any {
		return map[string]any{"inline_string": string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))}
	}
	return map[string]any{"name": "tls", "typed_config": map[string]any{
		"@type":                      "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
		"require_client_certificate": true,
		"common_tls_context": map[string]any{
			"tls_certificates":   []any{map[string]any{"certificate_chain": text("CERTIFICATE", certificate.Raw), "private_key": text("PRIVATE KEY", raw)}},
			"validation_context": map[string]any{"trusted_ca": text("CERTIFICATE", a.certificate.Raw)},
		},
	}}
}

package enginetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// world is what is behind the engine.
type world struct {
	tls       *server
	collector *server
	plain     *endpoint
	talker    *talker
	roots     *x509.CertPool
	// sessions has one entry for each handshake that the TLS server finished.
	sessions chan session
}

// session is a TLS session as one end sees it.
type session struct {
	// secret is exported keying material: equal at both ends of one session and
	// nowhere else.
	secret string
	alpn   string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	certificate, roots := NewCertificate(t, "server.example")
	w := &world{roots: roots, sessions: make(chan session, 64)}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	w.tls = serve(t, func(c *net.TCPConn) { w.echoTLS(tls.Server(c, config)) })
	w.collector = serve(t, collect)
	w.plain, w.talker = newEndpoint(t), newTalker(t)
	return w
}

// NewCertificate makes a certificate for the names, and the pool that it
// verifies against. Its key lives as long as the test.
func NewCertificate(t testing.TB, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: names[0]},
		DNSNames:              names,
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots
}

// echoTLS finishes a handshake, says which session it was, and returns what it
// is sent until that ends.
func (w *world) echoTLS(c *tls.Conn) {
	defer c.Close()
	if c.Handshake() != nil {
		return
	}
	w.sessions <- sessionOf(c)
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

func sessionOf(c *tls.Conn) session {
	state := c.ConnectionState()
	secret, err := state.ExportKeyingMaterial("EXPERIMENTAL isthmus", nil, 32)
	if err != nil {
		return session{secret: err.Error()}
	}
	return session{secret: string(secret), alpn: state.NegotiatedProtocol}
}

// collect reads to the end, and only then sends it all back.
func collect(c *net.TCPConn) {
	defer func() { _ = c.Close() }()
	b, err := io.ReadAll(c)
	if err != nil {
		return
	}
	_, _ = c.Write(b)
}

// server is a loopback server.
type server struct{ address netip.AddrPort }

// serve handles connections until the test ends, and then waits for them.
func serve(t testing.TB, handle func(*net.TCPConn)) *server {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	open := make(map[*net.TCPConn]bool)
	wg.Go(func() {
		for {
			c, err := listener.AcceptTCP()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				handle(c)
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return &server{listener.Addr().(*net.TCPAddr).AddrPort()}
}

// refusing is an address of loopback where nothing listens: it stays bound, so
// that no one else gets it.
func refusing(t testing.TB) netip.AddrPort {
	t.Helper()
	address, closeIt, err := bindWithoutListening()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeIt)
	return address
}

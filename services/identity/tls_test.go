package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// meet lets a client and a server shake hands on loopback. The server's word
// comes last in TLS 1.3, so the client waits for it: for one byte.
func meet(t *testing.T, client, server *tls.Config) (clientErr, serverErr error, seen tls.ConnectionState) { //nolint:revive,staticcheck // Both errors are results, not failures of the function.
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			serverErr = err
			return
		}
		defer conn.Close()
		s := tls.Server(conn, server)
		if serverErr = s.Handshake(); serverErr != nil {
			return
		}
		seen = s.ConnectionState()
		_, serverErr = s.Write([]byte{1})
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := tls.Client(conn, client)
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = io.ReadFull(c, make([]byte, 1))
	}
	conn.Close()
	<-done
	return clientErr, serverErr, seen
}

const (
	webID = "spiffe://" + testTrustDomain + "/ns/default/dc/dc1/svc/web"
	apiID = "spiffe://" + testTrustDomain + "/ns/default/dc/dc2/svc/api"
)

func TestMutualHandshake(t *testing.T) {
	ca := newTestCA(t, DevCAConfig{})
	client := lived(nil, issue(t, ca, web)).ClientConfig("api.default.dc2.internal."+testTrustDomain, []string{apiID}, Parameters{})
	server := lived(nil, issue(t, ca, api)).ServerConfig(Parameters{})

	clientErr, serverErr, seen := meet(t, client, server)
	if clientErr != nil || serverErr != nil {
		t.Fatalf("client: %v; server: %v", clientErr, serverErr)
	}
	if seen.ServerName != "api.default.dc2.internal."+testTrustDomain {
		t.Errorf("the server was asked for %q", seen.ServerName)
	}
	uri, err := PeerURI(seen)
	if err != nil || uri.String() != webID {
		t.Errorf("the server saw %v, %v; want %s", uri, err, webID)
	}
	if seen.Version != tls.VersionTLS13 {
		t.Errorf("version %x", seen.Version)
	}
}

// TestClientChecksServer holds the client to the exact check of the SPIFFE ID.
func TestClientChecksServer(t *testing.T) {
	ca, other := newTestCA(t, DevCAConfig{}), newTestCA(t, DevCAConfig{})
	apiURI, _ := url.Parse(apiID)
	tests := []struct {
		name    string
		server  *Identity
		allowed []string
		want    error
	}{
		{"the one that is expected", issue(t, ca, api), []string{apiID}, nil},
		{"one of several", issue(t, ca, api), []string{webID, apiID}, nil},
		{"another service", issue(t, ca, web), []string{apiID}, ErrPeerName},
		{"nobody is expected", issue(t, ca, api), nil, ErrPeerName},
		{"a prefix of the name", issue(t, ca, api), []string{apiID + "-v2"}, ErrPeerName},
		{"an extension of the name", issue(t, ca, api), []string{strings.TrimSuffix(apiID, "i")}, ErrPeerName},
		{"another case", issue(t, ca, api), []string{strings.Replace(apiID, "svc/api", "svc/Api", 1)}, ErrPeerName},
		{"the same name under a foreign root", issue(t, other, api), []string{apiID}, ErrPeerUntrusted},
		{"no URI", forge(t, ca, template(x509.ExtKeyUsageServerAuth)), []string{apiID}, ErrPeerName},
		{"the right URI and another", forge(t, ca, template(x509.ExtKeyUsageServerAuth, apiURI, &url.URL{Scheme: "spiffe", Host: "x"})), []string{apiID}, ErrPeerName},
		{"a leaf for clients only", forge(t, ca, template(x509.ExtKeyUsageClientAuth, apiURI)), []string{apiID}, ErrNotTrusted},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := lived(nil, issue(t, ca, web)).ClientConfig("api", test.allowed, Parameters{})
			// The server trusts everybody: what is tried is the client.
			server := &tls.Config{Certificates: []tls.Certificate{test.server.certificate}}
			clientErr, _, _ := meet(t, client, server)
			if !errors.Is(clientErr, test.want) {
				t.Errorf("got %v; want %v", clientErr, test.want)
			}
		})
	}
}

func TestServerChecksClient(t *testing.T) {
	ca, other := newTestCA(t, DevCAConfig{}), newTestCA(t, DevCAConfig{})
	webURI, _ := url.Parse(webID)
	tests := []struct {
		name    string
		client  *tls.Config
		refused bool
		want    error
	}{
		{"trusted", presents(issue(t, ca, web)), false, nil},
		{"foreign root", presents(issue(t, other, web)), true, ErrPeerUntrusted},
		// Refused by crypto/tls itself, which has no error to compare with.
		{"no certificate", &tls.Config{InsecureSkipVerify: true}, true, nil},
		{"a leaf for servers only", presents(forge(t, ca, template(x509.ExtKeyUsageServerAuth, webURI))), true, ErrNotTrusted},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := lived(nil, issue(t, ca, api)).ServerConfig(Parameters{})
			clientErr, serverErr, _ := meet(t, test.client, server)
			if (serverErr != nil) != test.refused || (clientErr != nil) != test.refused {
				t.Fatalf("client: %v; server: %v; want it refused: %v", clientErr, serverErr, test.refused)
			}
			if test.want != nil && !errors.Is(serverErr, test.want) {
				t.Errorf("server: %v; want %v", serverErr, test.want)
			}
		})
	}
}

func TestLeafOutOfItsTime(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name string
		at   time.Time
		want error
	}{
		{"in its last second", now.Add(time.Hour - time.Second), nil},
		{"after its end", now.Add(time.Hour + time.Second), ErrExpired},
		{"before its start", now.Add(-skew - time.Second), ErrNotYetValid},
	} {
		t.Run(test.name, func(t *testing.T) {
			ca := newTestCA(t, DevCAConfig{Clock: fixed(now), LeafTTL: time.Hour})
			server := lived(fixed(test.at), issue(t, ca, api)).ServerConfig(Parameters{})
			_, serverErr, _ := meet(t, presents(issue(t, ca, web)), server)
			if !errors.Is(serverErr, test.want) {
				t.Errorf("got %v; want %v", serverErr, test.want)
			}
		})
	}
}

func TestNothingBelowTLS12(t *testing.T) {
	ca := newTestCA(t, DevCAConfig{})
	server := lived(nil, issue(t, ca, api)).ServerConfig(Parameters{MinVersion: tls.VersionTLS10})
	old := presents(issue(t, ca, web))
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if clientErr, _, _ := meet(t, old, server); clientErr == nil {
		t.Error("TLS 1.1 was accepted")
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := presents(issue(t, ca, web))
		client.MinVersion, client.MaxVersion = version, version
		if clientErr, serverErr, _ := meet(t, client, server); clientErr != nil || serverErr != nil {
			t.Errorf("%x: client: %v; server: %v", version, clientErr, serverErr)
		}
	}
	bounded := lived(nil, issue(t, ca, api)).ServerConfig(Parameters{MinVersion: tls.VersionTLS13})
	tls12 := presents(issue(t, ca, web))
	tls12.MaxVersion = tls.VersionTLS12
	if clientErr, _, _ := meet(t, tls12, bounded); clientErr == nil {
		t.Error("TLS 1.2 was accepted where 1.3 is the least")
	}
}

// TestNoResumption: a client that keeps sessions gets none to keep, so that a
// removed root holds at once.
func TestNoResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		ca, next := newTestCA(t, DevCAConfig{}), newTestCA(t, DevCAConfig{})
		serverLive := lived(nil, issue(t, ca, api))
		server := serverLive.ServerConfig(Parameters{})
		client := presents(issue(t, ca, web))
		client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		client.ServerName, client.MaxVersion = "api", version

		for range 2 {
			clientErr, serverErr, seen := meet(t, client, server)
			if clientErr != nil || serverErr != nil {
				t.Fatalf("client: %v; server: %v", clientErr, serverErr)
			}
			if seen.DidResume {
				t.Fatalf("%x: the session was resumed", version)
			}
		}
		serverLive.Take(issue(t, next, api), nil)
		if _, serverErr, _ := meet(t, client, server); !errors.Is(serverErr, ErrPeerUntrusted) {
			t.Errorf("%x: after its root was removed: %v", version, serverErr)
		}
	}
}

func TestNoIdentityYet(t *testing.T) {
	ca := newTestCA(t, DevCAConfig{})
	client := NewLive(nil).ClientConfig("api", []string{apiID}, Parameters{})
	if clientErr, _, _ := meet(t, client, lived(nil, issue(t, ca, api)).ServerConfig(Parameters{})); !errors.Is(clientErr, ErrNone) {
		t.Errorf("client: %v; want %v", clientErr, ErrNone)
	}
	if _, serverErr, _ := meet(t, presents(issue(t, ca, web)), NewLive(nil).ServerConfig(Parameters{})); !errors.Is(serverErr, ErrNone) {
		t.Errorf("server: %v; want %v", serverErr, ErrNone)
	}
}

// presents is a client that shows the identity and checks nothing.
func presents(i *Identity) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{i.certificate}, InsecureSkipVerify: true}
}

func template(usage x509.ExtKeyUsage, uris ...*url.URL) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(7),
		URIs:         uris,
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{usage},
	}
}

// forge has the CA sign what it would not.
func forge(t *testing.T, ca *DevCA, leaf *x509.Certificate) *Identity {
	t.Helper()
	state, _ := ca.now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := sign(leaf, state.active().root, &key.PublicKey, state.active().key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := tls.Certificate{Certificate: [][]byte{signed.Raw}, PrivateKey: key, Leaf: signed}
	return newIdentity(certificate, state.trusted(time.Now()))
}

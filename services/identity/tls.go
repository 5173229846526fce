package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Parameters bound TLS in one direction. The zero Parameters are TLS 1.2 and
// up, with Go's own cipher suites.
type Parameters struct {
	// MinVersion below TLS 1.2 is TLS 1.2.
	MinVersion, MaxVersion uint16
	// CipherSuites of TLS 1.2; empty for Go's own. Those of TLS 1.3 are fixed.
	CipherSuites []uint16
}

func (p Parameters) apply(c *tls.Config) {
	c.MinVersion = max(p.MinVersion, tls.VersionTLS12)
	c.MaxVersion = p.MaxVersion
	c.CipherSuites = p.CipherSuites
}

// ClientConfig is how to connect to a peer as the identity of the moment: the
// server name serverName is asked for, and the peer must show a leaf that a
// root vouches for and whose one URI equals one of allowed (full SPIFFE IDs),
// byte for byte. The peer's host name is not looked at. Sessions are not
// resumed. A handshake fails with [ErrNone], [ErrPeerUntrusted] or
// [ErrPeerName] among others.
func (l *Live) ClientConfig(serverName string, allowed []string, p Parameters) *tls.Config {
	c := &tls.Config{
		ServerName: serverName,
		Time:       l.clock.Now,
		// The standard check looks for the host name in the leaf, which a SPIFFE
		// leaf does not have; verifyServer does all the rest of it, and more.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return l.verifyServer(state, allowed)
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			// Whatever authorities the server lists, there is only this one.
			return l.certificate()
		},
	}
	p.apply(c)
	return c
}

// ServerConfig is how to accept peers as the identity of the moment: they must
// show a leaf that a root vouches for. Who they are, [PeerURI] tells, and what
// they may do is the caller's. Sessions are not resumed, so that each handshake
// checks against the roots of its moment.
func (l *Live) ServerConfig(p Parameters) *tls.Config {
	c := &tls.Config{
		Time:                   l.clock.Now,
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return l.certificate()
		},
		VerifyConnection: l.verifyClient,
	}
	p.apply(c)
	return c
}

func (l *Live) certificate() (*tls.Certificate, error) {
	current := l.Current()
	if current == nil {
		return nil, ErrNone
	}
	return &current.certificate, nil
}

func (l *Live) verifyServer(state tls.ConnectionState, allowed []string) error {
	if err := l.verifyPeer(state, x509.ExtKeyUsageServerAuth); err != nil {
		return err
	}
	uri, err := PeerURI(state)
	if err != nil {
		return err
	}
	if !slices.Contains(allowed, uri.String()) {
		return fmt.Errorf("%w: it is %s, not %s", ErrPeerName, uri, strings.Join(allowed, " or "))
	}
	return nil
}

func (l *Live) verifyClient(state tls.ConnectionState) error {
	return l.verifyPeer(state, x509.ExtKeyUsageClientAuth)
}

func (l *Live) verifyPeer(state tls.ConnectionState, usage x509.ExtKeyUsage) error {
	current := l.Current()
	if current == nil {
		return ErrNone
	}
	peer := state.PeerCertificates
	if len(peer) == 0 {
		return fmt.Errorf("%w: it showed none", ErrPeerUntrusted)
	}
	if err := vouched(peer[0], peer[1:], current.pool, l.clock.Now(), usage); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPeerUntrusted, names(peer[0]), err)
	}
	return nil
}

// Client checks the client of an open connection once more, against the roots of now. It
// returns who that is, as [PeerURI] does, and when to check again though nothing else has
// changed: when the first of the certificates ends that it showed.
func (l *Live) Client(state tls.ConnectionState) (uri *url.URL, until time.Time, err error) {
	if err := l.verifyClient(state); err != nil {
		return nil, time.Time{}, err
	}
	if uri, err = PeerURI(state); err != nil {
		return nil, time.Time{}, err
	}
	now := l.clock.Now()
	for _, c := range state.PeerCertificates {
		if end := c.NotAfter; !end.Before(now) && (until.IsZero() || end.Before(until)) {
			until = end
		}
	}
	return uri, until, nil
}

// PeerURI is who the peer of a handshake is: the one URI of its leaf. Any other
// number of URIs is [ErrPeerName].
func PeerURI(state tls.ConnectionState) (*url.URL, error) {
	if len(state.PeerCertificates) == 0 {
		return nil, fmt.Errorf("%w: it showed no certificate", ErrPeerName)
	}
	leaf := state.PeerCertificates[0]
	if len(leaf.URIs) != 1 {
		return nil, fmt.Errorf("%w: its certificate has %d URIs instead of one (%s)", ErrPeerName, len(leaf.URIs), names(leaf))
	}
	return leaf.URIs[0], nil
}

// names shows who a certificate says it is, for people.
func names(c *x509.Certificate) string {
	var all []string
	for _, uri := range c.URIs {
		all = append(all, uri.String())
	}
	all = append(all, c.DNSNames...)
	if len(all) == 0 && c.Subject.String() != "" {
		all = append(all, c.Subject.String())
	}
	if len(all) == 0 {
		return "a certificate without names"
	}
	return strings.Join(all, ", ")
}

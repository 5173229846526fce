package identity

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// Material is what an identity is made of, as PEM blocks.
type Material struct {
	// Chain is the leaf, then its intermediates.
	Chain []byte
	// Key is the leaf's private key: PKCS #8, SEC 1 or PKCS #1.
	Key []byte
	// Roots are the certificates that peers are checked against.
	Roots []byte
}

// New makes the identity of a service of its material, once that was checked as
// [Directory.Load] checks its files. Whatever the trust domain is, the leaf names
// the service in the datacenter and nothing else.
//
// Possible errors: [ErrBadPEM], [ErrKeyMismatch], [ErrWrongName], [ErrExpired],
// [ErrNotYetValid], [ErrNotTrusted].
func New(name Name, m Material, now time.Time) (*Identity, error) {
	chain, err := parseCertificates(m.Chain)
	if err != nil {
		return nil, fmt.Errorf("leaf: %w", err)
	}
	roots, err := parseCertificates(m.Roots)
	if err != nil {
		return nil, fmt.Errorf("roots: %w", err)
	}
	key, err := parseKey(m.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if !belongs(key, chain[0]) {
		return nil, ErrKeyMismatch
	}
	if err := checkName(chain[0], name); err != nil {
		return nil, err
	}
	identity := newIdentity(joined(chain, key), roots)
	if err := identity.check(now); err != nil {
		return nil, err
	}
	return identity, nil
}

// check checks that the roots vouch for the leaf, as that of a client and of a
// server.
func (i *Identity) check(now time.Time) error {
	var intermediates []*x509.Certificate
	for _, der := range i.certificate.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadPEM, err)
		}
		intermediates = append(intermediates, c)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if err := vouched(i.Leaf(), intermediates, i.pool, now, usage); err != nil {
			return err
		}
	}
	return nil
}

// belongs reports whether the key is the leaf's.
func belongs(key crypto.Signer, leaf *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(leaf.PublicKey)
}

// joined is a chain with its leaf's key.
func joined(chain []*x509.Certificate, key crypto.Signer) tls.Certificate {
	certificate := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		certificate.Certificate = append(certificate.Certificate, c.Raw)
	}
	return certificate
}

package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/url"
	"time"
)

// Identity is a leaf with its key and chain, and the roots to check peers
// against. It is immutable and may be shared; its key is never shown.
type Identity struct {
	certificate tls.Certificate
	roots       []*x509.Certificate
	pool        *x509.CertPool
}

// newIdentity makes an identity of parts that were checked.
func newIdentity(certificate tls.Certificate, roots []*x509.Certificate) *Identity {
	pool := x509.NewCertPool()
	for _, root := range roots {
		pool.AddCert(root)
	}
	return &Identity{certificate: certificate, roots: roots, pool: pool}
}

// Leaf is the service's certificate.
func (i *Identity) Leaf() *x509.Certificate { return i.certificate.Leaf }

// URI is the leaf's SPIFFE ID.
func (i *Identity) URI() *url.URL { return i.Leaf().URIs[0] }

// NotAfter is when the leaf expires.
func (i *Identity) NotAfter() time.Time { return i.Leaf().NotAfter }

// Roots are the certificates that peers are checked against.
func (i *Identity) Roots() *x509.CertPool { return i.pool }

// RootsPEM is the roots as PEM blocks.
func (i *Identity) RootsPEM() []byte {
	var out []byte
	for _, root := range i.roots {
		out = append(out, certificatePEM(root.Raw)...)
	}
	return out
}

// ChainPEM is the leaf and then its intermediates as PEM blocks.
func (i *Identity) ChainPEM() []byte {
	var out []byte
	for _, der := range i.certificate.Certificate {
		out = append(out, certificatePEM(der)...)
	}
	return out
}

// KeyPEM is the private key as a PKCS #8 PEM block, for the proxy on the same
// machine: it must not reach a log, the bus or another machine.
func (i *Identity) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.certificate.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", i.URI(), err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// String shows the identity without its key.
func (i *Identity) String() string {
	return fmt.Sprintf("%s (serial %x, until %s)", i.URI(), i.Leaf().SerialNumber, i.NotAfter().UTC().Format(time.RFC3339))
}

// GoString is String, so that %#v does not show the key either.
func (i *Identity) GoString() string { return i.String() }

// LogValue shows the identity without its key.
func (i *Identity) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("spiffe_id", i.URI().String()),
		slog.String("serial", i.Leaf().SerialNumber.Text(16)),
		slog.Time("not_after", i.NotAfter()),
		slog.Int("roots", len(i.roots)),
	)
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// vouched checks that the roots vouch for the leaf at the time. A leaf out of
// its time is told apart from one that is not trusted.
func vouched(leaf *x509.Certificate, intermediates []*x509.Certificate, roots *x509.CertPool, now time.Time, usage x509.ExtKeyUsage) error {
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("%w: at %s", ErrExpired, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(leaf.NotBefore) {
		return fmt.Errorf("%w: it is from %s", ErrNotYetValid, leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	pool := x509.NewCertPool()
	for _, c := range intermediates {
		pool.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: pool,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotTrusted, err)
	}
	return nil
}

package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const (
	// rootLife is how long a root of the dev CA lives.
	rootLife = 10 * 365 * 24 * time.Hour
	// skew is how far a certificate's time begins in the past, for peers whose
	// clocks are behind.
	skew = time.Minute
)

// authority is one root of the dev CA with its key. It is immutable.
type authority struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
	// cross is the same name and key signed by the authority before; nil for the
	// first. It goes into chains, so that a peer that does not know this root yet
	// can check a leaf against the one before.
	cross *x509.Certificate
	// until is when a replaced root stops being trusted; zero for the active one.
	until time.Time
}

// newAuthority makes a root, cross-signed by the one before it if there is one.
func newAuthority(trustDomain string, now time.Time, before *authority) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a root key: %w", err)
	}
	template := &x509.Certificate{
		// The key keeps the names of successive roots apart.
		Subject:               pkix.Name{CommonName: "Isthmus dev CA " + hex.EncodeToString(keyID(&key.PublicKey)[:4])},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(rootLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		SubjectKeyId:          keyID(&key.PublicKey),
	}
	a := &authority{key: key}
	if a.root, err = sign(template, template, &key.PublicKey, key); err != nil {
		return nil, err
	}
	if before == nil {
		return a, nil
	}
	template.NotAfter = before.root.NotAfter
	if a.cross, err = sign(template, before.root, &key.PublicKey, before.key); err != nil {
		return nil, err
	}
	return a, nil
}

// leaf issues a leaf for the SPIFFE ID: a URI as the only name, no subject.
func (a *authority) leaf(id *url.URL, now time.Time, life time.Duration) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the key of %s: %w", id, err)
	}
	notAfter := now.Add(life)
	if notAfter.After(a.root.NotAfter) {
		notAfter = a.root.NotAfter
	}
	leaf, err := sign(&x509.Certificate{
		URIs:                  []*url.URL{id},
		NotBefore:             now.Add(-skew),
		NotAfter:              notAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		SubjectKeyId:          keyID(&key.PublicKey),
	}, a.root, &key.PublicKey, a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign the leaf of %s: %w", id, err)
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// sign makes a certificate with a random serial number.
func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	t := *template
	t.SerialNumber = serial.Add(serial, big.NewInt(1))
	if parent == template {
		parent = &t
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// keyID identifies a key in certificates: the start of its hash.
func keyID(public *ecdsa.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic(err) // The key is ours and of a curve that is known.
	}
	sum := sha256.Sum256(der)
	return sum[:20]
}

// model is the root as it stands in the catalog, without its key.
func (a *authority) model() *isthmusv1.CARoot {
	sum := sha256.Sum256(a.root.Raw)
	return &isthmusv1.CARoot{
		Id:          hex.EncodeToString(sum[:20]),
		Name:        a.root.Subject.CommonName,
		RootCertPem: string(certificatePEM(a.root.Raw)),
		Active:      a.until.IsZero(),
		NotBefore:   timestamppb.New(a.root.NotBefore),
		NotAfter:    timestamppb.New(a.root.NotAfter),
	}
}

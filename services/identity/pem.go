package identity

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// parseCertificates reads at least one certificate; other blocks are passed
// over, as in bundles with a key.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %w", ErrBadPEM, len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: there is no PEM block CERTIFICATE", ErrBadPEM)
	}
	return out, nil
}

// parseKey reads the first private key: PKCS #8, SEC 1 or PKCS #1.
func parseKey(text []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, fmt.Errorf("%w: there is no PEM block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY", ErrBadPEM)
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default:
			continue
		}
		signer, ok := key.(crypto.Signer)
		if err != nil || !ok {
			// The parser's error could show bytes of the key.
			return nil, fmt.Errorf("%w: the block %s cannot be read", ErrBadPEM, block.Type)
		}
		return signer, nil
	}
}

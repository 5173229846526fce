package enginetest

import (
	"crypto/x509"
	"errors"
)

// tlsCertificate shortens the signature of a verifying function.
type tlsCertificate = x509.Certificate

var errNoChain = errors.New("no certificate of the server was seen")

// verify verifies the chain that a client was shown.
func (w *world) verify(chain [][]byte) error {
	if len(chain) == 0 {
		return errNoChain
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return err
	}
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: "server.example", Roots: w.roots})
	return err
}

package sds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// secretType is the type of everything that is served here.
const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// secret is one of an identity's secrets, as it is sent.
type secret struct {
	body    *anypb.Any
	version string
}

// names are those of the secrets, in the order in which they are sent: a leaf of a new
// root is of use only to who trusts that.
var names = []string{isthmusv1.SecretRoots, isthmusv1.SecretLeaf}

// known reports whether there is a secret of the name.
func known(name string) bool { return name == isthmusv1.SecretLeaf || name == isthmusv1.SecretRoots }

// secrets are those of an identity by their names.
func secrets(i *identity.Identity) (map[string]secret, error) {
	key, err := i.KeyPEM()
	if err != nil {
		return nil, err
	}
	chain, roots := i.ChainPEM(), i.RootsPEM()
	out := make(map[string]secret, len(names))
	for _, s := range []struct {
		message *tlsv3.Secret
		of      []byte
	}{
		{&tlsv3.Secret{Name: isthmusv1.SecretLeaf, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(chain), PrivateKey: inline(key),
		}}}, chain}, // The leaf names the public key: another key is another leaf.
		{&tlsv3.Secret{Name: isthmusv1.SecretRoots, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: inline(roots),
		}}}, roots},
	} {
		body, err := anypb.New(s.message)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", s.message.GetName(), err)
		}
		out[s.message.GetName()] = secret{body, hash(s.of)}
	}
	return out, nil
}

func inline(text []byte) *core.DataSource {
	return &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: text}}
}

func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

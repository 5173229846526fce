package sidecar

import (
	"crypto/tls"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// tlsVersions are the versions as the mesh entry names them. Those below 1.2 act
// as 1.2, which is the least that there is here.
var tlsVersions = map[string]uint16{
	"": 0, "TLS_AUTO": 0,
	"TLSv1_0": tls.VersionTLS12, "TLSv1_1": tls.VersionTLS12,
	"TLSv1_2": tls.VersionTLS12, "TLSv1_3": tls.VersionTLS13,
}

// tlsParameters are the mesh entry's bounds on TLS in one direction. Of bounds
// that cannot be kept the problem is returned, and the direction is to be
// denied: to do less than was asked for would be a guess.
func tlsParameters(direction string, bounds *isthmusv1.MeshTLS) (identity.Parameters, *isthmusv1.Problem) {
	bad := func(format string, args ...any) (identity.Parameters, *isthmusv1.Problem) {
		return identity.Parameters{}, problem(CodeBadTLS, "correct TLS."+direction+" of the mesh entry",
			"the bounds on TLS cannot be kept: "+format, args...)
	}
	lowest, ok := tlsVersions[bounds.GetTlsMinVersion()]
	if !ok {
		return bad("%q is no version", bounds.GetTlsMinVersion())
	}
	highest, ok := tlsVersions[bounds.GetTlsMaxVersion()]
	if !ok {
		return bad("%q is no version", bounds.GetTlsMaxVersion())
	}
	if old := bounds.GetTlsMaxVersion(); old == "TLSv1_0" || old == "TLSv1_1" {
		return bad("at most %s is asked for, and the least is TLSv1_2", old)
	}
	if highest != 0 && lowest > highest {
		return bad("from %s to %s there is no version", bounds.GetTlsMinVersion(), bounds.GetTlsMaxVersion())
	}
	p := identity.Parameters{MinVersion: lowest, MaxVersion: highest}
	for _, name := range bounds.GetCipherSuites() {
		suite, ok := cipherSuite(name)
		if !ok {
			return bad("the cipher suite %s is not known, or not safe", name)
		}
		p.CipherSuites = append(p.CipherSuites, suite)
	}
	return p, nil
}

func cipherSuite(name string) (uint16, bool) {
	for _, s := range tls.CipherSuites() {
		if strings.EqualFold(s.Name, name) {
			return s.ID, true
		}
	}
	return 0, false
}

package resource

import (
	"fmt"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// upstreamTLS shows the proxy's leaf to a target, asks for its server name, and wants
// one of its SPIFFE IDs, exactly. Of a target that has none, as a prepared query without a
// known service, nobody is wanted: without names an Envoy takes whomever the roots vouch
// for.
func upstreamTLS(sni string, spiffeIDs []string, bounds *isthmusv1.MeshTLS) *core.TransportSocket {
	if len(spiffeIDs) == 0 {
		spiffeIDs = []string{nobody}
	}
	names := make([]*tlsv3.SubjectAltNameMatcher, len(spiffeIDs))
	for i, id := range spiffeIDs {
		names[i] = &tlsv3.SubjectAltNameMatcher{
			SanType: tlsv3.SubjectAltNameMatcher_URI,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: id}},
		}
	}
	common := commonTLS(bounds)
	common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: names},
			ValidationContextSdsSecretConfig: secret(isthmusv1.SecretRoots),
		},
	}
	return transportSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: sni})
}

// nobody is a SPIFFE ID without a trust domain, which no certificate has.
const nobody = "spiffe://"

// publicTLS wants a certificate that the roots vouch for, whatever the server name;
// intentions look at whose it is.
func publicTLS(protocol string, bounds *isthmusv1.MeshTLS) *core.TransportSocket {
	common := commonTLS(bounds)
	common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
		ValidationContextSdsSecretConfig: secret(isthmusv1.SecretRoots),
	}
	switch {
	case isHTTP2(protocol):
		common.AlpnProtocols = []string{"h2", "http/1.1"}
	case isHTTP(protocol):
		common.AlpnProtocols = []string{"http/1.1"}
	}
	return transportSocket(&tlsv3.DownstreamTlsContext{CommonTlsContext: common, RequireClientCertificate: wrapperspb.Bool(true)})
}

// commonTLS names the leaf, and bounds versions and ciphers as the mesh entry does.
func commonTLS(bounds *isthmusv1.MeshTLS) *tlsv3.CommonTlsContext {
	return &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsVersions[bounds.GetTlsMinVersion()],
			TlsMaximumProtocolVersion: tlsVersions[bounds.GetTlsMaxVersion()],
			CipherSuites:              envoyCiphers(bounds.GetCipherSuites()),
		},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{secret(isthmusv1.SecretLeaf)},
	}
}

// tlsVersions are the versions as the mesh entry names them (Consul agent/xds/util).
var tlsVersions = map[string]tlsv3.TlsParameters_TlsProtocol{
	"":         tlsv3.TlsParameters_TLS_AUTO,
	"TLS_AUTO": tlsv3.TlsParameters_TLS_AUTO,
	"TLSv1_0":  tlsv3.TlsParameters_TLSv1_0,
	"TLSv1_1":  tlsv3.TlsParameters_TLSv1_1,
	"TLSv1_2":  tlsv3.TlsParameters_TLSv1_2,
	"TLSv1_3":  tlsv3.TlsParameters_TLSv1_3,
}

// envoyCiphers are cipher suites as Envoy spells them. A name that it has no other
// spelling of is passed on.
func envoyCiphers(names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = name
		if spelled, ok := cipherSuites[strings.ToUpper(name)]; ok {
			out[i] = spelled
		}
	}
	return out
}

var cipherSuites = map[string]string{
	"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256":       "ECDHE-ECDSA-AES128-GCM-SHA256",
	"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
	"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256":         "ECDHE-RSA-AES128-GCM-SHA256",
	"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256":   "ECDHE-RSA-CHACHA20-POLY1305",
	"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA":          "ECDHE-ECDSA-AES128-SHA",
	"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA":            "ECDHE-RSA-AES128-SHA",
	"TLS_RSA_WITH_AES_128_GCM_SHA256":               "AES128-GCM-SHA256",
	"TLS_RSA_WITH_AES_128_CBC_SHA":                  "AES128-SHA",
	"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384":       "ECDHE-ECDSA-AES256-GCM-SHA384",
	"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384":         "ECDHE-RSA-AES256-GCM-SHA384",
	"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA":          "ECDHE-ECDSA-AES256-SHA",
	"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA":            "ECDHE-RSA-AES256-SHA",
	"TLS_RSA_WITH_AES_256_GCM_SHA384":               "AES256-GCM-SHA384",
	"TLS_RSA_WITH_AES_256_CBC_SHA":                  "AES256-SHA",
}

// secret is had from the machine that the Envoy runs on. Without it nothing can be
// served, so it is waited for without end.
func secret(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &core.ConfigSource{
		ResourceApiVersion: core.ApiVersion_V3, InitialFetchTimeout: durationpb.New(0),
		ConfigSourceSpecifier: &core.ConfigSource_ApiConfigSource{ApiConfigSource: &core.ApiConfigSource{
			ApiType: core.ApiConfigSource_DELTA_GRPC, TransportApiVersion: core.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*core.GrpcService{{
				TargetSpecifier: &core.GrpcService_EnvoyGrpc_{EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: isthmusv1.ClusterSDS}},
			}},
		}},
	}}
}

func transportSocket(context proto.Message) *core.TransportSocket {
	return &core.TransportSocket{Name: "tls", ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: packed(context)}}
}

// tlsProblem says what of a direction's bounds cannot be kept; nil when all can.
func tlsProblem(direction string, bounds *isthmusv1.MeshTLS) *isthmusv1.Problem {
	for _, version := range []string{bounds.GetTlsMinVersion(), bounds.GetTlsMaxVersion()} {
		if _, ok := tlsVersions[version]; !ok {
			return invalidSetting("TLS."+direction+" of the mesh entry", fmt.Errorf("%q is no version", version))
		}
	}
	return nil
}

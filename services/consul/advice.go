package consul

import (
	"crypto/x509"
	"errors"
	"strings"
)

// ErrMisaddressed says that the agent's address, or what is configured for TLS, does not
// fit the agent; the error says what to do.
var ErrMisaddressed = errors.New("the agent's address or TLS settings do not fit it")

// misaddressed is an error of the transport with what to do about it.
type misaddressed struct {
	error
	advice string
}

// Error is what failed, with the advice behind it.
func (m misaddressed) Error() string { return m.error.Error() + " (" + m.advice + ")" }

// Unwrap is what failed, and what it comes to.
func (m misaddressed) Unwrap() []error { return []error{m.error, ErrMisaddressed} }

// advise adds what to do to errors of a mistaken configuration; others it returns as
// they are.
func advise(err error) error {
	if advice := adviceFor(err); advice != "" {
		return misaddressed{err, advice}
	}
	return err
}

func adviceFor(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "name the CA of the agent's certificate: CONSUL_CACERT, or the flag for it"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate is for another name: ask for one that it has, or give that by CONSUL_TLS_SERVER_NAME"
	}
	said := err.Error()
	switch {
	case strings.Contains(said, "server gave HTTP response to HTTPS client"):
		return "the port speaks HTTP: write http://, or take the port for HTTPS, by custom 8501"
	case strings.Contains(said, "HTTP request to an HTTPS server"):
		return "the port speaks HTTPS: write https://"
	case strings.Contains(said, "malformed HTTP"), strings.Contains(said, "frame too large"), strings.Contains(said, "readLoopPeekFail"):
		// The last is net/http's of a server that speaks before it is asked.
		return "the port does not speak HTTP: take that of the HTTP API, by custom 8500, or 8501 for HTTPS; not gRPC's"
	case strings.Contains(said, "certificate required"), strings.Contains(said, "bad certificate"):
		return "the agent asks for a certificate: CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY, or the flags for them"
	}
	return ""
}

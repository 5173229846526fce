package identity

import "errors"

// What is wrong with a leaf, a key or roots. Each is wrapped with the file or
// the SPIFFE ID that it is about.
var (
	// ErrExpired indicates a leaf that is past its time.
	ErrExpired = errors.New("the certificate has expired")
	// ErrNotYetValid indicates a leaf whose time has not come: usually a clock
	// that is wrong.
	ErrNotYetValid = errors.New("the certificate is not valid yet")
	// ErrWrongName indicates a leaf that names something other than it should.
	ErrWrongName = errors.New("the certificate is not that of the service")
	// ErrKeyMismatch indicates a private key that is not the leaf's.
	ErrKeyMismatch = errors.New("the private key does not belong to the certificate")
	// ErrNotTrusted indicates a leaf that none of the roots has signed.
	ErrNotTrusted = errors.New("no root vouches for the certificate")
	// ErrBadPEM indicates a text that does not hold the PEM blocks it should.
	ErrBadPEM = errors.New("it does not hold what it should")
	// ErrExposed indicates a private key that others on the machine could read
	// or replace.
	ErrExposed = errors.New("others may read or replace the private key")
	// ErrMismatch indicates a dev CA that is not the one asked for.
	ErrMismatch = errors.New("the dev CA was made differently")
	// ErrNotDevCA indicates a directory of certificates, in which no dev CA may be
	// made.
	ErrNotDevCA = errors.New("the directory is not that of a dev CA")
	// ErrTrustDomain indicates a trust domain that is none.
	ErrTrustDomain = errors.New("a trust domain is a lower-case host name")
)

// Why a peer is refused.
var (
	// ErrPeerUntrusted indicates a peer whose leaf no present root vouches for.
	ErrPeerUntrusted = errors.New("the peer's certificate is not trusted")
	// ErrPeerName indicates a peer that is trusted but is not who it should be,
	// or that does not have exactly one name.
	ErrPeerName = errors.New("the peer is not who it should be")
	// ErrNone indicates that there is no identity yet.
	ErrNone = errors.New("there is no certificate yet")
)

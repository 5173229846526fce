package identity

import (
	"errors"
	"testing"
)

// FuzzDevCAFile: whatever the file holds, it is a CA that can issue, or it is
// refused with what is wrong.
func FuzzDevCAFile(f *testing.F) {
	ca, err := NewDevCA(DevCAConfig{TrustDomain: testTrustDomain})
	if err != nil {
		f.Fatal(err)
	}
	for range 2 {
		state, _ := ca.now()
		text, err := encodeCA(state)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		if err := ca.Rotate(); err != nil {
			f.Fatal(err)
		}
	}
	for _, seed := range []string{"", "{}", "null", `{"trust_domain":"a","leaf_ttl":"1h"}`, `{"trust_domain":"a","leaf_ttl":"1h","authorities":[{}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		state, err := decodeCA(text)
		if err != nil {
			for _, known := range []error{ErrBadPEM, ErrTrustDomain, ErrKeyMismatch} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("refused with %v", err)
		}
		if _, err := state.issue(web, state.active().root.NotBefore); err != nil {
			t.Errorf("it cannot issue: %v", err)
		}
	})
}

// FuzzPEM: certificates and keys out of any bytes.
func FuzzPEM(f *testing.F) {
	ca, err := NewDevCA(DevCAConfig{TrustDomain: testTrustDomain})
	if err != nil {
		f.Fatal(err)
	}
	identity, err := ca.Issue(web)
	if err != nil {
		f.Fatal(err)
	}
	key, err := identity.KeyPEM()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(identity.ChainPEM())
	f.Add(append(key, identity.RootsPEM()...))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, err := parseCertificates(text); (err == nil) != (len(got) > 0) || err != nil && !errors.Is(err, ErrBadPEM) {
			t.Errorf("%d certificates, %v", len(got), err)
		}
		if got, err := parseKey(text); (err == nil) != (got != nil) || err != nil && !errors.Is(err, ErrBadPEM) {
			t.Errorf("key %v, %v", got != nil, err)
		}
	})
}

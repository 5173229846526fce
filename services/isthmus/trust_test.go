package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// layCertificates makes a directory of PEM files for a service.
func layCertificates(t *testing.T, ca *identity.DevCA, service, datacenter string) (dir string) {
	t.Helper()
	leaf, err := ca.Issue(identity.Name{Service: &isthmusv1.ServiceRef{Name: service}, Datacenter: datacenter})
	if err != nil {
		t.Fatal(err)
	}
	key, err := leaf.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for name, text := range map[string][]byte{"cert.pem": leaf.ChainPEM(), "key.pem": key, "roots.pem": leaf.RootsPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// testApp is a command line of a user with a home of their own.
func testApp(t *testing.T) *app {
	t.Helper()
	home := t.TempDir()
	return newApp(t.Output(), t.Output(), func(name string) string {
		if name == "XDG_STATE_HOME" {
			return home
		}
		return ""
	})
}

func newCA(t *testing.T, trustDomain string) *identity.DevCA {
	t.Helper()
	ca, err := identity.NewDevCA(identity.DevCAConfig{TrustDomain: trustDomain})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// TestTrustOfCertificates: a directory of PEM files gives its leaf's trust
// domain, and nothing is written into it.
func TestTrustOfCertificates(t *testing.T) {
	a, dir := testApp(t), layCertificates(t, newCA(t, "files.test"), "web", "dc1")
	roots, err := os.ReadFile(filepath.Join(dir, "roots.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[string]string{"": "files.test", "Asked.Test": "asked.test"} {
		got, err := a.openTrust(asked, dir)
		if err != nil || got.domain != want || got.ca != nil {
			t.Errorf("asked for %q: got %+v, %v", asked, got, err)
		}
	}
	after, err := os.ReadFile(filepath.Join(dir, "roots.pem"))
	if err != nil || !bytes.Equal(after, roots) {
		t.Errorf("the roots were changed: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("the directory holds %v, %v", left, err)
	}
}

func TestTrustOfTheUser(t *testing.T) {
	a := testApp(t)
	own, err := a.openTrust("", "")
	if err != nil || own.ca == nil || own.domain != own.ca.TrustDomain() {
		t.Fatalf("the user's own: %+v, %v", own, err)
	}
	if got, err := a.openTrust("Other.Test", ""); err != nil || got.domain != "other.test" || got.ca != nil {
		t.Errorf("a trust domain alone: %+v, %v", got, err)
	}
	if _, err := a.openTrust("a/../b", ""); !errors.Is(err, identity.ErrTrustDomain) {
		t.Errorf("no trust domain: %v", err)
	}

	// The user has a CA for each trust domain that was asked for.
	for range 2 {
		source, err := a.openIdentity("Other.Test", "")
		if err != nil {
			t.Fatal(err)
		}
		if ca, ok := source.(*identity.DevCA); !ok || ca.TrustDomain() != "other.test" {
			t.Errorf("got %v", source)
		}
	}
	if again, err := a.openTrust("", ""); err != nil || again.domain != own.domain {
		t.Errorf("the user's own became %+v, %v", again, err)
	}
	if _, err := a.openIdentity("other.test", a.userCADir()); !errors.Is(err, identity.ErrMismatch) {
		t.Errorf("a named directory of another trust domain: %v", err)
	}
	if _, err := a.openIdentity("a/../b", ""); !errors.Is(err, identity.ErrTrustDomain) {
		t.Errorf("an identity of no trust domain: %v", err)
	}
}

package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// TestLeafIsLikeConsuls: what a Consul proxy checks in a leaf, and what it does
// not expect there.
func TestLeafIsLikeConsuls(t *testing.T) {
	ca := newTestCA(t, DevCAConfig{})
	leaf := issue(t, ca, api).Leaf()

	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve.Params().Name != "P-256" {
		t.Errorf("key is %T", leaf.PublicKey)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != apiID {
		t.Errorf("URIs are %v", leaf.URIs)
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) != 0 || leaf.Subject.String() != "" {
		t.Errorf("it has other names: %s", names(leaf))
	}
	if got := leaf.ExtKeyUsage; len(got) != 2 || got[0] != x509.ExtKeyUsageClientAuth || got[1] != x509.ExtKeyUsageServerAuth {
		t.Errorf("extended key usages are %v", got)
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 || leaf.KeyUsage&x509.KeyUsageCertSign != 0 || leaf.IsCA {
		t.Errorf("key usage is %b, CA %v", leaf.KeyUsage, leaf.IsCA)
	}
	if !bytes.Equal(leaf.AuthorityKeyId, issue(t, ca, web).roots[0].SubjectKeyId) {
		t.Error("its authority key is not the root's")
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life != DefaultLeafTTL+skew {
		t.Errorf("it lives for %s", life)
	}
	for _, e := range leaf.Extensions {
		// RFC 5280 4.2.1.6: critical where there is no subject.
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) && !e.Critical {
			t.Error("the alternative names are not critical")
		}
	}
}

func TestOpenSSLAcceptsTheChain(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is needed under CI")
		}
		t.Skip("SKIPPED: openssl is not installed, so the chain was not checked by it")
	}
	ca := newTestCA(t, DevCAConfig{})
	before := issue(t, ca, api)
	if err := ca.Rotate(); err != nil {
		t.Fatal(err)
	}
	after := issue(t, ca, api)
	oldRoot := before.RootsPEM()
	for name, test := range map[string]struct {
		identity *Identity
		roots    []byte
	}{
		"before the rotation":                     {before, oldRoot},
		"after it":                                {after, after.RootsPEM()},
		"after it, by one who has only the old":   {after, oldRoot},
		"from before it, by one who has both now": {before, after.RootsPEM()},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			roots, chain := filepath.Join(dir, "roots"), filepath.Join(dir, "chain")
			write(t, roots, test.roots, 0o600)
			write(t, chain, test.identity.ChainPEM(), 0o600)
			for _, purpose := range []string{"sslclient", "sslserver"} {
				out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", purpose,
					"-CAfile", roots, "-untrusted", chain, chain).CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v\n%s", purpose, err, out)
				}
			}
		})
	}
}

// TestRotationOverlap: leaves and roots of any two successive moments of a
// rotation get along, and the old root ends when its last leaf has.
func TestRotationOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newTestCA(t, DevCAConfig{LeafTTL: time.Hour})
		moments := []*Identity{issue(t, ca, web)}
		for range 3 {
			if err := ca.Rotate(); err != nil {
				t.Fatal(err)
			}
			moments = append(moments, issue(t, ca, web))
		}
		// All four rotations lie within the life of a leaf.
		for i, peer := range moments {
			for j, own := range moments {
				leaf, chain := peer.Leaf(), parse(t, peer)
				if err := vouched(leaf, chain[1:], own.pool, time.Now(), x509.ExtKeyUsageClientAuth); err != nil {
					t.Errorf("the leaf of moment %d before the roots of moment %d: %v", i, j, err)
				}
			}
		}
		if got := len(ca.CARoots().GetRoots()); got != 4 {
			t.Errorf("%d roots are trusted; want 4", got)
		}
		pass(time.Hour + skew - time.Second)
		if got := len(ca.CARoots().GetRoots()); got != 4 {
			t.Errorf("%d roots are trusted just before the end; want 4", got)
		}
		pass(time.Second)
		roots := ca.CARoots()
		if len(roots.GetRoots()) != 1 || roots.GetRoots()[0].GetId() != roots.GetActiveRootId() {
			t.Errorf("after the overlap: %v", roots)
		}
		if now := issue(t, ca, web); len(now.certificate.Certificate) != 1 {
			t.Errorf("the chain still has %d certificates", len(now.certificate.Certificate))
		}
	})
}

func parse(t *testing.T, i *Identity) []*x509.Certificate {
	t.Helper()
	chain, err := parseCertificates(i.ChainPEM())
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func TestCARootsHoldNoKey(t *testing.T) {
	ca := newTestCA(t, DevCAConfig{})
	if err := ca.Rotate(); err != nil {
		t.Fatal(err)
	}
	roots := ca.CARoots()
	if roots.GetTrustDomain() != testTrustDomain || len(roots.GetRoots()) != 2 {
		t.Fatalf("got %v", roots)
	}
	active := 0
	for i, root := range roots.GetRoots() {
		if i > 0 && root.GetId() < roots.GetRoots()[i-1].GetId() {
			t.Error("roots are not sorted by id")
		}
		if root.GetActive() {
			active++
			if root.GetId() != roots.GetActiveRootId() {
				t.Error("the active root is another than the one named")
			}
		}
		if certificates, err := parseCertificates([]byte(root.GetRootCertPem())); err != nil || len(certificates) != 1 {
			t.Errorf("root %s: %v, %v", root.GetId(), certificates, err)
		}
	}
	if active != 1 {
		t.Errorf("%d roots are active", active)
	}
	if text := roots.String(); strings.Contains(text, "PRIVATE") {
		t.Error("a key is in the roots")
	}
}

// followed collects what a source says.
type followed struct {
	mu         sync.Mutex
	identities []*Identity
	troubles   []error
}

func (f *followed) take(i *Identity, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i != nil {
		f.identities = append(f.identities, i)
	}
	if err != nil {
		f.troubles = append(f.troubles, err)
	}
}

func (f *followed) counts() (identities, troubles int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.identities), len(f.troubles)
}

func (f *followed) last() *Identity {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.identities[len(f.identities)-1]
}

func (f *followed) trouble() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.troubles) == 0 {
		return nil
	}
	return f.troubles[len(f.troubles)-1]
}

// follow runs a source in the bubble and returns what ends it.
func follow(t *testing.T, s Source, name Name) (*followed, func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	f, done, stopped := new(followed), make(chan error, 1), errors.New("stopped")
	go func() { done <- s.Follow(ctx, name, f.take) }()
	synctest.Wait()
	return f, func() {
		cancel(stopped)
		if err := <-done; !errors.Is(err, stopped) {
			t.Errorf("Follow returned %v", err)
		}
	}
}

func TestFollowRenewsAtTwoThirds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newTestCA(t, DevCAConfig{LeafTTL: 3 * time.Minute})
		f, stop := follow(t, ca, web)
		defer stop()

		first := f.last()
		pass(2*time.Minute - time.Nanosecond)
		synctest.Wait()
		if n, _ := f.counts(); n != 1 {
			t.Fatalf("%d identities before two thirds of its life", n)
		}
		pass(time.Nanosecond)
		synctest.Wait()
		if n, _ := f.counts(); n != 2 || f.last().Leaf().Equal(first.Leaf()) {
			t.Fatalf("%d identities at two thirds of its life", n)
		}
		pass(time.Hour)
		synctest.Wait()
		if n, troubles := f.counts(); n != 2+30 || troubles != 0 {
			t.Errorf("%d identities, %d troubles after an hour", n, troubles)
		}
	})
}

func TestFollowTellsOfRoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newTestCA(t, DevCAConfig{LeafTTL: time.Hour})
		f, stop := follow(t, ca, web)
		defer stop()
		var roots []int
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = ca.FollowRoots(ctx, func(r *isthmusv1.CARoots) { roots = append(roots, len(r.GetRoots())) })
		}()
		synctest.Wait()

		if err := ca.Rotate(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n, _ := f.counts(); n != 2 || len(f.last().roots) != 2 {
			t.Fatalf("%d identities, %d roots right after the rotation", n, len(f.last().roots))
		}
		resigned := f.last().Leaf()
		if err := resigned.CheckSignatureFrom(f.last().roots[1]); err != nil {
			t.Errorf("the leaf is not the new root's: %v", err)
		}
		pass(time.Hour + skew)
		synctest.Wait()
		if len(f.last().roots) != 1 {
			t.Errorf("%d roots after the overlap", len(f.last().roots))
		}
		cancel()
		<-done
		if got := fmt.Sprint(roots); got != "[1 2 1]" {
			t.Errorf("roots were told as %s", got)
		}
	})
}

func TestBadNamesAreNotIssued(t *testing.T) {
	ca := newTestCA(t, DevCAConfig{})
	for _, name := range []Name{
		{},
		{Service: &isthmusv1.ServiceRef{Name: "web"}},
		{Service: &isthmusv1.ServiceRef{}, Datacenter: "dc1"},
	} {
		if i, err := ca.Issue(name); err == nil {
			t.Errorf("%s was issued %s", name, i)
		}
	}
	for _, trustDomain := range []string{"Upper.consul", "with space", "a..b", "-a", "a-", "a/b", strings.Repeat("a.", 120) + "a"} {
		if _, err := NewDevCA(DevCAConfig{TrustDomain: trustDomain}); !errors.Is(err, ErrTrustDomain) {
			t.Errorf("trust domain %q: %v", trustDomain, err)
		}
	}
	if a, b := newTrustDomain(), newTrustDomain(); a == b || len(a) != 36+len(".consul") || CheckTrustDomain(a) != nil {
		t.Errorf("random trust domains are %s and %s", a, b)
	}
}

// TestKeyIsNeverShown: every way in which a program shows a value.
func TestKeyIsNeverShown(t *testing.T) {
	ca := newTestCA(t, DevCAConfig{})
	identity := issue(t, ca, web)
	key := identity.certificate.PrivateKey.(*ecdsa.PrivateKey)
	raw, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	type holder struct{ Identity *Identity }
	for _, value := range []any{identity, *identity, holder{identity}} {
		fmt.Fprintf(&shown, "%v %+v %s\n", value, value, value)
	}
	fmt.Fprintf(&shown, "%#v\n", identity)
	slog.New(slog.NewTextHandler(&shown, nil)).Info("identity", "identity", identity)
	slog.New(slog.NewJSONHandler(&shown, nil)).Info("identity", "identity", identity, "in", holder{identity})

	text := shown.String()
	for _, secret := range []string{key.D.String(), fmt.Sprintf("%x", raw), fmt.Sprint(raw), "PRIVATE KEY"} { //nolint:staticcheck // D is what a careless %v shows.
		if strings.Contains(text, secret) {
			t.Errorf("the key is shown: %s", text)
		}
	}
	if !strings.Contains(text, webID) {
		t.Errorf("the name is not shown: %s", text)
	}
	if pem, err := identity.KeyPEM(); err != nil || !bytes.Contains(pem, []byte("PRIVATE KEY")) {
		t.Errorf("KeyPEM: %v", err)
	}
}

func write(t *testing.T, path string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lay writes the identity into a directory as somebody else would.
func lay(t *testing.T, dir string, i *Identity) {
	t.Helper()
	key, err := i.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, certificateName), i.ChainPEM(), 0o644)
	write(t, filepath.Join(dir, keyName), key, 0o600)
	write(t, filepath.Join(dir, rootsName), i.RootsPEM(), 0o644)
}

func TestDirectoryLoads(t *testing.T) {
	ca, dir := newTestCA(t, DevCAConfig{}), t.TempDir()
	if err := ca.Rotate(); err != nil {
		t.Fatal(err)
	}
	want := issue(t, ca, web)
	lay(t, dir, want)
	got, err := Directory{Path: dir}.Load(web)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.ChainPEM()) != string(want.ChainPEM()) || string(got.RootsPEM()) != string(want.RootsPEM()) {
		t.Error("the chain or the roots are not those of the files")
	}
	client := lived(nil, got).ClientConfig("api", []string{apiID}, Parameters{})
	if clientErr, serverErr, _ := meet(t, client, lived(nil, issue(t, ca, api)).ServerConfig(Parameters{})); clientErr != nil || serverErr != nil {
		t.Errorf("client: %v; server: %v", clientErr, serverErr)
	}
}

func TestDirectoryUnderOtherNames(t *testing.T) {
	ca, dir := newTestCA(t, DevCAConfig{}), t.TempDir()
	lay(t, dir, issue(t, ca, web))
	d := Directory{Path: dir, Certificate: "tls.crt", Key: "tls.key", Roots: "ca.crt"}
	for from, to := range map[string]string{certificateName: d.Certificate, keyName: d.Key, rootsName: d.Roots} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Load(web); err != nil {
		t.Error(err)
	}
}

// TestDirectoryErrors: each names the file, what is wrong, and what to do.
func TestDirectoryErrors(t *testing.T) {
	now := time.Now()
	ca, other := newTestCA(t, DevCAConfig{}), newTestCA(t, DevCAConfig{})
	in := func(dir, name string) string { return filepath.Join(dir, name) }
	tests := []struct {
		name  string
		at    time.Time
		spoil func(t *testing.T, dir string)
		want  error
		file  string
		says  string
	}{
		{"no certificate", now, func(t *testing.T, dir string) { remove(t, in(dir, certificateName)) }, fs.ErrNotExist, certificateName, "leaf first"},
		{"no key", now, func(t *testing.T, dir string) { remove(t, in(dir, keyName)) }, fs.ErrNotExist, keyName, "private key"},
		{"no roots", now, func(t *testing.T, dir string) { remove(t, in(dir, rootsName)) }, fs.ErrNotExist, rootsName, "every root"},
		{"not PEM", now, func(t *testing.T, dir string) { write(t, in(dir, certificateName), []byte("x"), 0o600) }, ErrBadPEM, certificateName, "leaf first"},
		{"broken DER", now, func(t *testing.T, dir string) {
			write(t, in(dir, rootsName), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600)
		}, ErrBadPEM, rootsName, "certificate 1"},
		{"a key that is none", now, func(t *testing.T, dir string) {
			write(t, in(dir, keyName), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600)
		}, ErrBadPEM, keyName, "PRIVATE KEY"},
		{"a key for all", now, func(t *testing.T, dir string) { chmod(t, in(dir, keyName), 0o644) }, ErrExposed, keyName, "chmod 600"},
		{"another's key", now, func(t *testing.T, dir string) {
			key, _ := issue(t, ca, web).KeyPEM()
			write(t, in(dir, keyName), key, 0o600)
		}, ErrKeyMismatch, keyName, "together"},
		{"another service's leaf", now, func(t *testing.T, dir string) { lay(t, dir, issue(t, ca, api)) }, ErrWrongName, certificateName, webID},
		{"a leaf without a name", now, func(t *testing.T, dir string) { lay(t, dir, forge(t, ca, template(0))) }, ErrWrongName, certificateName, "0 URIs"},
		{"a root that did not sign", now, func(t *testing.T, dir string) {
			write(t, in(dir, rootsName), issue(t, other, web).RootsPEM(), 0o600)
		}, ErrNotTrusted, certificateName, rootsName},
		{"expired", now.Add(2 * time.Hour), nil, ErrExpired, certificateName, "renew it"},
		{"not valid yet", now.Add(-2 * time.Hour), nil, ErrNotYetValid, certificateName, "clock"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			lay(t, dir, issue(t, ca, web))
			if test.spoil != nil {
				test.spoil(t, dir)
			}
			identity, err := Directory{Path: dir, Clock: fixed(test.at)}.Load(web)
			if !errors.Is(err, test.want) || identity != nil {
				t.Fatalf("got %v, %v; want %v", identity, err, test.want)
			}
			for _, part := range []string{filepath.Join(dir, test.file), test.says} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

func TestDirectoryTrustDomain(t *testing.T) {
	ca, dir := newTestCA(t, DevCAConfig{}), t.TempDir()
	lay(t, dir, issue(t, ca, web))
	if got, err := (Directory{Path: dir}).TrustDomain(); got != testTrustDomain || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	lay(t, dir, forge(t, ca, template(0)))
	if _, err := (Directory{Path: dir}).TrustDomain(); !errors.Is(err, ErrWrongName) || !strings.Contains(err.Error(), certificateName) {
		t.Errorf("a leaf without a name: %v", err)
	}
	remove(t, filepath.Join(dir, certificateName))
	if _, err := (Directory{Path: dir}).TrustDomain(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no leaf: %v", err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryFollowsItsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := newTestCA(t, DevCAConfig{LeafTTL: time.Hour}), t.TempDir()
		f, stop := follow(t, Directory{Path: dir}, web)
		defer stop()
		if n, troubles := f.counts(); n != 0 || troubles != 1 || !errors.Is(f.trouble(), fs.ErrNotExist) {
			t.Fatalf("an empty directory: %d identities, %d troubles: %v", n, troubles, f.trouble())
		}
		pass(10 * pollEvery)
		synctest.Wait()
		if _, troubles := f.counts(); troubles != 1 {
			t.Fatalf("the same trouble was told %d times", troubles)
		}

		lay(t, dir, issue(t, ca, web))
		pass(pollEvery)
		synctest.Wait()
		if n, _ := f.counts(); n != 1 {
			t.Fatalf("%d identities after the files came", n)
		}
		first := f.last()
		pass(10 * pollEvery)
		synctest.Wait()
		if n, _ := f.counts(); n != 1 {
			t.Fatalf("%d identities although no file changed", n)
		}

		// A renewal, seen halfway: the key is still the old one's.
		renewed := issue(t, ca, web)
		write(t, filepath.Join(dir, certificateName), renewed.ChainPEM(), 0o644)
		pass(pollEvery)
		synctest.Wait()
		if !errors.Is(f.trouble(), ErrKeyMismatch) || f.last() != first {
			t.Fatalf("halfway: %v", f.trouble())
		}
		lay(t, dir, renewed)
		pass(pollEvery)
		synctest.Wait()
		if n, _ := f.counts(); n != 2 || !f.last().Leaf().Equal(renewed.Leaf()) {
			t.Fatalf("%d identities after the renewal", n)
		}

		// Nobody renews it any more.
		pass(2 * time.Hour)
		synctest.Wait()
		if n, _ := f.counts(); n != 2 || !errors.Is(f.trouble(), ErrExpired) {
			t.Fatalf("%d identities; trouble %v", n, f.trouble())
		}
	})
}

func TestLiveKeepsTheLastGood(t *testing.T) {
	ca := newTestCA(t, DevCAConfig{})
	live := NewLive(nil)
	none, changed := live.Changed()
	if none != nil || !errors.Is(live.Trouble(), ErrNone) {
		t.Fatalf("at first: %v, %v", none, live.Trouble())
	}
	identity := issue(t, ca, web)
	live.Take(identity, nil)
	<-changed
	if live.Current() != identity || live.Trouble() != nil {
		t.Fatalf("with one: %v, %v", live.Current(), live.Trouble())
	}
	_, changed = live.Changed()
	live.Take(nil, ErrExpired)
	<-changed
	if live.Current() != identity || !errors.Is(live.Trouble(), ErrExpired) {
		t.Errorf("with trouble: %v, %v", live.Current(), live.Trouble())
	}
}

package identity

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func open(t *testing.T, dir string, config DevCAConfig) *DevCA {
	t.Helper()
	ca, err := OpenDevCA(dir, config)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestOpenMakesAndLoads(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nested", "ca")
	first := open(t, dir, DevCAConfig{TrustDomain: testTrustDomain, LeafTTL: 5 * time.Minute})
	if err := first.Rotate(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{".": 0o700, stateName: 0o600, rootsName: 0o600, lockName: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %s is %04o; want %04o", name, got, want)
		}
	}
	second := open(t, dir, DevCAConfig{})
	if second.TrustDomain() != testTrustDomain || second.LeafTTL() != 5*time.Minute {
		t.Errorf("loaded %s, %s", second.TrustDomain(), second.LeafTTL())
	}
	if a, b := first.CARoots().String(), second.CARoots().String(); a != b {
		t.Errorf("roots differ:\n%s\n%s", a, b)
	}
	client := lived(nil, issue(t, second, web)).ClientConfig("api", []string{apiID}, Parameters{})
	if clientErr, serverErr, _ := meet(t, client, lived(nil, issue(t, first, api)).ServerConfig(Parameters{})); clientErr != nil || serverErr != nil {
		t.Errorf("client: %v; server: %v", clientErr, serverErr)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 {
		t.Errorf("the directory holds %v", left)
	}
}

const openEnv = "ISTHMUS_TEST_OPEN_DEV_CA"

// TestOpenAtOnce: processes that start together come to one CA.
func TestOpenAtOnce(t *testing.T) {
	if dir := os.Getenv(openEnv); dir != "" {
		_, _ = os.Stdout.WriteString("domain " + open(t, dir, DevCAConfig{}).TrustDomain() + "\n")
		return
	}
	dir := filepath.Join(t.TempDir(), "ca")
	domains := make([]string, 4)
	var group sync.WaitGroup
	for i := range domains {
		group.Go(func() {
			command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOpenAtOnce$")
			command.Env = append(os.Environ(), openEnv+"="+dir)
			out, err := command.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
				return
			}
			_, rest, _ := strings.Cut(string(out), "domain ")
			domains[i], _, _ = strings.Cut(rest, "\n")
		})
	}
	group.Wait()
	for _, domain := range domains {
		if domain == "" || domain != domains[0] {
			t.Fatalf("they came to different CAs: %q", domains)
		}
	}
}

// TestRotateOnTopOfOthers: no process's rotation undoes another's.
func TestRotateOnTopOfOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	cas := []*DevCA{open(t, dir, DevCAConfig{}), open(t, dir, DevCAConfig{}), open(t, dir, DevCAConfig{})}
	var group sync.WaitGroup
	for _, ca := range cas {
		group.Go(func() {
			if err := ca.Rotate(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := len(open(t, dir, DevCAConfig{}).CARoots().GetRoots()); got != 4 {
		t.Errorf("%d roots after three rotations; want 4", got)
	}
}

func TestFollowHearsOfOtherProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "ca")
		mine, others := open(t, dir, DevCAConfig{}), open(t, dir, DevCAConfig{})
		f, stop := follow(t, mine, web)
		defer stop()

		if err := others.Rotate(); err != nil {
			t.Fatal(err)
		}
		pass(pollEvery)
		synctest.Wait()
		if n, _ := f.counts(); n != 2 || len(f.last().roots) != 2 {
			t.Fatalf("%d identities, the last with %d roots", n, len(f.last().roots))
		}

		// The directory goes away and comes back: the identity stays.
		away := dir + ".away"
		if err := os.Rename(dir, away); err != nil {
			t.Fatal(err)
		}
		pass(10 * pollEvery)
		synctest.Wait()
		if n, troubles := f.counts(); n != 2 || troubles != 1 || !errors.Is(f.trouble(), os.ErrNotExist) {
			t.Fatalf("%d identities, %d troubles: %v", n, troubles, f.trouble())
		}
		if err := os.Rename(away, dir); err != nil {
			t.Fatal(err)
		}
		pass(pollEvery)
		synctest.Wait()
		if n, troubles := f.counts(); n != 3 || troubles != 1 {
			t.Fatalf("%d identities, %d troubles after it came back", n, troubles)
		}

		// Its own rotation needs no second look.
		if err := mine.Rotate(); err != nil {
			t.Fatal(err)
		}
		pass(5 * pollEvery)
		synctest.Wait()
		if n, _ := f.counts(); n != 4 {
			t.Errorf("%d identities after an own rotation; want 4", n)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	made := func(t *testing.T) string {
		dir := filepath.Join(t.TempDir(), "ca")
		open(t, dir, DevCAConfig{TrustDomain: testTrustDomain})
		return dir
	}
	edit := func(t *testing.T, from, to string) string {
		dir := made(t)
		path := filepath.Join(dir, stateName)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), from) {
			t.Fatalf("%s has no %q", path, from)
		}
		write(t, path, []byte(strings.Replace(string(text), from, to, 1)), 0o600)
		return dir
	}
	tests := []struct {
		name   string
		dir    func(*testing.T) string
		config DevCAConfig
		want   error
		says   string
	}{
		{"another trust domain", made, DevCAConfig{TrustDomain: "other.consul"}, ErrMismatch, testTrustDomain},
		{"another life of leaves", made, DevCAConfig{LeafTTL: time.Minute}, ErrMismatch, "1h0m0s"},
		{"a trust domain that is none", func(t *testing.T) string { return filepath.Join(t.TempDir(), "ca") }, DevCAConfig{TrustDomain: "No"}, ErrTrustDomain, "No"},
		{"a directory for all", func(t *testing.T) string {
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			return dir
		}, DevCAConfig{}, ErrExposed, "0700"},
		{"a key for all", func(t *testing.T) string {
			dir := made(t)
			if err := os.Chmod(filepath.Join(dir, stateName), 0o640); err != nil {
				t.Fatal(err)
			}
			return dir
		}, DevCAConfig{}, ErrExposed, "chmod 600"},
		{"not JSON", func(t *testing.T) string { return edit(t, "{", "") }, DevCAConfig{}, ErrBadPEM, stateName},
		{"no root", func(t *testing.T) string { return edit(t, "BEGIN CERTIFICATE", "BEGIN NOTHING") }, DevCAConfig{}, ErrBadPEM, "CERTIFICATE"},
		{"no key", func(t *testing.T) string { return edit(t, "BEGIN PRIVATE KEY", "BEGIN NOTHING") }, DevCAConfig{}, ErrBadPEM, "PRIVATE KEY"},
		{"a bad life", func(t *testing.T) string { return edit(t, `"1h0m0s"`, `"-1h"`) }, DevCAConfig{}, ErrBadPEM, "leaf_ttl"},
		{"no authority is active", func(t *testing.T) string {
			return edit(t, `"key":`, `"until": "2030-01-01T00:00:00Z", "key":`)
		}, DevCAConfig{}, ErrBadPEM, "active"},
		{"another's key", func(t *testing.T) string {
			other, err := issue(t, newTestCA(t, DevCAConfig{}), web).KeyPEM()
			if err != nil {
				t.Fatal(err)
			}
			quoted := strings.ReplaceAll(string(other), "\n", `\n`)
			return edit(t, `"key": "`, `"key": "`+quoted)
		}, DevCAConfig{}, ErrKeyMismatch, "authorities[0]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := OpenDevCA(test.dir(t), test.config)
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v; want %v", err, test.want)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%q does not say %q", err, test.says)
			}
		})
	}
}

// TestOpenLeavesCertificatesAlone: a directory that holds any of somebody else's
// PEM files is not made a dev CA, whose roots would take the place of theirs.
func TestOpenLeavesCertificatesAlone(t *testing.T) {
	for _, name := range []string{certificateName, keyName, rootsName} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			chmod(t, dir, 0o700)
			write(t, filepath.Join(dir, name), []byte("theirs"), 0o600)
			_, err := OpenDevCA(dir, DevCAConfig{})
			if !errors.Is(err, ErrNotDevCA) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || string(text) != "theirs" {
				t.Errorf("the file holds %q, %v", text, err)
			}
			if _, err := os.Stat(filepath.Join(dir, stateName)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a dev CA was made: %v", err)
			}
		})
	}
}

func TestOpenTellsTheKindOfDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	source, ca, err := Open(dir, DevCAConfig{})
	if err != nil || source != Source(ca) {
		t.Fatalf("an empty directory: %v, %v", source, err)
	}
	write(t, filepath.Join(dir, certificateName), nil, 0o600)
	if _, _, err := Open(dir, DevCAConfig{}); err == nil || !strings.Contains(err.Error(), stateName) {
		t.Errorf("both kinds in one directory: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, stateName)); err != nil {
		t.Fatal(err)
	}
	source, ca, err = Open(dir, DevCAConfig{})
	if d, ok := source.(Directory); !ok || d.Path != dir || ca != nil || err != nil {
		t.Errorf("PEM files: %v, %v, %v", source, ca, err)
	}
}

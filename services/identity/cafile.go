package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// The files of a dev CA's directory.
const (
	// stateName holds everything, keys too.
	stateName = "devca.json"
	// rootsName holds the trusted roots, for curl and openssl.
	rootsName = "roots.pem"
	lockName  = "lock"
)

// caFile is where a dev CA is kept.
type caFile struct {
	dir string

	mu sync.Mutex
	// seen is the file that was last taken in.
	seen os.FileInfo
}

func (f *caFile) path(name string) string { return filepath.Join(f.dir, name) }

// savedCA is a dev CA as it stands in its file.
type savedCA struct {
	TrustDomain string        `json:"trust_domain"`
	LeafTTL     string        `json:"leaf_ttl"`
	Authorities []savedSigner `json:"authorities"`
}

type savedSigner struct {
	Root  string    `json:"root"`
	Cross string    `json:"cross,omitempty"`
	Key   string    `json:"key"`
	Until time.Time `json:"until,omitzero"`
}

// OpenDevCA opens the dev CA in the directory, or makes one there. The directory
// is made for its owner alone (0700) if it is not there; the files in it are
// (0600). Several processes may open it at once and share it: what one rotates
// the others take in within a second. What the config asks for must be what is
// there.
//
// Possible errors: [ErrExposed], [ErrBadPEM], [ErrMismatch], [ErrTrustDomain],
// [ErrNotDevCA], each with the file and what to do.
func OpenDevCA(dir string, config DevCAConfig) (*DevCA, error) {
	file := &caFile{dir: dir}
	ca := newDevCA(config, file)
	if err := file.prepare(); err != nil {
		return nil, err
	}
	unlock, err := lock(file.path(lockName))
	if err != nil {
		return nil, err
	}
	defer unlock()
	state, err := file.load()
	if errors.Is(err, fs.ErrNotExist) {
		if err := file.vacant(); err != nil {
			return nil, err
		}
		if state, err = newCAState(config, ca.clock.Now()); err == nil {
			err = file.store(state, ca.clock.Now())
		}
	}
	if err != nil {
		return nil, err
	}
	if err := state.matches(config); err != nil {
		return nil, fmt.Errorf("%s: %w", file.path(stateName), err)
	}
	ca.state = state
	return ca, nil
}

// matches checks that the CA is what is asked for.
func (s *caState) matches(config DevCAConfig) error {
	if config.TrustDomain != "" && config.TrustDomain != s.trustDomain {
		return fmt.Errorf("%w: its trust domain is %s, not %s; ask for that, or use another directory", ErrMismatch, s.trustDomain, config.TrustDomain)
	}
	if config.LeafTTL != 0 && config.LeafTTL != s.leafTTL {
		return fmt.Errorf("%w: its leaves live for %s, not %s; ask for that, or use another directory", ErrMismatch, s.leafTTL, config.LeafTTL)
	}
	return nil
}

// prepare makes the directory, and refuses one into which others may write.
func (f *caFile) prepare() error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("directory of the dev CA: %w", err)
	}
	info, err := os.Stat(f.dir)
	if err != nil {
		return fmt.Errorf("directory of the dev CA: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s: %w: its mode is %04o; use a directory of its own with mode 0700", f.dir, ErrExposed, info.Mode().Perm())
	}
	return nil
}

// vacant refuses to make a CA beside somebody else's certificates: its roots
// would take the place of theirs.
func (f *caFile) vacant() error {
	for _, name := range []string{certificateName, keyName, rootsName} {
		if _, err := os.Lstat(f.path(name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w: it holds %s, and no %s; a directory of certificates has %s, %s and %s, a dev CA starts in an empty one",
				f.dir, ErrNotDevCA, name, stateName, certificateName, keyName, rootsName)
		}
	}
	return nil
}

// load reads the CA. The error is fs.ErrNotExist's when there is none.
func (f *caFile) load() (*caState, error) {
	path := f.path(stateName)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: %w: its mode is %04o; run chmod 600 on it", path, ErrExposed, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	state, err := decodeCA(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove the directory to start a new dev CA", path, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = info
	return state, nil
}

// reload returns the CA if its file is another than the one taken in last, else
// nil.
func (f *caFile) reload() (*caState, error) {
	info, err := os.Stat(f.path(stateName))
	if err != nil {
		return nil, fmt.Errorf("dev CA: %w; what was read of it stays", err)
	}
	f.mu.Lock()
	same := f.seen != nil && os.SameFile(info, f.seen) && info.ModTime().Equal(f.seen.ModTime())
	f.mu.Unlock()
	if same {
		return nil, nil
	}
	return f.load()
}

// rotate replaces the root in the file, on top of what other processes did.
func (f *caFile) rotate(now time.Time) (*caState, error) {
	unlock, err := lock(f.path(lockName))
	if err != nil {
		return nil, err
	}
	defer unlock()
	state, err := f.load()
	if err != nil {
		return nil, fmt.Errorf("rotate: %w", err)
	}
	next, err := state.rotated(now)
	if err != nil {
		return nil, fmt.Errorf("%s: rotate: %w", f.path(stateName), err)
	}
	return next, f.store(next, now)
}

// store writes the CA, whole or not at all.
func (f *caFile) store(state *caState, now time.Time) error {
	text, err := encodeCA(state)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path(stateName), err)
	}
	var roots bytes.Buffer
	for _, root := range state.trusted(now) {
		roots.Write(certificatePEM(root.Raw))
	}
	// The CA first: roots without one are taken for somebody else's.
	if err := writeWhole(f.path(stateName), text); err != nil {
		return err
	}
	if err := writeWhole(f.path(rootsName), roots.Bytes()); err != nil {
		return err
	}
	info, err := os.Stat(f.path(stateName))
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = info
	return nil
}

// writeWhole replaces a file, readable for its owner alone from the start.
func writeWhole(path string, text []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // 0600, says os.
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

func encodeCA(state *caState) ([]byte, error) {
	saved := savedCA{TrustDomain: state.trustDomain, LeafTTL: state.leafTTL.String()}
	for _, a := range state.authorities {
		key, err := x509.MarshalPKCS8PrivateKey(a.key)
		if err != nil {
			return nil, err
		}
		s := savedSigner{
			Root:  string(certificatePEM(a.root.Raw)),
			Key:   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
			Until: a.until,
		}
		if a.cross != nil {
			s.Cross = string(certificatePEM(a.cross.Raw))
		}
		saved.Authorities = append(saved.Authorities, s)
	}
	return json.MarshalIndent(saved, "", "  ")
}

func decodeCA(text []byte) (*caState, error) {
	var saved savedCA
	if err := json.Unmarshal(text, &saved); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadPEM, err)
	}
	if err := CheckTrustDomain(saved.TrustDomain); err != nil {
		return nil, err
	}
	ttl, err := time.ParseDuration(saved.LeafTTL)
	if err != nil || ttl <= 0 {
		return nil, fmt.Errorf("%w: leaf_ttl is %q", ErrBadPEM, saved.LeafTTL)
	}
	state := &caState{trustDomain: saved.TrustDomain, leafTTL: ttl}
	for i, s := range saved.Authorities {
		a, err := s.decode(i > 0)
		if err != nil {
			return nil, fmt.Errorf("authorities[%d]: %w", i, err)
		}
		state.authorities = append(state.authorities, a)
	}
	last := len(state.authorities) - 1
	if last < 0 || slices.IndexFunc(state.authorities, func(a *authority) bool { return a.until.IsZero() }) != last {
		return nil, fmt.Errorf("%w: the last of its authorities, and only that, is active", ErrBadPEM)
	}
	return state, nil
}

func (s savedSigner) decode(crossed bool) (*authority, error) {
	root, err := parseCertificates([]byte(s.Root))
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	key, err := parseKey([]byte(s.Key))
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok || !signer.PublicKey.Equal(root[0].PublicKey) {
		return nil, fmt.Errorf("key: %w", ErrKeyMismatch)
	}
	a := &authority{root: root[0], key: signer, until: s.Until}
	if s.Cross == "" && crossed {
		return nil, fmt.Errorf("cross: %w: it is missing", ErrBadPEM)
	}
	if s.Cross != "" {
		cross, err := parseCertificates([]byte(s.Cross))
		if err != nil {
			return nil, fmt.Errorf("cross: %w", err)
		}
		a.cross = cross[0]
	}
	return a, nil
}

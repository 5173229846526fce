package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Directory is a source of PEM files that somebody else writes and renews. They
// are read again when one of them changes; while they do not fit together (a
// renewal writes one after the other) or are bad, the last good identity stays.
type Directory struct {
	// Path of the directory.
	Path string
	// Certificate is the name of the file with the leaf and its intermediates.
	// Empty: cert.pem.
	Certificate string
	// Key is the name of the file with the private key. Empty: key.pem.
	Key string
	// Roots is the name of the file with the roots. Empty: roots.pem.
	Roots string
	// Clock is nil for the machine's own time.
	Clock Clock
}

// The names of the files of a [Directory] where nothing else is said.
const (
	certificateName = "cert.pem"
	keyName         = "key.pem"
)

func (d Directory) file(name, otherwise string) string {
	if name == "" {
		name = otherwise
	}
	return filepath.Join(d.Path, name)
}

func (d Directory) certificatePath() string { return d.file(d.Certificate, certificateName) }
func (d Directory) keyPath() string         { return d.file(d.Key, keyName) }
func (d Directory) rootsPath() string       { return d.file(d.Roots, rootsName) }

// Load reads the files and checks them: that they are PEM, that the key is the
// leaf's and is not readable for all, that the leaf names the service in the
// datacenter and nothing else, is within its time, and that a root vouches for
// it. Each error names the file and what to do.
//
// Possible errors: [ErrBadPEM], [ErrExposed], [ErrKeyMismatch], [ErrWrongName],
// [ErrExpired], [ErrNotYetValid], [ErrNotTrusted], and those of reading.
func (d Directory) Load(name Name) (*Identity, error) {
	chain, err := d.certificates(d.certificatePath(), "leaf first, then its intermediates")
	if err != nil {
		return nil, err
	}
	roots, err := d.certificates(d.rootsPath(), "every root that is to be trusted")
	if err != nil {
		return nil, err
	}
	certificate, err := d.pair(chain)
	if err != nil {
		return nil, err
	}
	if err := checkName(chain[0], name); err != nil {
		return nil, fmt.Errorf("%s: %w", d.certificatePath(), err)
	}
	identity := newIdentity(certificate, roots)
	err = identity.check(clockOr(d.Clock).Now())
	switch {
	case errors.Is(err, ErrNotTrusted):
		return nil, fmt.Errorf("%s: %w; put the root that signed it into %s, and make it for clients and servers", d.certificatePath(), err, d.rootsPath())
	case errors.Is(err, ErrNotYetValid):
		return nil, fmt.Errorf("%s: %w; check this machine's clock", d.certificatePath(), err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w; renew it", d.certificatePath(), err)
	}
	return identity, nil
}

// TrustDomain is that of the leaf in the directory. Possible errors: [ErrBadPEM],
// [ErrWrongName], and those of reading.
func (d Directory) TrustDomain() (string, error) {
	chain, err := d.certificates(d.certificatePath(), "leaf first, then its intermediates")
	if err != nil {
		return "", err
	}
	if len(chain[0].URIs) == 1 {
		if id, ok := isthmusv1.ParseSPIFFEID(chain[0].URIs[0]); ok {
			return id.TrustDomain, nil
		}
	}
	return "", fmt.Errorf("%s: %w: it names %s; it needs the SPIFFE ID of a service alone", d.certificatePath(), ErrWrongName, names(chain[0]))
}

func (d Directory) certificates(path, what string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; it holds, as PEM, %s", err, what)
	}
	certificates, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; it holds, as PEM, %s", path, err, what)
	}
	return certificates, nil
}

// pair reads the key and joins it with the chain.
func (d Directory) pair(chain []*x509.Certificate) (tls.Certificate, error) {
	path := d.keyPath()
	info, err := os.Stat(path)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%w; it holds the private key as PEM", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return tls.Certificate{}, fmt.Errorf("%s: %w: its mode is %04o; run chmod 600 on it", path, ErrExposed, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%w; it holds the private key as PEM", err)
	}
	key, err := parseKey(text)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", path, err)
	}
	if !belongs(key, chain[0]) {
		return tls.Certificate{}, fmt.Errorf("%s: %w of %s; write both files anew, together", path, ErrKeyMismatch, d.certificatePath())
	}
	return joined(chain, key), nil
}

// checkName checks that the leaf names the service, and nothing else, in
// whatever trust domain.
func checkName(leaf *x509.Certificate, name Name) error {
	if len(leaf.URIs) != 1 {
		return fmt.Errorf("%w: it has %d URIs (%s); it needs one, the SPIFFE ID of %s", ErrWrongName, len(leaf.URIs), names(leaf), name)
	}
	id, ok := isthmusv1.ParseSPIFFEID(leaf.URIs[0])
	if !ok {
		return fmt.Errorf("%w: %s is not the SPIFFE ID of a service", ErrWrongName, leaf.URIs[0])
	}
	if want := name.In(id.TrustDomain); !strings.EqualFold(leaf.URIs[0].String(), want) {
		return fmt.Errorf("%w: it names %s; it should name %s", ErrWrongName, leaf.URIs[0], want)
	}
	return nil
}

// stamp is what shows that files changed: which they are, their size and time.
// A link that is led elsewhere, as an orchestrator does it, shows too.
type stamp [3]struct {
	size     int64
	modified time.Time
	info     os.FileInfo
}

func (d Directory) stamp() (s stamp) {
	for i, path := range []string{d.certificatePath(), d.keyPath(), d.rootsPath()} {
		if info, err := os.Stat(path); err == nil {
			s[i].size, s[i].modified, s[i].info = info.Size(), info.ModTime(), info
		}
	}
	return s
}

func (s stamp) equal(other stamp) bool {
	for i, a := range s {
		b := other[i]
		if a.size != b.size || !a.modified.Equal(b.modified) || (a.info == nil) != (b.info == nil) {
			return false
		}
		if a.info != nil && !os.SameFile(a.info, b.info) {
			return false
		}
	}
	return true
}

// Follow is [Source.Follow]: the files as they are, again when they changed
// (within a second), and trouble when the leaf expires without having been
// renewed.
func (d Directory) Follow(ctx context.Context, name Name, handle func(*Identity, error)) error {
	clock := clockOr(d.Clock)
	told := ""
	for {
		read := d.stamp()
		identity, err := d.Load(name)
		switch {
		case err == nil:
			told = ""
			handle(identity, nil)
		case err.Error() != told:
			told = err.Error()
			handle(nil, err)
		}
		if err := d.changed(ctx, clock, read, identity); err != nil {
			return err
		}
	}
}

// changed returns when the files may be worth another reading: they are not
// those of the stamp any more, the leaf has expired, or there was trouble and
// some time has passed. It returns ctx's cause if that ends.
func (d Directory) changed(ctx context.Context, clock Clock, read stamp, identity *Identity) error {
	var expiry <-chan time.Time
	if identity != nil {
		expiry = clock.After(identity.NotAfter().Sub(clock.Now()) + time.Nanosecond)
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-expiry:
			return nil
		case <-clock.After(pollEvery):
			if identity == nil || !d.stamp().equal(read) {
				return nil
			}
		}
	}
}

package consul

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/services/identity"
)

// leafFollower puts together what the queries for one service's leaf and for the
// roots bring, in whichever order. Only one goroutine uses it.
type leafFollower struct {
	name   identity.Name
	now    func() time.Time
	handle func(*identity.Identity, error)

	// leaf and roots as they came last; empty before that.
	leaf  leaf
	roots []byte
	// leafErr and rootsErr are why there are no newer ones.
	leafErr, rootsErr error

	// current is what was handed over last, made of used.
	current *identity.Identity
	used    identity.Material
	// untrusted is since when the newest leaf and the newest roots do not fit
	// together; zero: they do.
	untrusted time.Time
	// told is the trouble that was told last; empty: none.
	told string
}

// rootsWithin is how soon the roots must come that vouch for a new leaf, or the
// leaf that new roots vouch for: the two come by queries of their own.
const rootsWithin = 5 * time.Second

// leafIs takes what the query for the leaf has brought.
func (f *leafFollower) leafIs(news leafNews) {
	switch {
	case news.err != nil:
		f.leafErr = news.err
	case errors.Is(f.leafErr, ErrDenied) && news.leaf == f.leaf && !news.waited:
		// An agent hands to anybody what it has: a new leaf, or a wait for one, shows that
		// the token may get it.
	default:
		f.leafErr, f.leaf = nil, news.leaf
	}
	f.settle()
}

// rootsAre takes what the query for the roots has brought.
func (f *leafFollower) rootsAre(news rootNews) {
	if f.rootsErr = news.err; news.err == nil {
		var text bytes.Buffer
		for _, r := range news.roots.GetRoots() {
			text.WriteString(strings.TrimSpace(r.GetRootCertPem()) + "\n")
		}
		f.roots = text.Bytes()
	}
	f.settle()
}

// settle hands over what is new, or tells what is wrong.
func (f *leafFollower) settle() {
	made, err := f.make()
	if made != nil {
		f.current, f.told = made, ""
		f.handle(made, nil)
	}
	if !errors.Is(err, identity.ErrNotTrusted) {
		f.untrusted = time.Time{}
	} else if f.untrusted.IsZero() {
		f.untrusted = f.now()
	}
	// Trouble with a query outlives what the other one brings.
	if failed := cmp.Or(f.leafErr, f.rootsErr); failed != nil {
		if expired := f.outlived(); expired != nil {
			failed = fmt.Errorf("%w; no newer one: %w", expired, failed)
		}
		f.tell(failed)
		return
	}
	if !f.untrusted.IsZero() && f.now().Before(f.untrusted.Add(rootsWithin)) {
		return
	}
	f.tell(err)
}

// make returns a new identity if there is one.
func (f *leafFollower) make() (*identity.Identity, error) {
	if f.leaf.CertPEM == "" || f.roots == nil {
		return nil, nil
	}
	m := identity.Material{Chain: []byte(f.leaf.CertPEM), Key: []byte(f.leaf.PrivateKeyPEM), Roots: f.roots}
	if f.current != nil && bytes.Equal(m.Chain, f.used.Chain) && bytes.Equal(m.Roots, f.used.Roots) {
		return nil, f.outlived()
	}
	made, err := identity.New(f.name, m, f.now())
	if err != nil {
		return nil, err
	}
	f.used = m
	return made, nil
}

// outlived is the trouble of a leaf that has expired, if it has.
func (f *leafFollower) outlived() error {
	if f.current == nil || !f.now().After(f.current.NotAfter()) {
		return nil
	}
	return fmt.Errorf("%w: at %s", identity.ErrExpired, f.current.NotAfter().UTC().Format(time.RFC3339))
}

// wakeAt is when there is something to tell even if nothing comes; zero: never.
func (f *leafFollower) wakeAt() time.Time {
	var at time.Time
	if f.current != nil && f.outlived() == nil {
		at = f.current.NotAfter()
	}
	if due := f.untrusted.Add(rootsWithin); !f.untrusted.IsZero() && due.After(f.now()) && (at.IsZero() || due.Before(at)) {
		at = due
	}
	return at
}

// tell passes trouble on, once for as long as it lasts, and its end. It is the
// same trouble while it is of the same kinds: the words of a lost connection
// differ from one attempt to the next.
func (f *leafFollower) tell(err error) {
	kind := troubleKind(err)
	switch {
	case kind == f.told:
	case err == nil:
		f.told = ""
		if f.current != nil {
			f.handle(f.current, nil)
		}
	default:
		f.told = kind
		f.handle(nil, err)
	}
}

// troubleKind names the kind of trouble; empty: none.
func troubleKind(err error) string {
	if err == nil {
		return ""
	}
	var kinds strings.Builder
	for _, kind := range []error{ErrDenied, ErrUnavailable, ErrTooMany, ErrNotFound, ErrConnectDisabled, identity.ErrExpired} {
		if errors.Is(err, kind) {
			kinds.WriteString(kind.Error() + ";")
		}
	}
	if kinds.Len() == 0 {
		return err.Error()
	}
	return kinds.String()
}
